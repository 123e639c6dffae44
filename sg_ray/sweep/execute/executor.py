"""Ray Tune as the executor: it asks the planner for jobs, runs them, and writes what came out.

Tune's own restore is not used: each start is a new Tune experiment whose jobs come from the
planner, and an interrupted trial's job names the newest Tune checkpoint that it left.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, wraps
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import (
    LocalRayletDiedError,
    RayActorError,
    RayError,
    RaySystemError,
    RayTaskError,
)
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sg_ray.cluster.admission import any_group, num_fitting_trials
from sg_ray.cluster.losses import infrastructure_failure
from sg_ray.cluster.trouble import temporary_folder
from sg_ray.config import Experiment
from sg_ray.errors import InfrastructureError, InputError, SgRayError
from sg_ray.features.packed import Features
from sg_ray.host.disk import disk_trouble
from sg_ray.host.signals import StopRequest
from sg_ray.models.families import get_family
from sg_ray.models.family import EstimatorFamily
from sg_ray.records.record import Failure
from sg_ray.sweep.execute.actor import JOB, Shared, TrialActor
from sg_ray.sweep.execute.checkpoints import keep_position
from sg_ray.sweep.execute.worklist import Worklist
from sg_ray.sweep.plan.jobs import AnyJob, TrainJob, parse_job
from sg_ray.trial import OwnCode

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

WAIT_TOLD_S = 60.0
"""So often it is said that no trial begins."""


@dataclass
class _InFlight:
    """Jobs handed to Tune and not yet finished, by Tune's trial id."""

    stop: StopRequest
    max_failures: int
    jobs: dict[str, AnyJob] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    """Of the jobs, those whose process has begun."""
    pruned: set[str] = field(default_factory=set)
    lost: list[AnyJob] = field(default_factory=list)
    """Jobs whose process or machine died, to be handed out again."""
    error: Exception | None = None
    """What went wrong in our own bookkeeping (a full disk, say). Nothing more is started."""
    done: bool = False
    num_saved: int = 0
    """Trainings that a stop has met, and that have saved their position."""

    @property
    def num_saving(self) -> int:
        """Running trainings that learn by steps: an estimator's fit has no position in it."""
        running = [job for trial_id, job in self.jobs.items() if trial_id in self.started]
        trained = [get_family(job.spec.family) for job in running if isinstance(job, TrainJob)]
        return sum(not isinstance(family, EstimatorFamily) for family in trained)

    def end(self, trial_id: str) -> AnyJob:
        """Return the job that was Tune's trial; it is in flight no longer."""
        self.started.discard(trial_id)
        return self.jobs.pop(trial_id)


@dataclass(frozen=True)
class Execution:
    """How far an executor came: to the end, or to a signal that ``positions`` tells of."""

    is_finished: bool
    positions: str = ""


def _guarded(method: Callable[..., None]) -> Callable[..., None]:
    """Keep a callback's exception for ``execute``: Tune would blame the trial for it."""

    @wraps(method)
    def call(self: "_RecordingCallback", *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.flight.error = self.flight.error or error

    return call


class _ActorManager(RayActorManager):
    """Tune's keeper of actors, for whom every death of an actor is one.

    Ray's own knows ``RayActorError`` alone. Of an actor that the memory monitor ended it hears
    ``OutOfMemoryError``, and gives up the whole run. The class is private: Ray's release is pinned.
    """

    def _actor_task_failed(
        self, tracked_actor_task: TrackedActorTask, exception: Exception
    ) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, _NO_ACTORS_DEATH):
            exception = RayActorError(error_msg=str(exception))
        super()._actor_task_failed(tracked_actor_task, exception)


_NO_ACTORS_DEATH = (RayActorError, RayTaskError, LocalRayletDiedError, RaySystemError)
"""What Ray's keeper knows, and what ends Ray itself."""


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

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Put our keeper of actors in place, while there are none to keep."""
        controller = tune_controller._tune_controller  # what comes is a wrapper around it
        manager = controller._actor_manager
        if not isinstance(manager, _ActorManager):
            controller._actor_manager = _ActorManager(manager._resource_manager)
        keep_from_asking(trial)
        super().on_trial_add(tune_controller, trial)

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
        self._idle_since_s = self._told_at_s = time.monotonic()

    def setup(self, **_: Any) -> None:
        """Take SIGUSR1 back: Tune has just put a handler of its own in place."""
        self.flight.stop.hear()

    def on_step_begin(self, **_: Any) -> None:
        """Give up, after a signal, what has no position to save or does not do so in time."""
        if not self.flight.stop():
            self._tell_of_waiting()
            return
        if self._deadline_s is None:
            self._deadline_s = time.monotonic() + GRACE_S
        if not self.flight.num_saving or time.monotonic() > self._deadline_s:
            raise KeyboardInterrupt

    @_guarded
    def _tell_of_waiting(self) -> None:
        """Say once a minute that there are trials to run, and that none has begun."""
        now_s = time.monotonic()
        if self.flight.started or not self.flight.jobs:
            self._idle_since_s = self._told_at_s = now_s
        elif now_s - self._told_at_s >= WAIT_TOLD_S:
            self._told_at_s = now_s
            self._worklist.on_waiting(now_s - self._idle_since_s, _why_none_begins())

    @_guarded
    def on_trial_start(self, *, trial: Trial, **_: Any) -> None:
        self.flight.started.add(trial.trial_id)
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
        failure = infrastructure_failure(_error_of(trial))
        if disk_trouble(failure.traceback):  # not the trial's fault: it stays unfinished
            self.flight.end(trial.trial_id)
            raise OSError(failure.message)
        self._lose(trial, failure)

    def _finish(self, trial: Trial, result: Mapping[str, Any], *, pruned: bool) -> None:
        job, checkpoint = self.flight.jobs[trial.trial_id], _checkpoint(trial)
        if result.get("interrupted", False):
            self.flight.end(trial.trial_id)
            self.flight.num_saved += checkpoint is not None and keep_position(checkpoint)
        elif self.flight.error is not None:  # it was cut short
            self.flight.end(trial.trial_id)
        elif lack := self._worklist.failure_of_results(job, result, checkpoint, pruned=pruned):
            self._lose(trial, lack)
        else:
            self.flight.end(trial.trial_id)
            self._worklist.on_finished(job, result, checkpoint, pruned=pruned)
        _forget_results(trial)

    def _lose(self, trial: Trial, failure: Failure) -> None:
        """Hand a lost job out again, or count it as failed if that was its last chance."""
        job = self.flight.end(trial.trial_id)
        if job.num_losses < self.flight.max_failures:
            self._worklist.on_lost(job, failure.message)
            self.flight.lost.append(job.model_copy(update={"num_losses": job.num_losses + 1}))
            return
        result = {"failure": failure.model_dump()}
        self._worklist.on_finished(job, result, _checkpoint(trial), pruned=False)
        _forget_results(trial)


def execute(
    experiment: Experiment,
    worklist: Worklist,
    features: Features,
    *,
    attempt_dir: Path,
    grows: bool,
    stop: StopRequest,
) -> Execution:
    """Run jobs until the worklist has no more. Ray must be initialised.

    If ``stop`` is asked for first, running trials save their positions in the middle of an epoch,
    as far as they can. Raises what our own bookkeeping met, and SgRayError if Ray itself ended.

    ``attempt_dir`` is a folder of this start alone: it becomes the Tune experiment. ``grows`` says
    that Ray may add nodes, so that what it has now is not the limit.
    """
    os.environ.update(_TUNE_ENVIRONMENT)
    flight = _InFlight(stop, experiment.max_failures)
    stop.file = experiment.folder.stop
    stop.file.unlink(missing_ok=True)
    with _explaining_rays_end():
        trainable = tune.with_parameters(
            TrialActor,
            shared=Shared(
                features_ref=ray.put(features),
                own_code=OwnCode.of(experiment.all_families),
                cache_dir=experiment.cache_dir.absolute(),
                folder=experiment.folder,
                max_failures=experiment.max_failures,
            ),
        )
        tuner = _tuner(
            experiment, worklist, flight, trainable, attempt_dir=attempt_dir, grows=grows
        )
        stop.raises = False  # from here on there are positions to save
        with suppress(KeyboardInterrupt):  # see on_step_begin
            tuner.fit()
    stop.raises = True
    stop.file.unlink(missing_ok=True)
    if flight.error is not None:
        raise flight.error
    if flight.done and not stop():
        return Execution(is_finished=True)
    if not stop():  # Tune's own handler heard it, before any trial began: see setup
        stop.number = signal.SIGUSR1
    return Execution(is_finished=False, positions=_positions(flight))


@contextmanager
def _explaining_rays_end() -> Iterator[None]:
    """Turn what Ray raises, and no trial's death explains, into an error that helps."""
    try:
        yield
    except SgRayError:
        raise
    except Exception as error:
        if disk_trouble(error):  # told with the folder by whoever works on it
            raise
        logging.getLogger("ray").exception("Ray ended the sweep")
        reason = infrastructure_failure(f"{type(error).__name__}: {error}").message
        raise InfrastructureError(
            f"Ray could not go on: {reason} (ray.log tells more). All that was recorded is kept: "
            "the same command again, or --resume, goes on from there."
        ) from error


def _why_none_begins() -> str:
    """Say whether the cluster has room for a trial that Ray has been asked for."""
    groups = ray.util.placement_group_table().values()
    if any(group["state"] in ("PENDING", "RESCHEDULING") for group in groups):
        have, free = ray.cluster_resources(), ray.available_resources()
        shares = (f"{free.get(n, 0):g} of {have[n]:g} {n}s" for n in ("CPU", "GPU") if n in have)
        return f"Ray has no room for one ({', '.join(shares) or 'no CPUs'} are free)"
    logs = temporary_folder() / "ray/session_latest/logs"
    return f"Ray has room for one, but its process does not start; on its node {logs} tells more"


def _positions(flight: _InFlight) -> str:
    """Say what a stop has saved of the trainings it met."""
    num_met = flight.num_saved + flight.num_saving
    if flight.num_saving:
        return (
            f"{flight.num_saved} of {num_met} trials saved their positions in time; the others go "
            "on from their last whole epoch"
        )
    return "positions saved" if flight.num_saved else "no trial was in the middle of its training"


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


def _error_of(trial: Trial) -> str:
    """Return what Tune wrote down of the death of a trial's process or machine."""
    path = trial.error_file  # Tune's copy in storage comes later
    return Path(path).read_text(encoding="utf-8", errors="replace") if path else ""


def _checkpoint(trial: Trial) -> Path | None:
    return Path(trial.checkpoint.path) if trial.checkpoint else None


def keep_from_asking(trial: Trial) -> None:
    """Give a trial of Tune's, before its first result, something that is not empty.

    Tune would ask the actor for more where it has nothing, above all once that actor has died; and
    of one that the memory monitor ended, the answer is an error that would end the whole run.
    """
    trial.run_metadata.last_result = {"done": False}


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
