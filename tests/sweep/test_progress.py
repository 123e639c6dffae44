"""How far work is that is not a sweep: bars for a person, lines for a file."""

import io
import re
from collections.abc import Callable

import pytest

from sg_ray.live.emphasis import write_with_emphasis
from sg_ray.live.stream import SafeStream
from sg_ray.live.work_view import WorkView
from sg_ray.training.loop import EpochResult


class Terminal(io.StringIO):
    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True


def epoch(number: int) -> EpochResult:
    return EpochResult(epoch=number, metrics={"val_f1": 0.5}, is_best=number == 1, stop_reason=None)


def work(view: WorkView) -> None:
    with view:
        for done in (0, 1, 4):
            view.show_features("graphs", done, 4)
        view.expect_steps(3)
        for number in (1, 2):
            for _ in range(3):
                view.show_step()
            view.show_epoch(epoch(number))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[[io.StringIO], str]:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")

    def show(stream: io.StringIO) -> str:
        work(WorkView(stream))
        return stream.getvalue()

    return show


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_a_terminal_gets_bars_and_above_them_the_epochs(shown, encoding) -> None:
    text = shown(Terminal(encoding))
    assert text.isascii()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert re.search(r"graphs +-+ +4/4", plain)
    assert re.search(r"epoch 1 +-+ +[0-3]/3", plain)
    assert plain.index("epoch 1  val_f1 0.5000  *") < plain.index("epoch 2  val_f1 0.5000")


def test_a_file_gets_a_line_when_something_is_done(shown) -> None:
    said = "graphs: 4 functions\nepoch 1  val_f1 0.5000  *\nepoch 2  val_f1 0.5000\n"
    assert shown(io.StringIO()) == said


def test_a_terminal_that_cannot_redraw_gets_the_same_lines(shown, monkeypatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert "graphs: 4 functions\nepoch 1  val_f1" in shown(Terminal("utf-8"))


TABLE = "rank  family  val_f1\n----  ------  ------\n1     gnn *   0.7\n10    fusion  0.6"


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_at_the_end_the_winner_is_bold_and_what_is_undecided_yellow(monkeypatch, encoding) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal(encoding)
    write_with_emphasis(SafeStream(stream), f"{TABLE}\n\nWhich is better is undecided \u2026")
    text = stream.getvalue()
    assert "\x1b[1m1     gnn *   0.7\x1b[0m\n10    fusion" in text
    assert "\x1b[33mundecided\x1b[0m \\u2026\n" in text


def test_a_file_gets_the_end_as_it_is() -> None:
    stream = io.StringIO()
    write_with_emphasis(SafeStream(stream), f"{TABLE}\nundecided")
    assert stream.getvalue() == f"{TABLE}\nundecided\n"
