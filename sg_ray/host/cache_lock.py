"""Who uses a cache: many may at once, and whoever deletes from it waits for none of them.

An flock, as that of a sweep's folder (see ``lock``): the kernel frees it however its process ends.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Literal

LOCK_NAME = ".in_use"


@contextlib.contextmanager
def using_cache(cache_dir: Path) -> Iterator[None]:
    """Hold a cache, together with all others that use it; create it if it is not there.

    Waits while somebody deletes from it, which takes seconds. A cache that can be neither created
    nor read is for those to refuse who need something in it.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            cache_dir.mkdir(parents=True, exist_ok=True)
        lock = _open(cache_dir)
        if lock is not None:
            fcntl.flock(held.enter_context(lock), fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def alone_in_cache(cache_dir: Path) -> Iterator[bool]:
    """Hold a cache against all others; yield False if somebody uses it now."""
    with contextlib.ExitStack() as held:
        lock = _open(cache_dir)
        try:
            if lock is not None:
                fcntl.flock(held.enter_context(lock), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _open(cache_dir: Path) -> FileIO | None:
    """Open the lock, for reading alone in a cache of somebody else's; None if there is none."""
    modes: tuple[Literal["ab+", "rb"], ...] = ("ab+", "rb")
    for mode in modes:
        with contextlib.suppress(OSError):
            return (cache_dir / LOCK_NAME).open(mode, buffering=0)
    return None
