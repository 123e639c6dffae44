"""One driver a sweep: the folder's lock, which ends with the process that holds it.

It is an flock, which the kernel frees however its process ends, so no stale lock can be left. NFS
carries it to all machines that mount the folder, from Linux 2.6.12 on, unless it is mounted with
``nolock`` or ``local_lock``; the lock of a machine that died goes when the server notices, after
its lease (NFS 4: 90 s by default) or at that machine's next start (NFS 3).
"""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from io import FileIO

from sg_ray.errors import InputError
from sg_ray.sweep_folder import SweepFolder

_NUM_TRIES = 20
_BETWEEN_TRIES_S = 0.01


@contextlib.contextmanager
def locked(folder: SweepFolder) -> Iterator[None]:
    """Create the sweep's folder and hold it.

    Raises InputError, with what to do, if another process holds it or it cannot be written.
    """
    with contextlib.ExitStack() as held:
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(folder.lock.open("ab+", buffering=0))
            _take(lock, folder)
            _sign(lock)
        except OSError as error:
            raise InputError(
                f"{folder}: cannot be written or locked ({error.strerror}). Mend that, or "
                "choose another output_dir=..."
            ) from error
        yield


def _take(lock: FileIO, folder: SweepFolder) -> None:
    for _ in range(_NUM_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_BETWEEN_TRIES_S)  # it may be a mere look: see ``is_held``
    lock.seek(0)
    holder = lock.read().decode(errors="replace") or "unknown"
    raise InputError(
        f"{folder}: in use by another process ({holder}). "
        "Wait for it to end, or choose another name=..."
    )


def _sign(lock: FileIO) -> None:
    """Note who holds the lock, for the message to those who come too late."""
    since = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    lock.truncate(0)
    lock.write(f"pid {os.getpid()} on {socket.gethostname()} since {since}".encode())


def is_held(folder: SweepFolder) -> bool:
    """Whether a process holds the folder right now, this one included. Writes nothing."""
    try:
        with folder.lock.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
