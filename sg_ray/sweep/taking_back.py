"""What is on record only because a process or machine was lost is tried again by a later start."""

from collections.abc import Iterator
from pathlib import Path

from sg_ray.errors import InfrastructureError
from sg_ray.records.journal import Journal
from sg_ray.records.learning_rates import learning_rate_path, read_failed_range_tests
from sg_ray.records.record import RunRecord, read_records, record_path
from sg_ray.records.test_scores import set_test_aside
from sg_ray.sweep.plan.search import journal_path


def take_back(sweep_dir: Path, journal: Journal) -> list[str]:
    """Take back what is on record only because processes or machines were lost.

    Such trials, those that failed because they build on one, and range tests are tried again, once
    a start. Their records go to ``set_aside/lost/``, after the journal has said so. Return notes
    for the user.
    """
    records = read_records(sweep_dir)
    lost = _lost(records)
    for key in reversed(lost):  # a branch after what builds on it: a kill in between loses neither
        failure = records[key].failure
        journal.append("trial_taken_back", key, reason=failure and failure.message)
        _set_record_aside(sweep_dir, key)
    kept = {record.family for key, record in records.items() if key not in lost}
    _forget_range_tests(sweep_dir, families_begun=kept)
    if not lost:
        return []
    set_test_aside(sweep_dir)
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


def _set_record_aside(sweep_dir: Path, trial_key: str) -> None:
    aside = sweep_dir / "set_aside" / "lost"
    aside.mkdir(parents=True, exist_ok=True)
    number = len(list(aside.glob(f"{trial_key}-*.json"))) + 1
    record_path(sweep_dir, trial_key).rename(aside / f"{trial_key}-{number:03d}.json")


def _forget_range_tests(sweep_dir: Path, *, families_begun: set[str]) -> None:
    """Have range tests that were lost run again, where no trial was trained by their default."""
    for family in _lost_range_tests(sweep_dir):
        if family not in families_begun:
            learning_rate_path(sweep_dir, family).unlink()
            journal_path(sweep_dir, family).unlink(missing_ok=True)


def _lost_range_tests(sweep_dir: Path) -> Iterator[str]:
    for family, reason in read_failed_range_tests(sweep_dir).items():
        if reason.startswith(f"{InfrastructureError.__name__}: "):
            yield family
