"""What is on record only because a process or machine was lost is tried again by a later start."""

from collections.abc import Iterator

from sg_ray.errors import InfrastructureError
from sg_ray.records.events import TrialTakenBack
from sg_ray.records.journal import Journal
from sg_ray.records.learning_rates import read_failed_range_tests
from sg_ray.records.record import RunRecord, read_records
from sg_ray.records.winner_scores import set_test_aside
from sg_ray.sweep_folder import SweepFolder


def take_back(folder: SweepFolder, journal: Journal) -> list[str]:
    """Take back what is on record only because processes or machines were lost.

    Such trials, those that failed because they build on one, and range tests are tried again, once
    a start. Their records go to ``set_aside/lost/``, after the journal has said so. Return notes
    for the user.
    """
    records = read_records(folder)
    lost = _lost(records)
    for key in reversed(lost):  # a branch after what builds on it: a kill in between loses neither
        failure = records[key].failure
        reason = failure.message if failure else None
        journal.append(TrialTakenBack(trial_key=key, reason=reason))
        _set_record_aside(folder, key)
    kept = {record.model for key, record in records.items() if key not in lost}
    _forget_range_tests(folder, models_begun=kept)
    if not lost:
        return []
    set_test_aside(folder)
    first = next(failure for key in lost if (failure := records[key].failure) is not None)
    num = f"{len(lost)} trial{'s' if len(lost) > 1 else ''}"
    return [f"{num} had failed for want of a working machine ({first.message}): tried again"]


def _lost(records: dict[str, RunRecord]) -> dict[str, None]:
    """Return the keys of the trials to take back, in the order of their records."""
    lost: dict[str, None] = {}
    for key, record in records.items():  # oldest first: a branch before what builds on it
        failure = record.failure
        if failure is None:
            continue
        if failure.is_infrastructure or any(branch in lost for branch in record.branches.values()):
            lost[key] = None
    return lost


def _set_record_aside(folder: SweepFolder, trial_key: str) -> None:
    aside = folder.new_lost_record(trial_key)
    aside.parent.mkdir(parents=True, exist_ok=True)
    folder.record(trial_key).rename(aside)


def _forget_range_tests(folder: SweepFolder, *, models_begun: set[str]) -> None:
    """Have range tests that were lost run again, where no trial was trained by their default."""
    for model in _lost_range_tests(folder):
        if model not in models_begun:
            folder.range_test(model).unlink()
            folder.search(model).unlink(missing_ok=True)


def _lost_range_tests(folder: SweepFolder) -> Iterator[str]:
    for model, reason in read_failed_range_tests(folder).items():
        if reason.startswith(f"{InfrastructureError.__name__}: "):
            yield model
