"""Run records: the JSON truth about each trial. Everything else is a view of them."""

import time
import traceback
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sg_ray.configuration import Configuration
from sg_ray.errors import InfrastructureError, InputError
from sg_ray.features.spec import contents
from sg_ray.files import write_json
from sg_ray.reading import Number, TimeMs, json_lines, read_model, read_object
from sg_ray.records.origin import Origin, origin_of_this_process
from sg_ray.redaction import redact
from sg_ray.statistics.own_metrics import OWN_METRICS, Direction
from sg_ray.sweep_folder import METADATA, METRICS, SweepFolder
from sg_ray.training.metrics import is_better
from sg_ray.training.seeding import Stream
from sg_ray.trial.spec import TrialSpec

Status = Literal["completed", "pruned", "failed"]
Stage = Literal["floor", "search", "replicate", "variance", "train"]
"""``variance`` varies one stream of random numbers alone, to tell what it adds to the variance over
seeds; ``train`` is a training by itself, outside of a sweep."""

Epochs = Sequence[Mapping[str, Number | None]]
"""Metrics of each epoch, and ``epoch`` from 1."""


class Failure(BaseModel):
    """Why a trial failed: the exception's type, its message, and the traceback's text."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    message: Annotated[str, AfterValidator(redact)]
    traceback: Annotated[str, AfterValidator(redact)]

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Return the failure that an exception is."""
        text = "".join(traceback.format_exception(error))
        return cls(kind=type(error).__name__, message=str(error), traceback=text)

    @property
    def is_infrastructure(self) -> bool:
        """True if a process or a machine failed, not the trial."""
        return self.kind == InfrastructureError.__name__


class RunRecord(BaseModel):
    """What one trial (one configuration x one seed) was, and how it ended.

    ``metrics`` are those of the best epoch by the objective; ``history`` has one entry per epoch,
    each with ``epoch`` (from 1). Times are milliseconds since 1970.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    trial_key: str
    stage: Stage
    configuration: Configuration
    config_hash: str
    """Of the configuration and of those that it builds on: what results are grouped by."""
    seed: int
    status: Status
    objective: str
    metrics: Mapping[str, Number | None]
    best_epoch: int | None
    epochs: int
    history: Epochs
    branches: Mapping[str, str]
    data_fingerprint: str
    code_version: str
    started_at_ms: TimeMs
    finished_at_ms: TimeMs
    train_time_s: Number
    environment: Mapping[str, Any]
    failure: Failure | None = None
    mlflow_run_id: str | None = None
    streams: Mapping[Stream, int] = Field(default_factory=dict)
    """Seeds of single streams of random numbers, each in place of ``seed``."""
    weights: str | None = None
    """``weights_id`` of its best model; None if it has none, or of an earlier version."""
    branch_weights: Mapping[str, str] = Field(default_factory=dict)
    """The same of each of the ``branches``."""
    trained_with: str | None = None
    """The version of the code that trained it, where it counts as made by another: see
    ``code_versions``."""
    origin: Origin | None = None
    """The command and the commits that led to it."""
    own_metrics: Mapping[str, Direction] = Field(default_factory=dict)
    """The user's own that were measured, and what is to be done with each: what ranks needs no
    code."""

    @property
    def model(self) -> str:
        """The name of the model that was trained."""
        return self.configuration.model

    @property
    def family(self) -> str:
        """The code that trained it."""
        return self.configuration.family

    @property
    def made_with(self) -> str:
        """The version of the code that trained it, whatever it counts as."""
        return self.trained_with or self.code_version

    @property
    def title(self) -> str:
        """Its configuration's name and hash: ``gnn lr 5e-3 1f0c9a2b``."""
        return self.configuration.title(self.config_hash)

    @property
    def counts_as_seed(self) -> bool:
        """Whether it is one of its configuration's seeds: what is ranked, averaged, exported."""
        return self.stage != "variance"

    @property
    def seed_text(self) -> str:
        """The seed, and those that single streams have, e.g. ``42, init 7``."""
        own = (f"{stream} {seed}" for stream, seed in self.streams.items())
        return ", ".join([str(self.seed), *own])


def record_of(
    spec: TrialSpec,
    stage: Stage,
    history: Epochs,
    *,
    status: Status,
    started_at_ms: int,
    environment: Mapping[str, Any],
    failure: Failure | None,
    weights: str | None = None,
) -> RunRecord:
    """Return the record of a trial that has just ended, driven by this process."""
    best = best_epoch(history, spec.objective)
    return RunRecord(
        trial_key=spec.trial_key,
        stage=stage,
        configuration=spec.configuration,
        config_hash=spec.config_hash,
        seed=spec.seed,
        status=status,
        objective=spec.objective,
        metrics={name: v for name, v in (best or {}).items() if name != "epoch"},
        best_epoch=int(best["epoch"] or 0) if best else None,
        epochs=len(history),
        history=history,
        branches={name: source.trial_key for name, source in spec.branches.items()},
        data_fingerprint=spec.data_fingerprint,
        code_version=spec.code_version,
        started_at_ms=started_at_ms,
        finished_at_ms=now_ms(),
        train_time_s=sum(epoch.get("epoch_time_s") or 0.0 for epoch in history),
        environment=environment,
        failure=failure,
        streams=spec.streams,
        weights=weights,
        branch_weights={name: s.weights for name, s in spec.branches.items() if s.weights},
        trained_with=spec.trained_with,
        origin=origin_of_this_process(),
        own_metrics=spec.own_metrics,
    )


def read_history(folder: Path) -> list[dict[str, float | None]]:
    """Return the epochs in a trial's metrics.jsonl, from 1 on.

    Raises InputError that names the line if one is damaged, doubled or missing.
    """
    path = folder / METRICS
    if not path.exists():
        return []
    history: list[dict[str, float | None]] = []
    for line in json_lines(path):
        problem = line.problem or ("" if line.is_whole else "it is cut off")
        if not problem and line.value.get("epoch") != len(history) + 1:
            problem = f"epoch {len(history) + 1} was expected here"
        if problem:
            raise InputError(
                f"{path}, line {line.number}: not a valid epoch ({problem}). Restore the file from "
                "a copy, or delete its folder to train that trial again."
            )
        history.append(line.value)
    return history


def read_surroundings(folder: Path) -> dict[str, Any]:
    """Return the hardware, software, workers and number format that a finished training noted.

    Empty for one that has not come to its end.
    """
    path = folder / METADATA
    if not path.exists():
        return {}
    remedy = "Restore it from a copy, or delete its folder to train that trial again."
    content = read_object(path, what="summary of a training", remedy=remedy)
    noted: dict[str, Any] = content.get("environment", {})
    return noted


def best_epoch(history: Epochs, objective: str) -> Mapping[str, float | None] | None:
    """Return the first of the epochs with the best objective; None if none has a value."""
    best: Mapping[str, float | None] | None = None
    for epoch in history:
        value = epoch.get(objective)
        if value is not None and is_better(objective, value, best[objective] if best else None):
            best = epoch
    return best


def write_record(folder: SweepFolder, record: RunRecord) -> None:
    """Write a record atomically."""
    write_json(folder.record(record.trial_key), record)


def read_record(path: Path) -> RunRecord:
    """Read one record, and make known what it tells of the user's own metrics.

    Raises InputError if it is missing, not valid, or another trial's.
    """
    remedy = "Restore it from a copy, or delete it to train that trial again."
    record = read_model(path, RunRecord, what="run record", remedy=remedy)
    if record.trial_key != path.stem:
        raise InputError(
            f"{path}: the record of another trial, {record.trial_key}. Call it "
            f"{record.trial_key}.json if there is none, or else delete it."
        )
    OWN_METRICS.tell(record.own_metrics)
    if contradiction := _contradiction(record):
        raise InputError(f"{path}: not a valid run record ({contradiction}). {remedy}")
    return record


def _contradiction(record: RunRecord) -> str | None:
    """Return which metric is not that of the best epoch; None where all are, or none is known."""
    best = best_epoch(record.history, record.objective)
    for name, value in record.metrics.items():
        if best is not None and best.get(name) != value:
            return f"metrics.{name}: {value}, in its best epoch {best.get(name)}"
    return None


def read_records(folder: SweepFolder) -> dict[str, RunRecord]:
    """Return every record of a sweep by trial key, oldest first.

    Raises InputError that names the file if one is not a valid record.
    """
    there = folder.records
    if there.exists() and not there.is_dir():
        raise InputError(f"{there}: not a folder. Restore it from a copy, or delete it.")
    paths = sorted(there.glob("*.json"))
    records = [read_record(path) for path in paths]
    return {r.trial_key: r for r in sorted(records, key=lambda r: (r.finished_at_ms, r.trial_key))}


def foreign_records(
    records: Iterable[RunRecord],
    data_fingerprint: str,
    code_versions: Mapping[str, str],
    baselines: Mapping[str, Configuration],
    *,
    trusts_kept: bool = True,
) -> dict[str, list[RunRecord]]:
    """Return the records that something else led to than there is now, by what that is.

    ``code_versions`` are those of now by family; ``baselines``, by model, name the pretrained files
    of now. Unless it ``trusts_kept``, it asks what trained them, not what they count as.
    """
    by_reason: dict[str, list[RunRecord]] = {}
    for record in records:
        of_now = baselines.get(record.model)
        version = record.code_version if trusts_kept else record.made_with
        differs = {
            "other data": record.data_fingerprint != data_fingerprint,
            "another version of the code": version != code_versions[record.family],
            "other pretrained files": of_now is not None
            and contents(record.configuration.values) != contents(of_now.values),
        }
        for reason in (reason for reason, holds in differs.items() if holds):
            by_reason.setdefault(reason, []).append(record)
    return by_reason


def set_aside(folder: SweepFolder, models: Collection[str]) -> Path:
    """Move the records of ``models``, and what was decided on their strength, out of the count.

    That is range tests, searches, exported models, and the winner's test scores. Return where they
    lie now. If no other model has records, positions of unfinished trials go as well.
    """
    records = read_records(folder)
    target = folder.new_set_aside
    others = [one for one in records.values() if one.model not in models]
    own = [folder.record(key) for key, one in records.items() if one.model in models]
    places = folder.what_models_led_to(models) if others else folder.what_all_models_led_to
    last = reversed(own) if others else [folder.records]
    # The records last, a branch after what builds on it: a kill in between is asked about again.
    for path in [*places, *last]:
        if path.exists():
            new = target / path.relative_to(folder.path)
            new.parent.mkdir(parents=True, exist_ok=True)
            path.rename(new)
    return target


def stamp_run_ids(folder: SweepFolder, run_ids: Mapping[str, str]) -> None:
    """Note in each record which MLflow run mirrors it, where that is new."""
    for record in read_records(folder).values():
        run_id = run_ids.get(record.trial_key, record.mlflow_run_id)
        if run_id != record.mlflow_run_id:
            write_record(folder, record.model_copy(update={"mlflow_run_id": run_id}))


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
