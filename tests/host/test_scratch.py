"""Scratch folders are their process's while it lives, and nobody's afterwards."""

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sg_ray.host import scratch
from sg_ray.host.scratch import ScratchFolder, dead_scratch, remove_scratch

ROOT = Path(__file__).parents[2]
HOLDS = """
import time
from sg_ray.host.scratch import ScratchFolder
print(ScratchFolder("trial").path, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@contextmanager
def another_process() -> Iterator[Path]:
    """Hold a process that holds a folder; it is killed at the end."""
    command = [sys.executable, "-c", HOLDS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Path(process.stdout.readline().strip())
        finally:
            process.kill()


def num_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_c17_it_is_held_for_as_long_as_its_process_lives_however_that_ends() -> None:
    with another_process() as folder:
        (folder / "last.pt").touch()
        remove_scratch()
        assert (folder / "last.pt").exists()
    assert dead_scratch() == [folder]
    remove_scratch()
    assert not folder.exists()


def test_removed_it_is_gone_and_its_descriptor_is_closed(temporary: Path) -> None:
    before = num_open()
    for _ in range(5):
        with ScratchFolder("trial") as own:
            (own.path / "file").touch()
        own.remove()
    assert list(temporary.iterdir()) == []
    assert num_open() == before


def test_nobody_deletes_one_that_is_just_being_made() -> None:
    """Between its making and its lock it looks like one of a dead process."""
    is_over = threading.Event()

    def sweep() -> None:
        while not is_over.is_set():
            remove_scratch()

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        made = [ScratchFolder("trial") for _ in range(300)]
    finally:
        is_over.set()
        sweeper.join()
    assert all(one.path.is_dir() for one in made)
    for one in made:
        one.remove()


def test_those_of_another_user_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with another_process() as folder:
        pass
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    remove_scratch()
    assert folder.is_dir()


def test_a_link_is_followed_nowhere(temporary: Path) -> None:
    (temporary / "mine").mkdir()
    (temporary / "sg-ray-trial.1.abcd_123").symlink_to(temporary / "mine")
    remove_scratch()
    assert (temporary / "mine").is_dir()


def test_where_nothing_can_be_locked_only_what_is_old_is_nobodys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    own = ScratchFolder("trial")
    (own.path / "last.pt").touch()
    remove_scratch()
    assert own.path.is_dir()
    long_ago_s = time.time() - scratch._UNSEEN_MAX_AGE_S - 60
    os.utime(own.path, (long_ago_s, long_ago_s))
    remove_scratch()
    assert own.path.is_dir(), "a file in it is new"
    os.utime(own.path / "last.pt", (long_ago_s, long_ago_s))
    remove_scratch()
    assert not own.path.exists()


def test_folders_that_are_only_called_alike_stay(temporary: Path) -> None:
    """What a user, or `make chaos`, has put beside them is nobody's scratch."""
    for name in ("sg-ray-results", "sg-ray-chaos-ab12cd34", "sg-ray-trial.1", "sg-ray-a.b.c"):
        (temporary / name).mkdir()
    (temporary / "sg-ray-trial.1.abcd1234").mkdir()
    assert [path.name for path in dead_scratch()] == ["sg-ray-trial.1.abcd1234"]
    remove_scratch()
    assert len(list(temporary.iterdir())) == 4
