"""What each event of a sweep's journal means in MLflow.

An event is carried out in two steps: first its runs, metrics, parameters and tags (``apply``), and
once those of all events are there its files and the winner's weights (``send``). What MLflow does
not take is told and passed over; only a store that takes nothing holds the rest up.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, assert_never

from sg_ray.detector import read_card, read_winner
from sg_ray.errors import InputError
from sg_ray.files import short_hash
from sg_ray.records.events import (
    DataChecked,
    EpochEnded,
    Event,
    FinalistDropped,
    JobLost,
    LearningRateFound,
    NodeReported,
    StageStarted,
    SweepFinished,
    SweepPlanned,
    SweepRanked,
    SweepResumed,
    SweepStarted,
    SweepWaiting,
    TrainingFinished,
    TrainingStarted,
    TrialFinished,
    TrialResumed,
    TrialStarted,
    TrialTakenBack,
    WeightsLetGo,
    WinnerTested,
)
from sg_ray.records.leaderboard import is_number
from sg_ray.records.record import RunRecord, Status, read_record
from sg_ray.sweep_folder import MODEL_CARD, SweepFolder
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
from sg_ray.tracking.troubles import Refusal, RunGone, StoreTrouble
from sg_ray.tracking.uploads import Upload, uploads_of
from sg_ray.tracking.views import CONFIGURATION_TAG, experiment_tags
from sg_ray.training.seeding import seed_name

PARENT = ""
"""The key of the sweep's own run, where a trial's run has its trial key."""
OUTCOMES = ("val_", "train_")
"""Metrics with a best value begin so. The others tell of an epoch: its speed, its learning rate."""
DEFAULT_OBJECTIVE = "val_roc_auc"
_SOURCE = {"mlflow.source.name": "sg-ray", "mlflow.source.type": "LOCAL"}
TRIAL_STATUS: Mapping[Status, EndStatus] = {
    "completed": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
}
SWEEP_STATUS: Mapping[str, EndStatus] = {
    "completed": "FINISHED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}

_WINNER = "the winner's model (which tracking.register_model=false leaves out)"

_log = logging.getLogger(__name__)


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
    def of(cls, first: SweepStarted | TrainingStarted) -> Self:
        """Return the identity that a journal's first event gives."""
        is_single = isinstance(first, TrainingStarted)
        return cls(first.sweep_id, first.name, first.at_ms, is_single, first.plan)


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
        folder: SweepFolder,
        runs: dict[str, StoredRun],
        *,
        register_model: bool = True,
    ) -> None:
        self._store = store
        self._sweep = sweep
        self._register_model = register_model
        self._folder = folder
        self._runs = runs
        self._pending: dict[str, _Pending] = {}
        self.num_refused = 0
        """How many events, metrics and parameters MLflow did not take."""
        self._told: set[str] = set()
        if PARENT not in runs and not sweep.is_single_training:
            tags = {**_SOURCE, "sweep": sweep.name, "sg_ray.kind": "sweep"}
            runs[PARENT] = store.create_run(sweep.name, tags, sweep.started_at_ms)

    @property
    def experiment_id(self) -> str:
        """MLflow's experiment."""
        return self._store.experiment_id

    def reason(self, error: Exception) -> str:
        """Return an error in one line, without credentials."""
        return self._store.reason(error)

    def run_ids(self) -> dict[str, str]:
        """Return the run of each key."""
        return {key: run.run_id for key, run in self._runs.items()}

    def apply(self, event: Event) -> None:
        """Carry out one event but for its files; what it logs may wait for ``flush``.

        One that MLflow does not take is passed over with a warning. Raises StoreTrouble.
        """
        key = event.subject or PARENT
        run = self._runs.get(key)
        is_new = run is None and isinstance(event, TrialStarted)
        ends_others = isinstance(event, SweepFinished | TrainingFinished)
        if not (is_new or ends_others or self._is_shown(key)):
            return
        try:
            self._carry_out(event)
        except StoreTrouble:
            raise
        except Exception as error:  # whatever is odd about one event is no reason to stop at it
            self._pass_over(error, run, event)

    def _carry_out(self, event: Event) -> None:
        match event:
            case SweepStarted():
                self._describe_sweep()
            case SweepResumed():
                self._store.reopen(self._runs[PARENT])
            case DataChecked():
                self._log_data(PARENT, event.fingerprint)
            case LearningRateFound():
                self._tag_learning_rate(event)
            case TrialStarted():
                self._start_trial(event)
            case TrialResumed():
                self._store.reopen(self._runs[event.trial_key])
            case EpochEnded():
                self._add_metrics(event.trial_key, event.metrics, event.at_ms, event.epoch)
            case TrialFinished():
                self._finish_trial(event)
            case TrialTakenBack():
                self._store.reopen(self._runs[event.trial_key])
                self._store.untag(self._runs[event.trial_key], "failure")
            case WinnerTested():
                scores = {f"{event.model}/{name}": value for name, value in event.metrics.items()}
                self._log_summary(scores, event.at_ms)
            case SweepFinished():
                self._finish_sweep(event)
            case TrainingFinished():
                self.flush()  # of an interrupted one; any other has ended already
                self._store.end_running_trials("KILLED", event.at_ms)
            case (
                SweepPlanned()
                | StageStarted()
                | JobLost()
                | NodeReported()
                | SweepWaiting()
                | FinalistDropped()
                | WeightsLetGo()
                | SweepRanked()
                | TrainingStarted()
            ):
                pass
            case _:
                assert_never(event)

    def has_files(self, event: Event) -> bool:
        """Whether ``send`` has something to do for an event."""
        return self._is_shown(event.subject or PARENT) and (
            isinstance(event, SweepFinished) or any(self._uploads(event))
        )

    def send(self, event: Event) -> list[Refusal]:
        """Store an event's files, and the winner's model at a sweep's end.

        Return what could not be stored. Raises StoreTrouble if it is the whole store that is away.
        """
        failed = [
            Refusal(f"{upload.path.name} of {_run_name(upload.key)}", error)
            for upload in self._uploads(event)
            if self._is_shown(upload.key) and (error := self._upload(upload)) is not None
        ]
        if isinstance(event, SweepFinished) and event.status != "interrupted":
            error = self._attempt(self._register_winner)
            failed += [Refusal(_WINNER, error)] if error is not None else []
        return failed

    def _uploads(self, event: Event) -> list[Upload]:
        single = self._sweep.is_single_training
        return list(uploads_of(event, self._folder, is_single=single))

    def _is_shown(self, key: str) -> bool:
        run = self._runs.get(key)
        return run is not None and not run.is_deleted

    def _upload(self, upload: Upload) -> Exception | None:
        run, path = self._runs[upload.key], upload.path
        if upload.content is not None:
            return self._attempt(
                self._store.log_json, run, upload.content, path.name, upload.folder
            )
        return self._attempt(self._store.log_file, run, path, upload.folder)

    def _attempt(self, work: Callable[..., None], *arguments: Any) -> Exception | None:
        """Do it; return why it could not be done. Raises StoreTrouble if the store is away."""
        try:
            work(*arguments)
        except Exception as error:
            self._store.require_experiment(error)
            return error
        return None

    def _pass_over(self, error: Exception, run: StoredRun | None, event: Event) -> None:
        """Tell of an event that cannot be carried out. Raises StoreTrouble if the store cannot."""
        try:
            self._store.require_health(error, run)
        except RunGone:
            self._let_go(event.subject or PARENT)
            return
        name = _run_name(event.subject or PARENT)
        self._tell([Refusal(f"the event {event.type} of {name}", error)])

    def _tell(self, refusals: Sequence[Refusal]) -> None:
        """Warn of what MLflow does not take, of one kind once."""
        self.num_refused += len(refusals)
        for refusal in refusals:
            what, error = refusal.args
            kind = what.partition(" of ")[0]
            if kind not in self._told:
                self._told.add(kind)
                why = self._store.reason(error)
                _log.warning("MLflow does not take %s, it is left out there: %s", what, why)

    def _let_go(self, key: str) -> None:
        """Leave a run alone that its user has deleted."""
        self._pending.pop(key, None)
        if not self._runs[key].is_deleted:
            self._runs[key] = replace(self._runs[key], is_deleted=True)
            _log.warning("MLflow: %s was deleted there, and stays so.", _run_name(key))

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
        if pending is None or not self._is_shown(key):
            return
        try:
            self._tell(self._store.log(self._runs[key], pending.metrics, pending.params))
        except RunGone:
            self._let_go(key)

    def _describe_sweep(self) -> None:
        parent, plan = self._runs[PARENT], self._sweep.plan
        self._tell(self._store.log(parent, params=sweep_parameters(plan)))
        self._store.tag_experiment(experiment_tags(plan, self._sweep.started_at_ms))

    def _tag_learning_rate(self, event: LearningRateFound) -> None:
        # Tags, not metrics: a resumed sweep reports its cached result again, at another time.
        values = {"learning_rate": event.learning_rate, "source": event.source}
        tags = {f"lr_range.{event.model}.{name}": str(value) for name, value in values.items()}
        self._store.tag(self._runs[event.subject or PARENT], tags)

    def _start_trial(self, event: TrialStarted) -> None:
        key = event.trial_key
        if key not in self._runs:
            seeds = seed_name(event.seed, event.streams)
            name = f"{_name(event)} {short_hash(event.config_hash)}-{seeds}"
            parent = self._runs.get(PARENT)
            tags = {
                **_SOURCE,
                **({PARENT_TAG: parent.run_id} if parent is not None else {}),
                "sweep": self._sweep.name,
                "sg_ray.kind": "trial",
                TRIAL_KEY_TAG: key,
                CONFIGURATION_TAG: self._configuration(event),
                "stage": event.stage,
                "model": event.model,
                "family": event.family,
                "config_hash": event.config_hash,
                "seed": str(event.seed),
            }
            self._runs[key] = self._store.create_run(name, tags, event.at_ms)
        plan = {} if self._sweep.is_single_training else self._sweep.plan
        params = trial_parameters(event.model, event.config, event.seed, plan, event.streams)
        self._pending.setdefault(key, _Pending()).params.update(params)

    def _finish_trial(self, event: TrialFinished) -> None:
        key, found = event.trial_key, event.metrics
        best = {f"best_{name}": found[name] for name in found if name.startswith(OUTCOMES)}
        self._add_metrics(key, best, event.at_ms, step=0)  # no curve: MLflow draws bars
        self._flush_run(key)
        run, record = self._runs[key], self._record(key)
        # First, so that no run is left running for what may be wrong with the rest.
        self._store.end(run, TRIAL_STATUS[event.status], event.at_ms)
        if event.status == "failed":
            failure = record.failure if record is not None else None
            text = "unknown" if failure is None else f"{failure.kind}: {failure.message}"
            self._store.tag(run, {"failure": text})
        if record is not None:
            self._log_data(key, record.data_fingerprint)

    def _finish_sweep(self, event: SweepFinished) -> None:
        self.flush()
        self._store.end_running_trials("KILLED", event.at_ms)
        if not self._is_shown(PARENT):
            return
        self._store.end(self._runs[PARENT], SWEEP_STATUS[event.status], event.at_ms)
        if event.status != "interrupted":  # else what is ranked is not the result
            self._sum_up(event.at_ms)

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
        self._tell(self._store.log(parent, [Metric(n, v, at_ms, 0) for n, v in changed.items()]))

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
        folder = self._winner_folder()
        if folder is None or not self._register_model:
            return
        card = read_card(folder)
        trial = self._runs.get(card.trial_key)
        runs = [r for r in (trial, self._runs[PARENT]) if r is not None and not r.is_deleted]
        tags = {"sweep": self._sweep.name, "model": card.model, "config_hash": card.config_hash}
        self._store.models.register(
            Winner(
                name=self._model_name(),
                folder=folder,
                run_id=runs[0].run_id,
                shown_at=[run.run_id for run in runs],
                params=trial_parameters(
                    card.model, card.configuration.values, card.seed, self._sweep.plan
                ),
                tags={**tags, "seed": str(card.seed)},
                description=self._summary().headline or "",
            )
        )

    def _winner_folder(self) -> Path | None:
        winner = read_winner(self._folder.best)
        folder = None if winner is None else self._folder.best / winner.model
        return folder if folder is not None and (folder / MODEL_CARD).exists() else None

    def _model_name(self) -> str:
        """Return under which name the winner is registered."""
        name, folder = self._store.experiment_name, self._winner_folder()
        if folder is None:
            return name
        return self._store.models.name_for(name, read_card(folder).trial_key)

    def _summary(self) -> Summary:
        objective = str(self._sweep.plan.get("objective", DEFAULT_OBJECTIVE))
        return Summary.read(self._folder, self._model_name(), objective)

    def _log_data(self, key: str, fingerprint: str) -> None:
        inputs = data_inputs(self._sweep.plan.get("data") or {}, fingerprint)
        self._store.log_data(self._runs[key], inputs)

    def _configuration(self, trial: TrialStarted) -> str:
        """Return what a trial is averaged under: one that is no seed of a configuration, apart.

        It begins with what people call the configuration; the hash, in full, tells it from all
        others. A training's name depends on how its settings were given, and does not count.
        """
        name = trial.model if self._sweep.is_single_training else _name(trial)
        apart = ", variance" if trial.stage == "variance" else ""
        return f"{name} {trial.config_hash}{apart}"

    def _record(self, key: str) -> RunRecord | None:
        try:
            return read_record(self._folder.record(key))
        except InputError:
            return None


def _run_name(key: str) -> str:
    return f"trial {key}" if key else "the sweep's own run"


def _name(trial: TrialStarted) -> str:
    """Return what people call a trial's configuration, or its model's name."""
    return trial.name or trial.model
