"""What a sweep's page shows, gathered from its folder: records, journal, settings, ranking."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from sg_ray.sweep.events import Event, read_events
from sg_ray.sweep.leaderboard import Row, is_number, rank
from sg_ray.sweep.records import RunRecord, read_records

DEFAULT_OBJECTIVE = "val_roc_auc"


@dataclass(frozen=True)
class RangeTest:
    """One family's learning-rate range test; each curve has learning_rates and losses."""

    family: str
    learning_rate: float | None
    source: str
    reason: str
    curves: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Sweep:
    """A sweep as its folder tells it, finished or not."""

    name: str
    folder: Path
    objective: str
    settings_text: str
    records: Sequence[RunRecord]
    rows: Sequence[Row]
    events: Sequence[Event]

    @property
    def families(self) -> list[str]:
        """Families with records, in the order in which they first finished a trial."""
        return list(dict.fromkeys(record.family for record in self.records))

    @property
    def floor(self) -> Row | None:
        """The baseline's best row."""
        return next((row for row in self.rows if row.is_floor), None)

    @property
    def winner(self) -> Row | None:
        """The best row that is not the floor, if it has a mean."""
        models = (row for row in self.rows if not row.is_floor)
        return next((row for row in models if row.means.get(self.objective) is not None), None)

    @property
    def status(self) -> str:
        """How the sweep ended, or "not finished"."""
        for event in reversed(self.events):
            if event.type in ("sweep_finished", "ranked"):
                return str(event.data.get("status", "completed"))
            if event.type in ("trial_started", "stage", "sweep_resumed"):
                break
        return "not finished"

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Number of trials by status."""
        return Counter(record.status for record in self.records)

    @property
    def failures(self) -> list[RunRecord]:
        """Records of failed trials."""
        return [record for record in self.records if record.status == "failed"]

    @property
    def range_tests(self) -> list[RangeTest]:
        """The latest range test of each family."""
        latest = {str(e.data["family"]): e.data for e in self.events if e.type == "lr_range"}
        return [_range_test(family, data) for family, data in latest.items()]

    @property
    def notes(self) -> list[str]:
        """What the checks of the data said: the ``notes`` of any event."""
        notes = (note for event in self.events for note in event.data.get("notes") or ())
        return list(dict.fromkeys(str(note) for note in notes))

    @property
    def started_at(self) -> str:
        """UTC time of the first event or, without any, of the first trial."""
        times_ms = [e.at_ms for e in self.events[:1]] + [r.started_at_ms for r in self.records]
        if not times_ms:
            return "unknown"
        return datetime.fromtimestamp(times_ms[0] / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")

    @property
    def train_time_s(self) -> float:
        """Seconds of training, over all trials."""
        return sum(record.train_time_s for record in self.records)

    @property
    def versions(self) -> list[tuple[str, str]]:
        """Code, data and environment of the trials; several values are listed."""
        facts: dict[str, dict[str, None]] = {}
        for record in self.records:
            pairs = {
                "code version": record.code_version,
                "data fingerprint": record.data_fingerprint,
                **record.environment,
            }
            for name, value in pairs.items():
                facts.setdefault(name, {})[str(value)] = None
        return [(name, ", ".join(values)) for name, values in facts.items()]

    def seeds_of(self, row: Row, metric: str) -> dict[int, float]:
        """Return the value of ``metric`` for each completed seed of a row."""
        return {
            record.seed: value
            for record in self.records  # oldest first: the newest of a seed stays
            if (record.family, record.config_hash) == (row.family, row.config_hash)
            and record.status == "completed"
            and record.seed in row.seeds
            and is_number(value := record.metrics.get(metric))
        }


def read_sweep(folder: Path) -> Sweep:
    """Read a sweep's folder. Raises InputError that names the file if a record is not valid."""
    path = folder / "sweep.yaml"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    settings = yaml.safe_load(text) or {}
    records = list(read_records(folder).values())
    events = list(read_events(folder / "events.jsonl"))
    newest = records[-1].objective if records else DEFAULT_OBJECTIVE
    objective = str(settings.get("objective", newest))
    seeds = (settings.get("replicate") or {}).get("seeds") or {r.seed for r in records}
    tested = {e.data["family"]: e.data["metrics"] for e in events if e.type == "test_scored"}
    return Sweep(
        name=str(settings.get("name", folder.resolve().name)),
        folder=folder,
        objective=objective,
        settings_text=text,
        records=records,
        rows=rank(records, objective=objective, seeds=sorted(seeds), test_metrics=tested),
        events=events,
    )


def varied_settings(rows: Sequence[Row], row: Row) -> list[tuple[str, str]]:
    """Return the name and value of each setting of a row that differs within its family."""
    relatives = [other.config for other in rows if other.family == row.family]
    names = [n for n in row.config if len({repr(config.get(n)) for config in relatives}) > 1]
    shown = names or [name for name in ("learning_rate",) if name in row.config]
    return [(name, _short(row.config[name])) for name in shown]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _range_test(family: str, data: Mapping[str, Any]) -> RangeTest:
    curves = [curve for curve in data.get("curve") or () if isinstance(curve, Mapping)]
    return RangeTest(
        family=family,
        learning_rate=data.get("learning_rate"),
        source=str(data.get("source")),
        reason=str(data.get("reason") or ""),
        curves=curves,
    )
