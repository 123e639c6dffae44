"""Where the process of a trial trains, and puts what others may go on from.

Both lie in the sweep's own folder, in one of this job and start, and need neither Ray nor the
driver. A checkpoint is written once: the training replaces its files by renaming, never writes into
them, so that links to them are copies that cost nothing. A process that goes on after its job was
handed out again writes into a folder of its own.
"""

import shutil
from pathlib import Path

from sg_ray.errors import InfrastructureError
from sg_ray.files import link_or_copy_durably, rename_durably
from sg_ray.sweep_folder import LAST
from sg_ray.training.saving import Saving

_TRAINING = "training"
_CHECKPOINT, _POSITION = "checkpoint", "position"
_NUM_CHECKPOINTS = 2
"""Of whole epochs: the last, and the one before in case that one is damaged."""
_TEMPORARY = ".position.tmp"


class PositionShelf:
    """The place of one job of one start of a sweep."""

    def __init__(self, job_folder: Path) -> None:
        self._folder = job_folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._number = max(map(_number, saved_positions(job_folder)), default=0)

    def new_training_folder(self) -> Path:
        """Make the folder in which the job trains, beside what it saves: one file system."""
        folder = self._folder / _TRAINING
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def check(self) -> None:
        """Raise InfrastructureError if the shelf was taken away: the trial is on record by now."""
        if not self._folder.exists():
            raise InfrastructureError(f"{self._folder} is gone: nobody waits for it")

    def saving(self, folder: Path) -> Saving:
        """Return how the training in ``folder`` saves its positions here."""
        return Saving(check=self.check, put_away=lambda: self.put(folder))

    def put(self, source: Path) -> Path:
        """Put a position in the middle of an epoch in place of the last one; return where it is."""
        return self._put(source, _POSITION)

    def put_epoch(self, source: Path) -> Path:
        """Put what a whole epoch has led to; return where it is.

        The one of the epoch before stays, too. No position does: the epoch has overtaken it.
        """
        return self._put(source, _CHECKPOINT)

    def remove_training(self) -> None:
        """Delete the folder in which the job trained; what was put stays."""
        shutil.rmtree(self._folder / _TRAINING, ignore_errors=True)

    def _put(self, source: Path, kind: str) -> Path:
        """Put a training's folder on the shelf, whole or not at all.

        Where the file system knows no links, a file that has not changed is not copied again.
        Raises InfrastructureError as ``check``.
        """
        before = saved_positions(self._folder)
        temporary = self._folder / _TEMPORARY
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir()
        except FileNotFoundError:
            self.check()
            raise
        try:
            for file in _files(source):
                kept = before[-1] / file.name if before else file
                link_or_copy_durably(kept if _is_same(kept, file) else file, temporary / file.name)
            self._number += 1
            target = self._folder / f"{kind}_{self._number:06d}"
            rename_durably(temporary, target)
        except OSError:  # a full disk, above all: it wants no half of a position
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        for older in _overtaken(before, kind):
            shutil.rmtree(older, ignore_errors=True)
        return target


def saved_positions(job_folder: Path) -> list[Path]:
    """Return all that lies on a job's shelf, in the order in which it was put there."""
    found = (path for kind in (_CHECKPOINT, _POSITION) for path in job_folder.glob(f"{kind}_*"))
    return sorted(found, key=_number)


def restore(source: Path, folder: Path) -> None:
    """Put the files of a position into a training's folder: links, where it is possible.

    A process that was cut off may put a newer position in its place meanwhile: then that one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            # The commit comes last: until then the folder is as it was, or empty.
            for file in sorted(_files(source), key=lambda file: file.name == LAST):
                _replace(file, folder / file.name)
            return
        except FileNotFoundError:
            newer = saved_positions(source.parent)
            if source.exists() or not newer:
                raise
            source = newer[-1]


def _replace(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.restored")
    temporary.unlink(missing_ok=True)
    link_or_copy_durably(source, temporary)
    temporary.replace(target)


def _overtaken(before: list[Path], kind: str) -> list[Path]:
    """Return what goes, of what lay there in this order, once one of this kind was put."""
    checkpoints = [path for path in before if path.name.startswith(_CHECKPOINT)]
    positions = [path for path in before if path.name.startswith(_POSITION)]
    if kind == _POSITION:
        return positions
    return [*positions, *checkpoints[: 1 - _NUM_CHECKPOINTS]]


def _number(path: Path) -> int:
    number = path.name.rpartition("_")[2]
    return int(number) if number.isdecimal() else 0


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder; those with a dot are being written, or were by the dead."""
    return [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]


def _is_same(one: Path, other: Path) -> bool:
    try:
        a, b = one.stat(), other.stat()
    except FileNotFoundError:
        return False
    return (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns)
