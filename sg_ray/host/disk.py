"""Trouble with a disk: nobody's configuration is at fault, and the way on is to mend it."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sg_ray.errors import SgRayError

_TROUBLES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
_IN_WORDS = re.compile(rf"errno ({'|'.join(map(str, _TROUBLES))})\b", re.IGNORECASE)
"""As Python and Arrow write it; an error from another process is known by its text alone."""


def disk_trouble(error: BaseException | str) -> str | None:
    """Return what is wrong with a disk by an error, or the text of one; None if it is not that."""
    if isinstance(error, OSError) and error.errno in _TROUBLES:
        return os.strerror(error.errno)
    found = _IN_WORDS.search(str(error))
    return os.strerror(int(found[1])) if found else None


@contextmanager
def explaining_disk_trouble(folder: Path) -> Iterator[None]:
    """Turn a full or broken disk, met while working on ``folder``, into an error that helps.

    Raises SgRayError with the folder and what to do. Other errors pass.
    """
    try:
        yield
    except SgRayError:
        raise
    except Exception as error:
        trouble = disk_trouble(error)
        if trouble is None:
            raise
        raise SgRayError(
            f"{folder}: {trouble[0].lower()}{trouble[1:]} ({_free(folder)} are free there). Free "
            "space or mend the disk. All that was recorded is kept: the same command again, or "
            "--resume, goes on from there."
        ) from error


def _free(folder: Path) -> str:
    return f"{shutil.disk_usage(folder).free / 2**20:,.1f} MB"
