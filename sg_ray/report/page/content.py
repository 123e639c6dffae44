"""What a sweep's page shows, gathered from its folder: records, journal, settings, verdict."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sg_ray.config.experiment import ReplicateSettings
from sg_ray.config.values import read_values
from sg_ray.reading import read_model
from sg_ray.records.events import (
    DataChecked,
    Event,
    StageStarted,
    SweepFinished,
    SweepRanked,
    SweepResumed,
    TrialStarted,
)
from sg_ray.records.journal import read_events
from sg_ray.records.leaderboard import Row, is_number, rank
from sg_ray.records.record import RunRecord, read_records
from sg_ray.records.winner_scores import read_test_scores
from sg_ray.report.page.rendering import Looks
from sg_ray.sweep_folder import SweepFolder
from sg_ray.verdict.model import Standing, Verdict

DEFAULT_OBJECTIVE = "val_roc_auc"


MODEL_STYLES = {"transformer": "model-1", "gnn": "model-2", "fusion": "model-3"}
"""The classes of the page's style sheet that are taken; those of other models share the rest."""


@dataclass(frozen=True)
class Sweep:
    """A sweep as its folder tells it, finished or not; ``verdict`` is None before there is one."""

    name: str
    folder: SweepFolder
    objective: str
    settings: Mapping[str, Any]
    settings_text: str
    records: Sequence[RunRecord]
    """Oldest first."""
    rows: Sequence[Row]
    events: Sequence[Event]
    verdict: Verdict | None = None
    model_styles: Mapping[str, str] = field(default_factory=dict)
    """The class of the page's style sheet that gives each model its colour."""

    @property
    def models(self) -> list[str]:
        """Models with records, in the order in which they first finished a trial."""
        return list(dict.fromkeys(record.model for record in self.records))

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
            match event:
                case SweepFinished() | SweepRanked():
                    return event.status
                case TrialStarted() | StageStarted() | SweepResumed():
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
    def notes(self) -> list[str]:
        """What the checks of the data said, at whichever start."""
        checks = (event for event in self.events if isinstance(event, DataChecked))
        return list(dict.fromkeys(note for check in checks for note in check.notes))

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
    def data_fingerprints(self) -> list[str]:
        """The data that the trials were made with: one, unless something went wrong."""
        return list(dict.fromkeys(record.data_fingerprint for record in self.records))

    @property
    def code_versions(self) -> list[str]:
        """The code that the trials were made with."""
        return list(dict.fromkeys(record.code_version for record in self.records))

    def model_settings(self, model: str) -> Mapping[str, Any]:
        """Return what sweep.yaml says about a model; empty if nothing."""
        return (self.settings.get("models") or {}).get(model) or {}

    def standing(self, model: str, config_hash: str) -> Standing | None:
        """Return what the verdict says about a configuration."""
        standings = self.verdict.standings if self.verdict else ()
        wanted = (model, config_hash)
        return next((s for s in standings if (s.model, s.config_hash) == wanted), None)

    def seeds_of(self, row: Row, metric: str) -> dict[int, float]:
        """Return the value of ``metric`` for each completed seed of a row."""
        return {
            record.seed: value
            for record in self.trials_of(row)
            if is_number(value := record.metrics.get(metric))
        }

    def trials_of(self, row: Row) -> list[RunRecord]:
        """Return the completed trials of a row, oldest first, each seed once."""
        newest = {
            record.seed: record
            for record in self.records
            if (record.model, record.config_hash) == (row.model, row.config_hash)
            and record.status == "completed"
            and record.counts_as_seed
            and record.seed in row.seeds
        }
        return list(newest.values())

    def is_search_seed(self, row: Row, seed: int) -> bool:
        """Whether a row was chosen on the strength of this seed; never so for the floor."""
        return not row.is_floor and any(
            record.stage == "search" and record.seed == seed for record in self.trials_of(row)
        )


def read_sweep(folder: SweepFolder) -> Sweep:
    """Read a sweep's folder. Raises InputError that names the file if a record is not valid."""
    path = folder.settings
    settings = read_values(path).content if path.exists() else {}
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    records = list(read_records(folder).values())
    events = list(read_events(folder.events, tell=True))
    newest = records[-1].objective if records else DEFAULT_OBJECTIVE
    objective = str(settings.get("objective", newest))
    seeds, race_alpha = _race_of(settings, records)
    return Sweep(
        name=str(settings.get("name", folder.path.resolve().name)),
        folder=folder,
        objective=objective,
        settings=settings,
        settings_text=text,
        records=records,
        rows=rank(
            records,
            objective=objective,
            seeds=seeds,
            race_alpha=race_alpha,
            test_metrics=read_test_scores(folder),
        ),
        events=events,
        verdict=read_verdict(folder),
        model_styles=model_styles(records),
    )


def read_verdict(folder: SweepFolder) -> Verdict | None:
    """Return what verdict.json says; None without one. Raises InputError if it is not valid."""
    path = folder.verdict
    if not path.exists():
        return None
    remedy = "Make it anew: sg-ray report with this folder alone. Or delete it."
    return read_model(path, Verdict, what="verdict", remedy=remedy)


def looks_of(records: Sequence[RunRecord]) -> Looks:
    """Return how a page shows the models and configurations of these records."""
    names = {record.config_hash: record.configuration.name for record in records}
    return Looks(model_styles(records), names)


def model_styles(records: Sequence[RunRecord]) -> dict[str, str]:
    """Return each model's class: the same on every page; the floor has one of its own.

    A model that the page does not know takes one of those that are left, by name.
    """
    floors = {record.model for record in records if record.stage == "floor"}
    models = {record.model for record in records} - floors
    others = [f"model-{n}" for n in range(1, 6) if f"model-{n}" not in MODEL_STYLES.values()]
    unknown = sorted(models - MODEL_STYLES.keys())
    return {
        **{model: MODEL_STYLES[model] for model in models & MODEL_STYLES.keys()},
        **{model: others[number % len(others)] for number, model in enumerate(unknown)},
        **dict.fromkeys(floors, "model-floor"),
    }


def varied_settings(rows: Sequence[Row], row: Row) -> list[tuple[str, str]]:
    """Return the name and value of each setting of a row that differs within its model."""
    own = row.configuration.values
    relatives = [other.configuration.values for other in rows if other.model == row.model]
    names = [n for n in own if len({repr(values.get(n)) for values in relatives}) > 1]
    shown = names or [name for name in ("learning_rate",) if name in own]
    return [(name, _short(own[name])) for name in shown]


def _race_of(
    settings: Mapping[str, Any], records: Sequence[RunRecord]
) -> tuple[Sequence[int], float | None]:
    """Return the seeds in the order of their rounds, and the race's alpha."""
    if not settings.get("replicate"):
        return sorted({r.seed for r in records if r.counts_as_seed}), None
    replicate = ReplicateSettings.model_validate(settings["replicate"])
    return replicate.all_seeds, replicate.race_alpha


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
