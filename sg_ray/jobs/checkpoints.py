"""Checkpoints on disk: which one an interrupted trial can go on from, and what to keep."""

import logging
import shutil
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any

from sg_ray.errors import InputError, SgRayError, TrainingError
from sg_ray.files import link_or_copy_durably, rename_durably, write_json
from sg_ray.jobs.job import TrainJob
from sg_ray.jobs.positions import saved_positions
from sg_ray.reading import read_object
from sg_ray.records.record import read_history
from sg_ray.sweep_folder import (
    BEST,
    ENVIRONMENT,
    LAST,
    METADATA,
    METRICS,
    VALID_PREDICTIONS,
    SweepFolder,
)
from sg_ray.training.checkpoint import check_resumable, read_place

_LOGGER = logging.getLogger(__name__)
_KEPT = (METADATA, METRICS)
_KEPT_OF_MODEL = (BEST, VALID_PREDICTIONS)


def newest_checkpoint(sweep_folder: SweepFolder, job: TrainJob) -> Path | None:
    """Return what takes the job furthest, over all attempts; None if nothing whole is there.

    What the trial's process saved, at the end of an epoch or within, or the folder of a group.
    Warns of one that is passed over: it is damaged, or other code trained it.
    """
    left = _left_of(sweep_folder, job)
    left.reverse()  # of those that are equally far, the younger
    for checkpoint in sorted(left, key=_progress, reverse=True):
        try:
            _check_code(checkpoint, job)
            read_history(checkpoint)
            read_environment(checkpoint)
        except (SgRayError, OSError) as error:  # who still writes there may just delete it
            _LOGGER.warning("%s is passed over: %s", checkpoint, error)
            continue
        return checkpoint
    return None


def _left_of(sweep_folder: SweepFolder, job: TrainJob) -> list[Path]:
    """Return all that a job has left to go on from, the older before the younger."""
    found: list[Path] = []
    for attempt in sweep_folder.attempts:
        for folder in sorted(attempt.glob(f"{job.base_name}*"), key=_age):
            found += saved_positions(folder)
    group = sweep_folder.group(job.spec.trial_key)
    return [*found, group] if (group / LAST).exists() else found


def _progress(checkpoint: Path) -> tuple[float, float]:
    """Return how far a training has come; what cannot be read comes first, to be told of."""
    return read_place(checkpoint) or (inf, inf)


def drop_group_of_other_code(sweep_folder: SweepFolder, job: TrainJob) -> None:
    """Delete what workers that had other code left of the job: a group goes on where it lies."""
    folder = sweep_folder.group(job.spec.trial_key)
    if not (folder / LAST).exists():
        return
    try:
        _check_code(folder, job)
    except InputError as error:
        _LOGGER.warning("%s is deleted: %s", folder, error)
        shutil.rmtree(folder)
    except TrainingError:
        return  # the group itself tells of it


def _check_code(checkpoint: Path, job: TrainJob) -> None:
    """Raise InputError for what other code trained, and as ``check_resumable``."""
    found = check_resumable(checkpoint).get("trained_with")
    if found != job.spec.trained_with:
        raise InputError("another version of the code trained it, and the trial begins anew")


def keep_position(checkpoint: Path) -> bool:
    """Return whether a stop has left a position here; delete the checkpoint if it has not.

    A trial that had not begun to train has a folder, too.
    """
    has_position = (checkpoint / LAST).exists()
    if not has_position:
        shutil.rmtree(checkpoint, ignore_errors=True)
    return has_position


def is_finished(checkpoint: Path) -> bool:
    """Return True if the trial had come to its own end."""
    return (checkpoint / METADATA).exists()


def write_environment(checkpoint: Path, environment: Mapping[str, Any]) -> None:
    """Note in a checkpoint what the trial runs on."""
    write_json(checkpoint / ENVIRONMENT, environment)


def read_environment(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint's trial ran on. Raises InputError if the note is damaged."""
    remedy = "Restore it from a copy, or delete the checkpoint."
    return read_object(checkpoint / ENVIRONMENT, what="note of an environment", remedy=remedy)


def keep_results(
    sweep_folder: SweepFolder, trial_key: str, checkpoint: Path, *, model: bool
) -> Path:
    """Keep what outlives a finished trial of its last checkpoint; return the trial's folder.

    Its files are linked, not written once more. ``model`` says whether that includes its best model
    with its predictions.
    """
    folder = sweep_folder.trial(trial_key)
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in (*_KEPT, *_KEPT_OF_MODEL) if model else _KEPT:
        if (checkpoint / name).exists():
            link_or_copy_durably(checkpoint / name, temporary / name)
    shutil.rmtree(folder, ignore_errors=True)
    rename_durably(temporary, folder)  # the checkpoints are deleted once there is a record
    return folder


def lacks_results(checkpoint: Path | None, *, num_epochs: int, is_whole: bool) -> str | None:
    """Return what a trial of ``num_epochs`` should have left and is not seen here; None if nothing.

    ``is_whole`` says that it came to its own end.
    """
    if checkpoint is None:
        return "its checkpoint cannot be seen from here. Is output_dir on a disk that all share?"
    seen = len(read_history(checkpoint))
    if seen < max(1, num_epochs):
        return f"{checkpoint} holds {seen} of {num_epochs} epochs. Is it on a disk that all share?"
    if is_whole and not is_finished(checkpoint):
        return f"{checkpoint / METADATA} is missing. Is it on a disk that all share?"
    return None


def drop_checkpoints(sweep_folder: SweepFolder, trial_key: str, base_name: str) -> None:
    """Delete checkpoints and positions of a trial that is on record, and its workers' folder.

    ``base_name`` is the job's: those of attempts that were lost go too.
    """
    for attempt in sweep_folder.attempts:
        for folder in attempt.glob(f"{base_name}*"):
            shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(sweep_folder.group(trial_key), ignore_errors=True)


def drop_attempts(sweep_folder: SweepFolder) -> None:
    """Delete what Tune left of a sweep that has every trial on record."""
    shutil.rmtree(sweep_folder.tune, ignore_errors=True)


def _age(job_folder: Path) -> tuple[int, str]:
    """Return what orders a job's folders by age: those made after a loss are the younger ones."""
    return (len(job_folder.name), job_folder.name)
