"""A folder's lock within one process; that it holds between processes: tests/faults."""

import fcntl
from pathlib import Path

import pytest

from sg_ray.errors import InputError
from sg_ray.host.lock import is_held, locked
from sg_ray.sweep_folder import SweepFolder


def test_a_mere_look_refuses_no_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look ends while the start waits."""
    folder = SweepFolder(tmp_path)
    folder.lock.touch()
    with folder.lock.open("rb") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        monkeypatch.setattr("time.sleep", lambda seconds: fcntl.flock(look, fcntl.LOCK_UN))
        with locked(folder):
            assert is_held(folder)
    assert not is_held(folder)


def test_a_holder_refuses_another(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    with locked(folder), pytest.raises(InputError, match="in use"), locked(folder):
        pass
