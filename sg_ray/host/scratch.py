"""Folders in the system's temporary folder that go with the process which made them.

Each is locked by its process (flock), and the kernel frees the lock however that ends: whoever can
lock one knows that its process is gone, also from another container or machine with that folder,
where its number would say nothing.
"""

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_PREFIX = "sg-ray-"
_NAME = re.compile(rf"{_PREFIX}[a-z0-9_-]+\.\d+\.[a-z0-9_]{{8}}")
"""Nothing else is deleted: a folder ``sg-ray-results`` is somebody's own."""

_UNSEEN_MAX_AGE_S = 7 * 86_400
"""Where nothing can be locked, a folder that nobody has touched for longer is nobody's."""


class ScratchFolder:
    """A folder that is this process's own until ``remove`` deletes it, or the process ends.

    What a killed process leaves is deleted by the next one of this user: see ``remove_scratch``.
    """

    def __init__(self, purpose: str) -> None:
        self._lock: int | None = None
        while self._lock is None:  # who looked before it was locked has deleted it
            self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{purpose}.{os.getpid()}."))
            self._lock = _held(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Delete it; again is no error."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_scratch() -> None:
    """Delete the scratch folders of this user, for whatever purpose, whose process is gone."""
    for folder in _scratch():
        with _if_dead(folder) as is_dead:
            if is_dead:
                shutil.rmtree(folder, ignore_errors=True)


def dead_scratch() -> list[Path]:
    """Return the folders that ``remove_scratch`` would delete."""
    return [folder for folder in _scratch() if _is_dead(folder)]


def _scratch() -> list[Path]:
    """Return the scratch folders of this user, of the living and the dead."""
    return sorted(
        folder
        for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")
        if _NAME.fullmatch(folder.name) and _is_own_folder(folder)
    )


def _is_own_folder(path: Path) -> bool:
    with suppress(OSError):  # it has gone meanwhile
        return path.is_dir() and not path.is_symlink() and path.lstat().st_uid == os.geteuid()
    return False


def _held(folder: Path) -> int | None:
    """Return a descriptor that holds the folder's lock; None if somebody has deleted it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with suppress(OSError):  # a file system without locks of folders
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    if os.fstat(descriptor).st_nlink and folder.exists():
        return descriptor
    os.close(descriptor)
    return None


def _is_dead(folder: Path) -> bool:
    with _if_dead(folder) as is_dead:
        return is_dead


@contextmanager
def _if_dead(folder: Path) -> Iterator[bool]:
    """Yield whether nobody holds a folder, and keep it from being held meanwhile."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        yield _takes_lock(descriptor, folder)
    finally:
        os.close(descriptor)


def _takes_lock(descriptor: int, folder: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks of folders: its owner cannot be seen
        return time.time() - _touched_at_s(folder) > _UNSEEN_MAX_AGE_S
    return True


def _touched_at_s(folder: Path) -> float:
    """Return when something in a folder was last changed, as seconds since 1970."""
    times = [folder.lstat().st_mtime]
    for path in folder.rglob("*"):
        with suppress(OSError):
            times.append(path.lstat().st_mtime)
    return max(times)
