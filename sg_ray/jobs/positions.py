"""Where the process of a trial puts its position, so that it outlives that machine.

It lies beside Tune's checkpoints of the same job and start, and needs neither Ray nor the driver. A
process that goes on after its job was handed out again writes into a folder of its own.
"""

import os
import shutil
from pathlib import Path

from sg_ray.errors import InfrastructureError
from sg_ray.files import copy_durably, rename_durably

POSITIONS = "position_*"
_TEMPORARY = ".position.tmp"


class PositionShelf:
    """The place of one job of one start of a sweep."""

    def __init__(self, job_folder: Path) -> None:
        self._folder = job_folder
        self._folder.mkdir(parents=True, exist_ok=True)

    def put(self, source: Path) -> None:
        """Copy a training's folder to the shelf, whole or not at all, in place of the last one.

        A file that has not changed since is not copied again; on one file system none is. Files
        must be replaced, never written into. Raises InfrastructureError if the shelf was taken
        away: the trial is on record by now.
        """
        before = positions(self._folder)
        temporary = self._folder / _TEMPORARY
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir()
        except FileNotFoundError:
            raise InfrastructureError(f"{self._folder} is gone: nobody waits for it") from None
        try:
            for file in _files(source):
                kept = before[-1] / file.name if before else file
                _link(kept if _is_same(kept, file) else file, temporary / file.name)
            number = 1 + max((int(p.name.rpartition("_")[2]) for p in before), default=0)
            rename_durably(temporary, self._folder / POSITIONS.replace("*", f"{number:06d}"))
        except OSError:  # a full disk, above all: it wants no half of a position
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        for older in before:
            shutil.rmtree(older, ignore_errors=True)


def positions(job_folder: Path) -> list[Path]:
    """Return the positions on a job's shelf, in the order in which they were put there."""
    return sorted(job_folder.glob(POSITIONS))


def restore(source: Path, folder: Path) -> None:
    """Copy a position, or a checkpoint, into a training's folder.

    A process that was cut off may put a newer position in its place meanwhile: then that one.
    """
    while True:
        try:
            shutil.copytree(source, folder, dirs_exist_ok=True)
            return
        except (FileNotFoundError, shutil.Error):
            newer = positions(source.parent)
            if source.exists() or not newer:
                raise
            source = newer[-1]


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder; those with a dot are being written, or were by the dead."""
    return [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]


def _is_same(one: Path, other: Path) -> bool:
    try:
        a, b = one.stat(), other.stat()
    except FileNotFoundError:
        return False
    return (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns)


def _link(source: Path, target: Path) -> None:
    """Link a file, or copy it where that cannot be: from another file system, above all."""
    try:
        os.link(source, target)
    except OSError:
        copy_durably(source, target)
