"""What each event of a sweep's journal means in MLflow."""

from collections.abc import Mapping
from csv import DictReader
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from sg_ray.files import content_hash
from sg_ray.sweep.events import Event
from sg_ray.sweep.leaderboard import is_number
from sg_ray.sweep.learning_rates import picture_path
from sg_ray.sweep.records import RunRecord, record_path, trial_dir
from sg_ray.tracking.mlflow_store import (
    PARENT_TAG,
    TRIAL_KEY_TAG,
    EndStatus,
    Metric,
    MlflowStore,
    StoredRun,
)
from sg_ray.training.checkpoint import METADATA

PARENT = ""
"""The key of the sweep's own run, where a trial's run has its trial key."""
SWEEP_ARTIFACTS = ("sweep.yaml", "leaderboard.csv", "verdict.json", "report.html")
ENDINGS = ("sweep_finished", "training_finished")
"""The last event of whoever wrote to a journal, unless something kept it from being written."""
TRIAL_STATUS: Mapping[str, EndStatus] = {
    "completed": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
}
SWEEP_STATUS: Mapping[str, EndStatus] = {
    "completed": "FINISHED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}


@dataclass(frozen=True)
class SweepIdentity:
    """What the first event of a journal says for ever about its sweep."""

    sweep_id: str
    name: str
    started_at_ms: int
    is_single_training: bool

    @classmethod
    def of(cls, first: Event, sweep_dir: Path) -> Self:
        """Return the identity that a journal's first event gives.

        Without a ``sweep_id`` in its data the event itself is the identity, so a sweep folder may
        be moved.
        """
        sweep_id = str(first.data.get("sweep_id") or content_hash(first, 16))
        name = str(first.data.get("name") or sweep_dir.name)
        return cls(sweep_id, name, first.at_ms, first.type == "training_started")


@dataclass
class _Pending:
    """What waits to be logged to one run in one request."""

    metrics: list[Metric] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)


class Replay:
    """Turns events into operations on the store, all of them repeatable."""

    def __init__(
        self,
        store: MlflowStore,
        sweep: SweepIdentity,
        sweep_dir: Path,
        runs: dict[str, StoredRun],
    ) -> None:
        self._store = store
        self._sweep = sweep
        self._sweep_dir = sweep_dir
        self._runs = runs
        self._pending: dict[str, _Pending] = {}
        if PARENT not in runs and not sweep.is_single_training:
            tags = {"sweep": sweep.name, "sg_ray.kind": "sweep"}
            runs[PARENT] = store.create_run(sweep.name, tags, sweep.started_at_ms)

    def run_ids(self) -> dict[str, str]:
        """Return the run of each key."""
        return {key: run.run_id for key, run in self._runs.items()}

    def apply(self, event: Event) -> None:
        """Carry out one event; what it logs may wait for ``flush``."""
        handler = getattr(self, f"_on_{event.type}", None)
        run = self._runs.get(event.trial_key or PARENT)
        is_new = run is None and event.type == "trial_started"
        if handler is not None and (is_new or (run is not None and not run.is_deleted)):
            handler(event)

    def flush(self) -> None:
        """Log all that waits."""
        for key in list(self._pending):
            self._flush_run(key)

    def end_open_runs(self, at_ms: int) -> None:
        """End every run that is still marked as running, as killed."""
        self._store.end_running_trials("KILLED", at_ms)
        parent = self._runs.get(PARENT)
        if parent is not None and not parent.is_deleted:
            self._store.end(parent, "KILLED", at_ms)

    def _flush_run(self, key: str) -> None:
        pending = self._pending.pop(key, None)
        if pending is not None:
            self._store.log(self._runs[key], pending.metrics, pending.params)

    def _on_sweep_started(self, event: Event) -> None:  # noqa: ARG002 - the run exists already
        self._store.log_file(self._runs[PARENT], self._sweep_dir / "sweep.yaml")

    def _on_sweep_resumed(self, event: Event) -> None:  # noqa: ARG002 - one handler signature
        self._store.reopen(self._runs[PARENT])

    def _on_lr_range(self, event: Event) -> None:
        # Tags, not metrics: a resumed sweep reports its cached result again, at another time.
        family, run = event.data["family"], self._runs[event.trial_key or PARENT]
        tags = {
            f"lr_range.{family}.{name}": str(event.data.get(name))
            for name in ("learning_rate", "source")
        }
        self._store.tag(run, tags)
        self._store.log_json(run, f"lr_range/{family}.json", event.data)
        self._store.log_file(run, picture_path(self._sweep_dir, family), "lr_range")

    def _on_trial_started(self, event: Event) -> None:
        key, data = str(event.trial_key), event.data
        if key not in self._runs:
            name = f"{data['family']}-{str(data['config_hash'])[:8]}-seed{data['seed']}"
            parent = self._runs.get(PARENT)
            tags = {
                **({PARENT_TAG: parent.run_id} if parent is not None else {}),
                "sweep": self._sweep.name,
                "sg_ray.kind": "trial",
                TRIAL_KEY_TAG: key,
                **{tag: str(data[tag]) for tag in ("stage", "family", "config_hash", "seed")},
            }
            self._runs[key] = self._store.create_run(name, tags, event.at_ms)
        params = {**flatten(data["config"]), "seed": data["seed"]}
        self._pending.setdefault(key, _Pending()).params.update(params)

    def _on_trial_resumed(self, event: Event) -> None:
        if (run := self._runs.get(str(event.trial_key))) is not None:
            self._store.reopen(run)

    def _on_epoch(self, event: Event) -> None:
        step = int(event.data["epoch"])
        self._add_metrics(str(event.trial_key), event.data["metrics"], event.at_ms, step)

    def _on_trial_finished(self, event: Event) -> None:
        key, data = str(event.trial_key), event.data
        best = {f"best_{name}": value for name, value in (data.get("metrics") or {}).items()}
        self._add_metrics(key, best, event.at_ms, int(data.get("epochs") or 0))
        self._flush_run(key)
        run = self._runs[key]
        self._store.log_file(run, record_path(self._sweep_dir, key))
        single = self._sweep.is_single_training
        folder = self._sweep_dir if single else trial_dir(self._sweep_dir, key)
        self._store.log_file(run, folder / METADATA)
        if single:
            self._store.log_file(run, self._sweep_dir / "experiment.yaml")
        if data["status"] == "failed":
            self._store.tag(run, {"failure": self._failure(key)})
        self._store.end(run, TRIAL_STATUS[data["status"]], event.at_ms)

    def _on_test_scored(self, event: Event) -> None:
        family = event.data["family"]
        metrics = {f"{family}/{name}": value for name, value in event.data["metrics"].items()}
        self._log_summary(metrics, event.at_ms)

    def _on_sweep_finished(self, event: Event) -> None:
        self.flush()
        parent = self._runs[PARENT]
        for name in SWEEP_ARTIFACTS:
            self._store.log_file(parent, self._sweep_dir / name)
        if event.data["status"] != "interrupted":  # what is ranked then is not the result
            self._log_summary(_winners(self._sweep_dir / "leaderboard.csv"), event.at_ms)
        self._store.end_running_trials("KILLED", event.at_ms)
        self._store.end(parent, SWEEP_STATUS[event.data["status"]], event.at_ms)

    def _on_training_finished(self, event: Event) -> None:
        self.flush()  # of an interrupted one; any other has ended already
        self._store.end_running_trials("KILLED", event.at_ms)

    def _add_metrics(self, key: str, metrics: Mapping[str, Any], at_ms: int, step: int) -> None:
        points = [
            Metric(name, float(value), at_ms, step)
            for name, value in metrics.items()
            if name != "epoch" and is_number(value)
        ]
        self._pending.setdefault(key, _Pending()).metrics.extend(points)

    def _log_summary(self, metrics: Mapping[str, Any], at_ms: int) -> None:
        """Log what differs on the sweep's run: a resumed sweep may report the same again."""
        parent = self._runs[PARENT]
        latest = self._store.latest_metrics(parent)
        changed = {n: v for n, v in metrics.items() if is_number(v) and latest.get(n) != v}
        self._store.log(parent, [Metric(n, v, at_ms, 0) for n, v in changed.items()])

    def _failure(self, key: str) -> str:
        try:
            text = record_path(self._sweep_dir, key).read_text(encoding="utf-8")
            failure = RunRecord.model_validate_json(text).failure
        except (OSError, ValidationError):
            return "unknown"
        return f"{failure.kind}: {failure.message}" if failure is not None else "unknown"


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping as one level, with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _winners(leaderboard: Path) -> dict[str, float]:
    """Return the means of each family's best configuration, as family/metric."""
    if not leaderboard.exists():
        return {}
    winners: dict[str, Mapping[str, str]] = {}
    with leaderboard.open(encoding="utf-8", newline="") as file:
        for row in DictReader(file):
            winners.setdefault(row["family"], row)
    return {
        f"{family}/{column}": float(value)
        for family, row in winners.items()
        for column, value in row.items()
        if column.endswith("_mean") and value
    }
