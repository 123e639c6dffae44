"""Lines about work in progress: a bar for a person, one line for a file."""

import sys

import pytest

from sg_ray.live.plain_lines import show_progress


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    for done in (0, 1, 4):
        show_progress("graphs", done, 4)
    return capsys.readouterr().out


def test_a_terminal_gets_a_bar_in_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    empty, quarter, full = shown(capsys).split("\r")[1:]
    assert empty == f"graphs     [{'.' * 30}] 0/4"
    assert quarter == f"graphs     [{'#' * 7}{'.' * 23}] 1/4"
    assert full == f"graphs     [{'#' * 30}] 4/4\n"


def test_a_file_gets_one_line_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys) == "graphs: 4 functions\n"
