"""Trials on record, found again: the record, its experiment, and the weights it built on."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sg_ray.config import Experiment, load_experiment
from sg_ray.errors import InputError
from sg_ray.records.folder_format import require_own_format
from sg_ray.records.record import RunRecord, read_record
from sg_ray.records.weights import why_missing
from sg_ray.setting_types import with_home
from sg_ray.sweep_folder import BEST, RECORDS, SETTINGS, TRAINING_SETTINGS, SweepFolder
from sg_ray.trial.spec import BranchSource

_EXPERIMENTS = (SETTINGS, TRAINING_SETTINGS)
"""What the experiment is called in the folder of a sweep and of a training."""

_OVERRIDABLE = ("data", "cache_dir", "branches_from", "resources", "max_failures", "plugins")
_NUM_LISTED = 5


@dataclass(frozen=True)
class RecordedTrial:
    """A trial on record, the experiment that it belongs to, and the folder that holds both."""

    record: RunRecord
    experiment: Experiment
    folder: SweepFolder


def find_trial(where: str, overrides: Sequence[str] = ()) -> RecordedTrial:
    """Return the trial that ``where`` names, its experiment read with ``key=value`` overrides.

    ``where`` is a record's file, a folder that holds one record (of ``sg-ray train``), or
    ``FOLDER:KEY`` with the first characters of a trial's key. Raises InputError if it names no
    trial or several, if a file cannot be read, or for an override that the record decides.
    """
    _check_overrides(overrides)
    path = _record_file(where)
    folder = path.absolute().parent.parent
    require_own_format(SweepFolder(folder))
    return RecordedTrial(
        read_record(path), _experiment_of(folder, path, overrides), SweepFolder(folder)
    )


def find_branches(trial: RecordedTrial) -> dict[str, BranchSource]:
    """Return the trained branches that the trial was built on, by family.

    They are looked for beside the trial's own record, then anywhere below ``branches_from``.
    Raises InputError for one that is not found, or whose weights are gone.
    """
    return {
        family: _find_branch(trial, family, key) for family, key in trial.record.branches.items()
    }


def _find_branch(trial: RecordedTrial, family: str, key: str) -> BranchSource:
    given = trial.experiment.branches_from
    own = trial.folder.path
    places = [own] if given is None else [own, with_home(given)]
    path = next(_records_with_key(places, key), None)
    if path is None:
        looked = " and ".join(str(place) for place in places)
        raise InputError(
            f"{trial.folder.record(trial.record.trial_key)}: builds on {family} {key}, whose "
            f"record is not in {looked}. Name the folder that holds it: branches_from=DIR"
        )
    record = read_record(path)
    if record.weights != trial.record.branch_weights.get(family, record.weights):
        raise InputError(
            f"{path}: {family} {key} has been trained again, to other weights, since the trial "
            "was built on it, which cannot be repeated. Bring back the branch as it was, or train "
            "the trial anew."
        )
    folder = _weights_dir(path.absolute().parent.parent, key)
    # A branch that failed has no weights: what was built on it failed too, and fails again.
    if record.status == "completed" and not (folder / BEST).exists():
        reason = why_missing(SweepFolder(path.absolute().parent.parent), key)
        raise InputError(
            f"{reason or f'{folder / BEST} is missing.'} They are the weights of the {family} "
            "branch. Restore them, or name another copy of the branch: branches_from=DIR"
        )
    return BranchSource(
        trial_key=key,
        configuration=record.configuration,
        config_hash=record.config_hash,
        folder=folder,
        weights=record.weights,
    )


def _records_with_key(places: Sequence[Path], key: str) -> Iterator[Path]:
    for place in places:
        own = SweepFolder(place).record(key)
        if own.exists():
            yield own
        yield from sorted(place.rglob(str(own.relative_to(place))))


def _weights_dir(folder: Path, key: str) -> Path:
    """Where a trial's files lie: ``trials/KEY`` in a sweep, else at the top of its folder."""
    in_sweep = SweepFolder(folder).trial(key)
    return in_sweep if in_sweep.exists() else folder


def _record_file(where: str) -> Path:
    path = Path(where)
    if path.is_file():
        return path
    if path.is_dir():
        return _only_record(path, "")
    folder, _, prefix = where.rpartition(":")
    if folder and Path(folder).is_dir():
        return _only_record(Path(folder), prefix)
    raise InputError(
        f"{where}: no such record. Name its file (outputs/NAME/{RECORDS}/KEY.json), a sweep's "
        "folder and the first characters of a trial's key (outputs/NAME:KEY), or a folder of "
        "sg-ray train."
    )


def _only_record(folder: Path, prefix: str) -> Path:
    found = sorted(SweepFolder(folder).records.glob(f"{glob.escape(prefix)}*.json"))
    if len(found) == 1:
        return found[0]
    if not found:
        wanted = f"record of a trial {prefix}..." if prefix else f"{RECORDS}/*.json"
        raise InputError(
            f"{folder}: holds no {wanted}. `sg-ray report {folder}` shows what it holds."
        )
    listed = ", ".join(path.stem for path in found[:_NUM_LISTED])
    more = ", ..." if len(found) > _NUM_LISTED else ""
    raise InputError(
        f"{folder}: holds {len(found)} such records ({listed}{more}). Name one of them by the "
        f"first characters of its key: {folder}:{found[0].stem[:8]}"
    )


def _experiment_of(folder: Path, record: Path, overrides: Sequence[str]) -> Experiment:
    for name in _EXPERIMENTS:
        if (folder / name).exists():
            return load_experiment(folder / name, overrides, is_passed_on=True)
    raise InputError(
        f"{record}: {folder} holds neither {' nor '.join(_EXPERIMENTS)}, which say what the trial "
        f"was trained on. Restore it, or put the record back into {RECORDS}/ of its folder."
    )


def _check_overrides(overrides: Sequence[str]) -> None:
    for override in overrides:
        first, *rest = override.partition("=")[0].split(".")
        is_resource = first == "models" and rest[1:2] == ["resources"]
        if first not in _OVERRIDABLE and not is_resource:
            raise InputError(
                f"{override}: is no part of where a trial runs; the record decides the rest. To be "
                f"set here: {', '.join(_OVERRIDABLE)}, models.MODEL.resources."
            )
