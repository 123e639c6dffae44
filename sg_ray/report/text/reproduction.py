"""A trial's record beside the record of training it again: what is equal, what is not, and why."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sg_ray.records.record import Failure, RunRecord
from sg_ray.report.text.columns import aligned, flat, is_of_machine

_MAX_MESSAGE_CHARS = 200

Metrics = Mapping[str, float | None]


@dataclass(frozen=True)
class Comparison:
    """One metric in the epoch where record and repetition differ most; None is NaN or missing."""

    metric: str
    epoch: int
    recorded: float | None
    now: float | None

    @property
    def difference(self) -> float:
        """Absolute difference; infinite if only one of the two is a number."""
        if self.recorded is None or self.now is None:
            return 0.0 if self.recorded is self.now else math.inf
        return abs(self.recorded - self.now)


@dataclass(frozen=True)
class Reproduction:
    """The record of a trial, and that of training it again."""

    recorded: RunRecord
    now: RunRecord

    @property
    def comparisons(self) -> list[Comparison]:
        """Every recorded metric but times, speeds and memory."""
        largest: dict[str, Comparison] = {}
        for epoch, recorded, now in self._pairs():
            for metric in recorded:
                if metric == "epoch" or is_of_machine(metric):
                    continue
                one = Comparison(metric, epoch, recorded[metric], now.get(metric))
                if metric not in largest or one.difference > largest[metric].difference:
                    largest[metric] = one
        return list(largest.values())

    @property
    def problems(self) -> list[str]:
        """What differs, in sentences; nothing if the trial was reproduced."""
        found = []
        if _outcome(self.recorded) != _outcome(self.now):
            found.append(f"{_outcome(self.recorded)} then, {_outcome(self.now)} now")
        if self.recorded.epochs != self.now.epochs:
            found.append(f"{self.recorded.epochs} epochs then, {self.now.epochs} now")
        if differing := [one for one in self.comparisons if one.difference > 0]:
            worst = max(differing, key=lambda one: one.difference)
            found.append(
                f"{len(differing)} of {len(self.comparisons)} metrics, most {worst.metric} by "
                f"{worst.difference:.3g} in epoch {worst.epoch}"
            )
        return found

    @property
    def is_reproduced(self) -> bool:
        """True if the same epochs gave the same bits, or failed in the same way."""
        return not self.problems

    def _pairs(self) -> Iterator[tuple[int, Metrics, Metrics]]:
        """Yield what is to be equal: the metrics of the best epoch, then of all that both have."""
        now = {_number(epoch): epoch for epoch in self.now.history}
        recorded = {_number(epoch): epoch for epoch in self.recorded.history}
        best = self.recorded.best_epoch
        if best in now:
            yield best, self.recorded.metrics, now[best]
        for number in sorted(recorded.keys() & now.keys()):
            yield number, recorded[number], now[number]


def as_text(reproduction: Reproduction) -> str:
    """Return the metrics as a table, the verdict, and what is different in the surroundings."""
    recorded, now = reproduction.recorded, reproduction.now
    comparisons = reproduction.comparisons
    lines = [_table(comparisons), ""] if comparisons else []
    for when, record in (("then", recorded), ("now", now)):
        if record.failure is not None:
            lines.append(f"failed {when} with {record.failure.kind}: {_message(record.failure)}")
    if reproduction.is_reproduced:
        return "\n".join([*lines, _verdict(reproduction)])
    lines.append(f"differs: {'; '.join(reproduction.problems)}")
    return "\n".join([*lines, *_surroundings(recorded, now)])


def _table(comparisons: Sequence[Comparison]) -> str:
    rows = [("metric", "epoch", "recorded", "now", "difference")]
    for one in comparisons:
        then, now = ("-" if value is None else repr(value) for value in (one.recorded, one.now))
        rows.append((one.metric, str(one.epoch), then, now, f"{one.difference:.3g}"))
    return aligned(rows)


def _verdict(reproduction: Reproduction) -> str:
    num_epochs, failure = reproduction.recorded.epochs, reproduction.recorded.failure
    epochs = "1 epoch" if num_epochs == 1 else f"{num_epochs} epochs"
    if failure is not None:
        return f"reproduced: fails with {failure.kind} after {epochs}, as on record"
    return f"bit-identical: {len(reproduction.comparisons)} metrics x {epochs}"


def _outcome(record: RunRecord) -> str:
    return f"failed with {record.failure.kind}" if record.failure is not None else record.status


def _message(failure: Failure) -> str:
    return (failure.message.splitlines() or [""])[0][:_MAX_MESSAGE_CHARS]


def _number(epoch: Metrics) -> int:
    return int(epoch["epoch"] or 0)


def _surroundings(recorded: RunRecord, now: RunRecord) -> list[str]:
    """Say which versions and which hardware are not the same."""
    then_values, now_values = _facts(recorded), _facts(now)
    different = [
        f"  {name}: {then_values.get(name, '?')} then, {now_values.get(name, '?')} now"
        for name in sorted(then_values.keys() | now_values.keys())
        if then_values.get(name) != now_values.get(name)
    ]
    same = "code, versions and hardware are those of the record"
    return ["what else is different:", *different] if different else [same]


def _facts(record: RunRecord) -> dict[str, Any]:
    """Code version and environment of a record, nested entries as ``outer.inner``."""
    return {**flat(record.environment), "code_version": record.code_version}
