"""How far work is that is not a sweep: bars for a person, lines for a file."""

import io
import re
from collections.abc import Callable

import pytest

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
