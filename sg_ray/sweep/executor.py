"""Ray Tune as the executor: it asks the planner for jobs, runs them, and writes what came out.

Tune's own restore is not used: each start is a new Tune experiment whose jobs come from the
planner, and an interrupted trial's job names the newest Tune checkpoint that it left.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, wraps
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sg_ray.config import Experiment
from sg_ray.errors import InputError
from sg_ray.features.packed import Features
from sg_ray.sweep.actor import JOB, Shared, TrialActor
from sg_ray.sweep.admission import num_fitting_trials
from sg_ray.sweep.disk import disk_trouble
from sg_ray.sweep.jobs import AnyJob, TrainJob, parse_job
from sg_ray.sweep.signals import StopRequest, stop_path
from sg_ray.sweep.worklist import Worklist
from sg_ray.trial import Families

_WAITING_ACTOR = {"node:__internal_head__": 0.001}
"""What the Tune actor of a multi-worker trial takes: nothing its workers need, for it only waits.

A bundle must not be empty, and a hundredth of a CPU would keep the workers from filling the node.
"""

_TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # records replace Tune's own logs
    "RAY_AIR_NEW_OUTPUT": "0",  # the newer output prints even when told to be silent
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # signals are ours, see on_step_begin
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # no snapshots of Tune: nobody would read them
}

GRACE_S = 30.0
"""How long trials get to save their position after a signal; what cannot be saved is left."""


@dataclass
class _InFlight:
    """Jobs handed to Tune and not yet finished, by Tune's trial id."""

    stop: StopRequest
    max_failures: int
    jobs: dict[str, AnyJob] = field(default_factory=dict)
    pruned: set[str] = field(default_factory=set)
    lost: list[AnyJob] = field(default_factory=list)
    """Jobs whose process or machine died, to be handed out again."""
    error: Exception | None = None
    """What went wrong in our own bookkeeping (a full disk, say). Nothing more is started."""
    done: bool = False


def _guarded(method: Callable[..., None]) -> Callable[..., None]:
    """Keep a callback's exception for ``execute``: Tune would blame the trial for it."""

    @wraps(method)
    def call(self: "_RecordingCallback", *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.flight.error = self.flight.error or error

    return call


class _Inert:
    """Tune pickles searchers, schedulers and callbacks for a restore that is never used."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _PlanSearcher(_Inert, Searcher):
    """Hands the planner's jobs to Tune, no more at a time than may run."""

    def __init__(self, worklist: Worklist, flight: _InFlight, max_concurrent: int) -> None:
        super().__init__()
        self._worklist, self._flight, self._max_concurrent = worklist, flight, max_concurrent

    def suggest(self, trial_id: str) -> Any:
        try:
            return self._suggest(trial_id)
        except Exception as error:
            self._flight.error = self._flight.error or error
            return Searcher.FINISHED

    def _suggest(self, trial_id: str) -> Any:
        if len(self._flight.jobs) >= self._max_concurrent:
            return None
        job = self._next_job()
        if job is None:
            self._flight.done = not self._flight.jobs
            return Searcher.FINISHED if self._flight.done else None
        self._flight.jobs[trial_id] = job
        return {JOB: job.model_dump_json()}

    def _next_job(self) -> AnyJob | None:
        if self._flight.error or self._flight.stop():
            return None
        if self._flight.lost:
            return self._worklist.again(self._flight.lost.pop(0))
        return self._worklist.next_job()

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: the callback below has more to go by."""

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep resumes from its records, not from Tune's state")


class _PruningScheduler(_Inert, FIFOScheduler):
    """Stops a trial when the planner gives it up."""

    def __init__(self, worklist: Worklist, flight: _InFlight) -> None:
        super().__init__()
        self._worklist, self._flight = worklist, flight

    def on_trial_result(self, _controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        job = self._flight.jobs[trial.trial_id]
        stop = self._flight.error is not None
        if isinstance(job, TrainJob) and not stop:
            try:
                stop = self._worklist.on_epoch(job, result["epoch"], _metrics(result))
            except Exception as error:
                self._flight.error, stop = error, True
            if stop and self._flight.error is None:
                self._flight.pruned.add(trial.trial_id)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)


class _RecordingCallback(_Inert, tune.Callback):
    """Tells the worklist what became of each job."""

    def __init__(self, worklist: Worklist, flight: _InFlight) -> None:
        self._worklist, self.flight = worklist, flight
        self._deadline_s: float | None = None

    def on_step_begin(self, **_: Any) -> None:
        """Give up the trials that do not heed a stop in time."""
        if not self.flight.stop():
            return
        if self._deadline_s is None:
            self._deadline_s = time.monotonic() + GRACE_S
        elif time.monotonic() > self._deadline_s:
            raise KeyboardInterrupt

    @_guarded
    def on_trial_start(self, *, trial: Trial, **_: Any) -> None:
        self._worklist.on_started(self.flight.jobs[trial.trial_id])

    @_guarded
    def on_trial_result(self, *, trial: Trial, result: dict[str, Any], **_: Any) -> None:
        job = self.flight.jobs[trial.trial_id]
        if isinstance(job, TrainJob) and result.get("epoch") is not None:
            self._worklist.journal_epoch(job, result["epoch"], result["metrics"])

    @_guarded
    def on_trial_complete(self, *, trial: Trial, **_: Any) -> None:
        result = trial.last_result or {}
        self._finish(trial, result, pruned=trial.trial_id in self.flight.pruned)

    @_guarded
    def on_trial_error(self, *, trial: Trial, **_: Any) -> None:
        job = self.flight.jobs[trial.trial_id]
        failure = _infrastructure_failure(trial)
        if disk_trouble(failure["traceback"]):  # not the trial's fault: it stays unfinished
            del self.flight.jobs[trial.trial_id]
            raise OSError(failure["message"])
        if job.num_losses < self.flight.max_failures:
            del self.flight.jobs[trial.trial_id]
            self._worklist.on_lost(job, failure["message"])
            self.flight.lost.append(job.model_copy(update={"num_losses": job.num_losses + 1}))
        else:
            self._finish(trial, {"failure": failure}, pruned=False)

    def _finish(self, trial: Trial, result: Mapping[str, Any], *, pruned: bool) -> None:
        checkpoint = Path(trial.checkpoint.path) if trial.checkpoint else None
        job = self.flight.jobs.pop(trial.trial_id)
        was_cut_short = self.flight.error is not None or result.get("interrupted", False)
        if not was_cut_short:
            self._worklist.on_finished(job, result, checkpoint, pruned=pruned)
        _forget_results(trial)


def execute(
    experiment: Experiment,
    worklist: Worklist,
    features: Features,
    families: Families,
    *,
    attempt_dir: Path,
    grows: bool,
    stop: StopRequest,
) -> bool:
    """Run jobs until the worklist has no more. Ray must be initialised.

    Return False if ``stop`` was asked for first: then running trials have saved their positions
    in the middle of an epoch, as far as they could. Raises what our own bookkeeping met.

    ``attempt_dir`` is a folder of this start alone: it becomes the Tune experiment. ``grows`` says
    that Ray may add nodes, so that what it has now is not the limit.
    """
    os.environ.update(_TUNE_ENVIRONMENT)
    flight = _InFlight(stop, experiment.max_failures)
    stop.file = stop_path(experiment.sweep_dir)
    stop.file.unlink(missing_ok=True)
    trainable = tune.with_parameters(
        TrialActor,
        shared=Shared(
            features_ref=ray.put(features),
            families=dict(families),
            cache_dir=experiment.cache_dir.absolute(),
            sweep_dir=experiment.sweep_dir,
            max_failures=experiment.max_failures,
        ),
    )
    tuner = _tuner(experiment, worklist, flight, trainable, attempt_dir=attempt_dir, grows=grows)
    stop.raises = False  # from here on there are positions to save
    with suppress(KeyboardInterrupt):  # the end of the grace period
        tuner.fit()
    stop.raises = True
    stop.file.unlink(missing_ok=True)
    if flight.error is not None:
        raise flight.error
    return flight.done and not stop()


def _tuner(
    experiment: Experiment,
    worklist: Worklist,
    flight: _InFlight,
    trainable: Any,
    *,
    attempt_dir: Path,
    grows: bool,
) -> tune.Tuner:
    """Return Tune, set up to ask ``worklist`` for all and to decide nothing itself."""
    return tune.Tuner(
        tune.with_resources(trainable, _placement),
        tune_config=tune.TuneConfig(
            num_samples=-1,
            search_alg=_PlanSearcher(worklist, flight, max_concurrent_trials(experiment, grows)),
            scheduler=_PruningScheduler(worklist, flight),
            # Tune does not see what a group of workers takes: an actor kept for reuse would
            # hold what the next trial's workers wait for.
            reuse_actors=not any_group(experiment),
            trial_name_creator=_job_name,
            trial_dirname_creator=_job_name,
        ),
        run_config=tune.RunConfig(
            name=attempt_dir.name,
            storage_path=str(attempt_dir.parent.absolute()),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),  # see on_trial_error
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2, checkpoint_frequency=1),
            callbacks=[_RecordingCallback(worklist, flight)],
        ),
    )


def any_group(experiment: Experiment) -> bool:
    """Return True if a family's trials run on several workers."""
    takes = map(experiment.resources_of, experiment.all_families)
    return any(resources.num_workers > 1 for resources in takes)


def max_concurrent_trials(experiment: Experiment, grows: bool) -> int:
    """Return how many trials can run at once without waiting for each other's workers.

    The smallest over CPUs and GPUs of "what the cluster has / what the largest trial takes",
    at most ``max_concurrent_trials`` if that is set; on a cluster that grows, that number itself.
    Raises InputError if a trial does not fit.
    """
    if grows and experiment.max_concurrent_trials is not None:
        return experiment.max_concurrent_trials
    try:
        fits = num_fitting_trials(experiment, ray.cluster_resources())
    except InputError as error:
        hint = " On a cluster that adds nodes, set max_concurrent_trials=N." if grows else ""
        raise InputError(f"{error}{hint}") from error
    return min(fits, experiment.max_concurrent_trials or fits)


def _placement(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    job = parse_job(config[JOB])
    takes = job.resources
    if isinstance(job, TrainJob) and takes.num_workers > 1:
        return tune.PlacementGroupFactory([_WAITING_ACTOR])
    return _bundle(takes.cpus, takes.gpus)


@cache  # Tune keeps what each trial takes: 1 KB, unless they share it
def _bundle(cpus: float, gpus: float) -> tune.PlacementGroupFactory:
    return tune.PlacementGroupFactory([{"CPU": cpus, "GPU": gpus}])


def _job_name(trial: Trial) -> str:
    return parse_job(trial.config[JOB]).name


def _infrastructure_failure(trial: Trial) -> dict[str, str]:
    """Return why Tune gave a trial up: its process or machine died too often."""
    path = trial.error_file  # Tune's copy in storage comes later
    text = Path(path).read_text(encoding="utf-8", errors="replace") if path else ""
    lines = text.strip().splitlines() or ["its process or machine died"]
    return {"kind": "InfrastructureError", "message": lines[-1].strip(), "traceback": text}


def _forget_results(trial: Trial) -> None:
    """Free what Tune gathers of a trial's results, and keeps to the end of the sweep.

    It is 50 KB a trial, four fifths of what a sweep of thousands would grow by; nobody reads it.
    """
    known = trial.run_metadata
    known.metric_analysis.clear()
    known.metric_n_steps.clear()
    known.last_result = {"done": True}  # an empty one would have Tune ask the actor for another
    for checkpoint in known.checkpoint_manager.best_checkpoint_results:
        checkpoint.metrics = {}


def _metrics(result: Mapping[str, Any]) -> dict[str, Any]:
    """Undo Tune's flattening: it hands schedulers ``metrics/val_f1``."""
    prefix = "metrics/"
    return {k.removeprefix(prefix): v for k, v in result.items() if k.startswith(prefix)}
