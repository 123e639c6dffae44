"""Ways of starting Python in which imports would end with a traceback: one line, and no more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "command", [["-m", "sg_ray", "preflight"], [str(ROOT / "experiments" / "sweep.py")]]
)
def test_e06_without_docstrings_there_is_one_line(command: list[str], tmp_path: Path) -> None:
    ended = run(*command, cwd=tmp_path, PYTHONOPTIMIZE="2")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: Python runs without docstrings (PYTHONOPTIMIZE=2")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "command", [["sweep"], ["preflight", str(ROOT / "experiments" / "quick.yaml")]]
)
def test_a_file_that_is_taken_for_a_package_is_named(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "ray.py").touch()
    ended = run("-m", "sg_ray", *command, cwd=tmp_path)
    assert ended.returncode == 1
    assert "'ray' is not a package" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_deleted_folder_is_told_of(tmp_path: Path) -> None:
    script = (
        "import os, runpy; os.rmdir(os.getcwd());"
        "runpy.run_module('sg_ray', run_name='__main__', alter_sys=True)"
    )
    (tmp_path / "gone").mkdir()
    ended = run("-c", script, cwd=tmp_path / "gone")
    assert (ended.returncode, ended.stderr) == (
        2,
        "error: the current folder has been deleted. Change to another.\n",
    )


def test_closed_streams_stay_out_of_the_files(tmp_path: Path) -> None:
    """Without a stand-in the file would be opened as the closed standard output."""
    script = (
        "import sys, os; from sg_ray.host.interpreter import open_closed_streams as o; o();"
        "f = open('f', 'w'); print('text'); sys.stdout.flush(); os.write(1, b'more')"
    )
    quoted = f"'{sys.executable}' -c \"{script}\" >&- <&- 2>&-"
    ended = subprocess.run(
        ["bash", "-c", quoted], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert ended.returncode == 0
    assert (tmp_path / "f").read_text() == ""


def test_an_older_train_that_was_asked_for_is_not_taken(tmp_path: Path) -> None:
    ended = run("-c", "import sg_ray.cluster.groups.group", cwd=tmp_path, RAY_TRAIN_V2_ENABLED="0")
    assert ended.returncode == 0, ended.stderr
