"""What each event of a sweep's journal means in MLflow."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from sg_ray.detector import BEST_DIR, MODEL_FILE, read_card, read_winner
from sg_ray.errors import InputError
from sg_ray.files import content_hash, short_hash
from sg_ray.sweep.events import Event
from sg_ray.sweep.leaderboard import is_number
from sg_ray.sweep.learning_rates import picture_path
from sg_ray.sweep.records import RunRecord, read_record, record_path, trial_dir
from sg_ray.tracking.datasets import data_inputs
from sg_ray.tracking.mlflow_models import TRIAL_KEY_TAG, Winner
from sg_ray.tracking.mlflow_store import (
    PARENT_TAG,
    EndStatus,
    Metric,
    MlflowStore,
    StoredRun,
)
from sg_ray.tracking.parameters import sweep_parameters, trial_parameters
from sg_ray.tracking.summary import Summary
from sg_ray.tracking.views import CONFIGURATION_TAG, experiment_tags
from sg_ray.training.checkpoint import METADATA
from sg_ray.training.seeding import seed_name

PARENT = ""
"""The key of the sweep's own run, where a trial's run has its trial key."""
SWEEP_ARTIFACTS = ("sweep.yaml", "leaderboard.csv", "verdict.json", "report.html")
OUTCOMES = ("val_", "train_")
"""Metrics with a best value begin so. The others tell of an epoch: its speed, its learning rate."""
DEFAULT_OBJECTIVE = "val_roc_auc"
_SOURCE = {"mlflow.source.name": "sg-ray", "mlflow.source.type": "LOCAL"}
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
    """What the first event of a journal says for ever about its sweep.

    ``plan`` is the experiment as it was begun, as plain values.
    """

    sweep_id: str
    name: str
    started_at_ms: int
    is_single_training: bool
    plan: Mapping[str, Any]

    @classmethod
    def of(cls, first: Event, sweep_dir: Path) -> Self:
        """Return the identity that a journal's first event gives.

        Without a ``sweep_id`` in its data the event itself is the identity, so a sweep folder may
        be moved.
        """
        sweep_id = str(first.data.get("sweep_id") or content_hash(first, 16))
        name = str(first.data.get("name") or sweep_dir.name)
        is_single = first.type == "training_started"
        return cls(sweep_id, name, first.at_ms, is_single, first.data.get("plan") or {})


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
        *,
        register_model: bool = True,
    ) -> None:
        self._store = store
        self._sweep = sweep
        self._register_model = register_model
        self._sweep_dir = sweep_dir
        self._runs = runs
        self._pending: dict[str, _Pending] = {}
        if PARENT not in runs and not sweep.is_single_training:
            tags = {**_SOURCE, "sweep": sweep.name, "sg_ray.kind": "sweep"}
            runs[PARENT] = store.create_run(sweep.name, tags, sweep.started_at_ms)

    @property
    def experiment_id(self) -> str:
        """MLflow's experiment."""
        return self._store.experiment_id

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
        parent, plan = self._runs[PARENT], self._sweep.plan
        self._store.log(parent, params=sweep_parameters(plan))
        self._store.log_file(parent, self._sweep_dir / "sweep.yaml")
        self._store.tag_experiment(experiment_tags(plan, self._sweep.started_at_ms))

    def _on_data_checked(self, event: Event) -> None:
        self._log_data(PARENT, event.data["fingerprint"])

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
        streams = data.get("streams") or {}
        if key not in self._runs:
            seeds = seed_name(data["seed"], streams)
            name = f"{data['family']}-{short_hash(data['config_hash'])}-{seeds}"
            parent = self._runs.get(PARENT)
            tags = {
                **_SOURCE,
                **({PARENT_TAG: parent.run_id} if parent is not None else {}),
                "sweep": self._sweep.name,
                "sg_ray.kind": "trial",
                TRIAL_KEY_TAG: key,
                CONFIGURATION_TAG: _configuration(data),
                **{tag: str(data[tag]) for tag in ("stage", "family", "config_hash", "seed")},
            }
            self._runs[key] = self._store.create_run(name, tags, event.at_ms)
        plan = {} if self._sweep.is_single_training else self._sweep.plan
        params = trial_parameters(data["family"], data["config"], data["seed"], plan, streams)
        self._pending.setdefault(key, _Pending()).params.update(params)

    def _on_trial_resumed(self, event: Event) -> None:
        if (run := self._runs.get(str(event.trial_key))) is not None:
            self._store.reopen(run)

    def _on_trial_taken_back(self, event: Event) -> None:
        if (run := self._runs.get(str(event.trial_key))) is not None:
            self._store.reopen(run)
            self._store.untag(run, "failure")

    def _on_epoch(self, event: Event) -> None:
        step = int(event.data["epoch"])
        self._add_metrics(str(event.trial_key), event.data["metrics"], event.at_ms, step)

    def _on_trial_finished(self, event: Event) -> None:
        key, data = str(event.trial_key), event.data
        found = data.get("metrics") or {}
        best = {f"best_{name}": found[name] for name in found if name.startswith(OUTCOMES)}
        self._add_metrics(key, best, event.at_ms, step=0)  # no curve: MLflow draws bars
        self._flush_run(key)
        run, record = self._runs[key], self._record(key)
        self._store.log_file(run, record_path(self._sweep_dir, key))
        if record is not None:
            self._log_data(key, record.data_fingerprint)
        single = self._sweep.is_single_training
        folder = self._sweep_dir if single else trial_dir(self._sweep_dir, key)
        self._store.log_file(run, folder / METADATA)
        if single:
            self._store.log_file(run, self._sweep_dir / "experiment.yaml")
        if data["status"] == "failed":
            failure = record.failure if record is not None else None
            text = "unknown" if failure is None else f"{failure.kind}: {failure.message}"
            self._store.tag(run, {"failure": text})
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
        is_ranked = event.data["status"] != "interrupted"  # else what is ranked is not the result
        if is_ranked:
            self._sum_up(event.at_ms)
        self._store.end_running_trials("KILLED", event.at_ms)
        self._store.end(parent, SWEEP_STATUS[event.data["status"]], event.at_ms)
        if is_ranked and self._register_model:
            self._register_winner()  # last: it copies weights, and may take or fail

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

    def _sum_up(self, at_ms: int) -> None:
        """Log what the sweep came to: numbers, the verdict's headline, a description."""
        summary = self._summary()
        self._log_summary(summary.metrics(), at_ms)
        tags = {"mlflow.note.content": summary.note(self._store.experiment_id)}
        if summary.headline is not None:
            tags["verdict"] = summary.headline
        self._store.tag(self._runs[PARENT], tags)

    def _register_winner(self) -> None:
        """Register what ``best/`` holds of the winner; nothing if it holds none."""
        winner = read_winner(self._sweep_dir / BEST_DIR)
        if winner is None:
            return
        folder = self._sweep_dir / BEST_DIR / winner.family
        if not (folder / MODEL_FILE).exists():
            return
        card = read_card(folder)
        trial = self._runs.get(card.trial_key)
        runs = [r for r in (trial, self._runs[PARENT]) if r is not None and not r.is_deleted]
        tags = {"sweep": self._sweep.name, "family": card.family, "config_hash": card.config_hash}
        self._store.models.register(
            Winner(
                name=self._sweep.name,
                folder=folder,
                run_id=runs[0].run_id,
                shown_at=[run.run_id for run in runs],
                params=trial_parameters(card.family, card.config, card.seed, self._sweep.plan),
                tags={**tags, "seed": str(card.seed)},
                description=self._summary().headline or "",
            )
        )

    def _summary(self) -> Summary:
        objective = str(self._sweep.plan.get("objective", DEFAULT_OBJECTIVE))
        return Summary.read(self._sweep_dir, self._sweep.name, objective)

    def _log_data(self, key: str, fingerprint: str) -> None:
        inputs = data_inputs(self._sweep.plan.get("data") or {}, fingerprint)
        self._store.log_data(self._runs[key], inputs)

    def _record(self, key: str) -> RunRecord | None:
        try:
            return read_record(record_path(self._sweep_dir, key))
        except InputError:
            return None


def _configuration(data: Mapping[str, Any]) -> str:
    """Return what a trial is averaged under: one that is no seed of a configuration, apart."""
    apart = ", variance" if data["stage"] == "variance" else ""
    return f"{data['family']} {data['config_hash']}{apart}"
