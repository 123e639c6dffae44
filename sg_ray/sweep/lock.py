"""One driver a sweep: the folder's lock, which ends with the process that holds it."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from sg_ray.errors import InputError


@contextlib.contextmanager
def locked(sweep_dir: Path) -> Iterator[None]:
    """Create the sweep's folder and hold it. Raises InputError if that is not possible."""
    try:
        sweep_dir.mkdir(parents=True, exist_ok=True)
        lock = (sweep_dir / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{sweep_dir}: cannot be written ({error.strerror}). Choose another output_dir=..."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InputError(
                f"{sweep_dir}: in use by another process ({lock.read().strip() or 'unknown'}). "
                "Wait for it to end, or choose another name=..."
            ) from None
        lock.truncate(0)
        lock.write(f"pid {os.getpid()}")
        lock.flush()
        yield
