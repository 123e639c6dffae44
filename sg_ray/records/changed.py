"""What is on record was made with something else than there is now: kept, or trained anew?

Days of work are never set aside by a start alone: whoever starts it says what is to be done.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from sg_ray.configuration import Configuration
from sg_ray.errors import InputError
from sg_ray.records.code_versions import CodeVersions
from sg_ray.records.record import RunRecord, foreign_records, read_records, set_aside
from sg_ray.sweep_folder import SweepFolder

OnChange = Literal["stop", "anew", "keep"]
"""``stop``: InputError. ``anew``: what was made with something else is set aside and trained again.
``keep``: it counts, as made by the code that made it."""

CODE = "another version of the code"


@dataclass(frozen=True)
class Change:
    """Records that something else led to than there is now, and what builds on them."""

    folder: SweepFolder
    by_reason: Mapping[str, list[RunRecord]]
    records: list[RunRecord]
    """All that would have to be trained again."""

    @property
    def told(self) -> str:
        """How many they are, what they cost and why they do not count."""
        spent = timedelta(seconds=round(sum(record.train_time_s for record in self.records)))
        return (
            f"{len(self.records)} trials on record ({spent} of training) were made with "
            f"{' and '.join(self.by_reason)}"
        )

    @property
    def is_of_code_alone(self) -> bool:
        """Whether what is measured is the same, so that the records may be trusted."""
        return set(self.by_reason) == {CODE}

    @property
    def ways_on(self) -> str:
        """What can be done about it, as options of a command."""
        anew = f"--anew moves them to {self.folder.set_aside} and trains them again"
        if not self.is_of_code_alone:
            return f"{anew}. To have both, choose another name=..."
        return f"{anew}; --keep-records goes on with them as they are"


Decide = Callable[[Change | None], OnChange]
"""Says what is to be done about a change, and, where there is none, what the user asked for."""


def find_change(
    folder: SweepFolder,
    data_fingerprint: str,
    of_now: Mapping[str, Configuration],
    *,
    trusts_kept: bool = True,
) -> Change | None:
    """Return what is on record that does not count with what there is now; None if all does.

    ``of_now`` are the models' own configurations, with their pretrained files pinned. Unless it
    ``trusts_kept``, an earlier decision to keep records of other code counts no more.
    """
    records = list(read_records(folder).values())
    if not records:
        return None
    kept = CodeVersions.of(folder) if trusts_kept else CodeVersions()
    versions = kept.by_family({record.family for record in records}, records[-1].own_metrics)
    by_reason = foreign_records(
        records, data_fingerprint, versions, of_now, trusts_kept=trusts_kept
    )
    if not by_reason:
        return None
    foreign = [record for found in by_reason.values() for record in found]
    return Change(folder, by_reason, _with_dependents(records, foreign))


def _with_dependents(records: list[RunRecord], foreign: list[RunRecord]) -> list[RunRecord]:
    """Return every record of the models that are concerned, and of those that build on them.

    A search learns from all of a model's trials: it is trained again as a whole.
    """
    models = {record.model for record in foreign}
    keys = {record.trial_key for record in records if record.model in models}
    builders = {record.model for record in records if keys.intersection(record.branches.values())}
    return [record for record in records if record.model in models | builders]


def check_decision(change: Change, on_change: OnChange) -> None:
    """Raise InputError for ``stop``, and for ``keep`` where other things are measured now."""
    if on_change == "stop":
        raise InputError(f"{change.folder}: {change.told}. {change.ways_on}.")
    if on_change == "keep" and not change.is_of_code_alone:
        others = " and ".join(reason for reason in change.by_reason if reason != CODE)
        raise InputError(
            f"--keep-records: {change.told}. With {others} their numbers are not to be compared "
            f"with those of new trials. {change.ways_on}."
        )


def settle(change: Change, on_change: OnChange) -> str:
    """Do what was decided, and return a sentence that says so. Raises as ``check_decision``."""
    check_decision(change, on_change)
    if on_change == "keep":
        return _keep(change)
    _trust_no_more(change)
    target = set_aside(change.folder, {record.model for record in change.records})
    return f"{change.told}: they lie in {target} now, and are trained anew"


def _trust_no_more(change: Change) -> None:
    """Forget what was kept of families of which no record stays: new ones count as what they are.

    Before the records go: after a kill in between, it is asked again.
    """
    going = {record.trial_key for record in change.records}
    records = read_records(change.folder).values()
    staying = {record.family for record in records if record.trial_key not in going}
    versions = CodeVersions.of(change.folder)
    forgotten = {record.family for record in change.records} - staying
    if forgotten & versions.kept.keys():
        versions.without(forgotten).write(change.folder)


def _keep(change: Change) -> str:
    on_record = {record.family: record.code_version for record in change.by_reason[CODE]}
    metrics = change.records[-1].own_metrics
    CodeVersions.of(change.folder).keeping(on_record, metrics).write(change.folder)
    return (
        f"{change.told}, and are kept: new trials count as made by it, too, and their records "
        "note with what they were trained"
    )
