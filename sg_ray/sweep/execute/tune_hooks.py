"""What Tune asks and is told: which job comes next, what to give up, what became of each."""

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sg_ray.cluster.losses import infrastructure_failure
from sg_ray.cluster.nodes.placement_groups import HOLD, told_holders
from sg_ray.cluster.stop_board import StopBoard
from sg_ray.cluster.trouble import temporary_folder
from sg_ray.host.disk import disk_trouble
from sg_ray.jobs.job import AnyJob, StackJob, TrainJob
from sg_ray.records.record import Failure
from sg_ray.sweep.execute.actor import JOB
from sg_ray.sweep.execute.executor import lose, tell_round
from sg_ray.sweep.execute.grace import Grace
from sg_ray.sweep.execute.in_flight import InFlight
from sg_ray.sweep.execute.room import Gap, Room
from sg_ray.sweep.execute.tune_actors import take_over
from sg_ray.sweep.execute.worklist import Worklist


def _guarded(method: Callable[..., None]) -> Callable[..., None]:
    """Keep a callback's exception for ``execute``: Tune would blame the trial for it."""

    @wraps(method)
    def call(self: "RecordingCallback", *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.flight.error = self.flight.error or error

    return call


class _Inert:
    """Tune pickles searchers, schedulers and callbacks for a restore that is never used."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class PlanSearcher(_Inert, Searcher):
    """Hands the planner's jobs to Tune, no more at a time than there is room for."""

    def __init__(self, worklist: Worklist, flight: InFlight, room: Room) -> None:
        super().__init__()
        self._worklist, self._flight, self._room = worklist, flight, room

    def suggest(self, trial_id: str) -> Any:
        """Return the configuration of a job; None for none now, FINISHED for none any more."""
        try:
            return self._suggest(trial_id)
        except Exception as error:
            self._flight.error = self._flight.error or error
            return Searcher.FINISHED

    def _suggest(self, trial_id: str) -> Any:
        jobs = self._flight.jobs
        gap = self._room.beside(jobs.values(), len(jobs) - len(self._flight.started))
        job = self._next_job(gap)
        if job is None:
            ends = self._flight.error is not None or self._flight.stop()
            self._flight.done = not jobs and (ends or not gap.was_refused)
            if not jobs and not self._flight.done:  # Tune asks on and on, and does nothing else
                self._flight.look_around()
                self._flight.waiting.tell(self._worklist, _why_none_is_asked_for)
            return Searcher.FINISHED if self._flight.done else None
        jobs[trial_id] = job
        return {JOB: job.model_dump_json()}

    def _next_job(self, gap: Gap) -> AnyJob | None:
        if self._flight.error or self._flight.stop():
            return None
        if self._flight.jobs and self._room.is_full(gap):
            return None  # as nearly always: nobody else is asked
        for index, lost in enumerate(self._flight.lost):
            if gap(lost.resources):
                again = self._worklist.again(self._flight.lost.pop(index))
                return self._next_job(gap) if again is None else again
        return self._worklist.next_job(gap)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: the callback below has more to go by."""

    def save(self, checkpoint_path: str) -> None:
        """Leave the file that Tune asks for, empty."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Refuse."""
        raise NotImplementedError("a sweep resumes from its records, not from Tune's state")


class PruningScheduler(_Inert, FIFOScheduler):
    """Stops a trial when the planner gives it up."""

    def __init__(self, worklist: Worklist, flight: InFlight) -> None:
        super().__init__()
        self._worklist, self._flight = worklist, flight

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Put our keepers of actors in place, while there are none to keep."""
        controller = tune_controller._tune_controller  # what comes is a wrapper around it
        take_over(controller, keeps_idle=self._flight.leaving is None)
        keep_from_asking(trial)
        super().on_trial_add(tune_controller, trial)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Leave the process of a trial whose node is to be taken away."""
        if result.get("interrupted") == "preempted":
            tracked_actor = tune_controller._trial_to_actor[trial]
            tune_controller._actor_manager.leave(tracked_actor)
        super().on_trial_complete(tune_controller, trial, result)

    def on_trial_result(self, _controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return whether to go on after an epoch. Tune asks of all but the last."""
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


class RecordingCallback(_Inert, tune.Callback):
    """Tells the worklist what became of each job."""

    def __init__(
        self, worklist: Worklist, flight: InFlight, board: StopBoard, grace: Grace
    ) -> None:
        self._worklist, self.flight = worklist, flight
        self._board, self._grace = board, grace
        self._is_told = False

    def setup(self, **_: Any) -> None:
        """Take SIGUSR1 back: Tune has just put a handler of its own in place."""
        self.flight.stop.hear()

    def on_step_begin(self, **_: Any) -> None:
        """After a signal, tell the trials; give up what has no position or saves none in time."""
        if not self.flight.stop():
            self._look_around()
            self._tell_of_waiting()
            return
        saving = self.flight.saving
        if not self._is_told:
            self._is_told = True
            self._grace.begin(saving)
            self._board.ask_to_stop()
        if not saving or self._grace.is_over(saving):
            raise KeyboardInterrupt

    @_guarded
    def _look_around(self) -> None:
        self.flight.look_around()

    @_guarded
    def _tell_of_waiting(self) -> None:
        """Say once a minute that there are trials to run, and that none has begun."""
        if self.flight.started or not self.flight.jobs:
            self.flight.waiting.end()
        else:
            self.flight.waiting.tell(self._worklist, _why_none_begins)

    @_guarded
    def on_trial_start(self, *, trial: Trial, **_: Any) -> None:
        """Take note that its process has begun."""
        self.flight.started.add(trial.trial_id)
        self._worklist.on_started(self.flight.jobs[trial.trial_id])

    @_guarded
    def on_trial_result(self, *, trial: Trial, result: dict[str, Any], **_: Any) -> None:
        """Journal an epoch."""
        job = self.flight.jobs[trial.trial_id]
        self._grace.learn(result)
        if isinstance(job, TrainJob) and result.get("epoch") is not None:
            self._worklist.journal_epoch(job, result["epoch"], result["metrics"])
        if isinstance(job, StackJob) and not result.get("done"):
            self._tell_round(trial, job, result)

    def _tell_round(self, trial: Trial, job: StackJob, result: Mapping[str, Any]) -> None:
        """Tell of a round of a stack; what still trains is in flight."""
        left, lost = tell_round(self._worklist, job, result, self.flight.max_failures)
        self.flight.lost += lost
        if left is not None:
            self.flight.jobs[trial.trial_id] = left

    @_guarded
    def on_trial_complete(self, *, trial: Trial, **_: Any) -> None:
        """Take note of how it ended."""
        result = trial.last_result or {}
        self._finish(trial, result, pruned=trial.trial_id in self.flight.pruned)

    @_guarded
    def on_trial_error(self, *, trial: Trial, **_: Any) -> None:
        """Take note of the death of its process or machine."""
        failure = infrastructure_failure(_error_of(trial))
        if disk_trouble(failure.traceback):  # not the trial's fault: it stays unfinished
            self.flight.end(trial.trial_id)
            raise OSError(failure.message)
        leaving = self.flight.leaving
        if leaving is not None and leaving.explain(failure.traceback):
            self.flight.lost.append(self.flight.end(trial.trial_id).moved())
        else:
            self._lose(trial, failure)

    def _finish(self, trial: Trial, result: Mapping[str, Any], *, pruned: bool) -> None:
        job, checkpoint = self.flight.jobs[trial.trial_id], _checkpoint(trial)
        if result.get("interrupted"):
            self.flight.end(trial.trial_id)
            self._keep_interrupted(job, num_saved=int(result["has_position"]))
        elif self.flight.error is not None:  # it was cut short
            self.flight.end(trial.trial_id)
        elif isinstance(job, StackJob):
            self.flight.end(trial.trial_id)
            _, lost = tell_round(self._worklist, job, result, self.flight.max_failures)
            self.flight.lost += lost
        elif lack := self._worklist.failure_of_results(job, result, checkpoint, pruned=pruned):
            self._lose(trial, lack)
        else:
            self.flight.end(trial.trial_id)
            self._worklist.on_finished(job, result, checkpoint, pruned=pruned)
        _forget_results(trial)

    def _keep_interrupted(self, job: AnyJob, *, num_saved: int) -> None:
        """Count what a stop has saved; hand out again what was told of its machine's end alone."""
        if self.flight.stop():
            self.flight.num_saved += num_saved
        else:
            self.flight.lost.append(job.moved())

    def _lose(self, trial: Trial, failure: Failure) -> None:
        """Hand a lost job out again, or count it as failed if that was its last chance."""
        job, nodes = self.flight.end(trial.trial_id), self.flight.nodes
        host = None if nodes is None else nodes.lost_on(failure.traceback)
        if job.resources.is_group:
            self.flight.left_groups.expect()
        checkpoint, max_failures = _checkpoint(trial), self.flight.max_failures
        again = lose(self._worklist, job, failure, checkpoint, max_failures, host=host)
        if again is None:
            _forget_results(trial)
        else:
            self.flight.lost.append(again)


def _why_none_is_asked_for() -> str:
    """Say what the cluster has: none of the trials that are left would fit."""
    have = ray.cluster_resources()
    has = " and ".join(f"{have.get(name, 0):g} {name}s" for name in ("CPU", "GPU"))
    return f"no machine that the cluster has now can hold one ({has} in all)"


def _why_none_begins() -> str:
    """Say whether the cluster has room for a trial that Ray has been asked for."""
    table = ray.util.placement_group_table().values()
    asked_for = [group["state"] for group in table if not group["name"].startswith(HOLD)]
    if {"PENDING", "RESCHEDULING"} & set(asked_for):
        have, free = ray.cluster_resources(), ray.available_resources()
        shares = (f"{free.get(n, 0):g} of {have[n]:g} {n}s" for n in ("CPU", "GPU") if n in have)
        room = f"Ray has no room for one ({', '.join(shares) or 'no CPUs'} are free)"
        return "; ".join(filter(None, [room, told_holders()]))
    logs = temporary_folder() / "ray/session_latest/logs"
    return f"Ray has room for one, but its process does not start; on its node {logs} tells more"


def _error_of(trial: Trial) -> str:
    """Return what Tune wrote down of the death of a trial's process or machine."""
    path = trial.error_file  # Tune's copy in storage comes later
    return Path(path).read_text(encoding="utf-8", errors="replace") if path else ""


def _checkpoint(trial: Trial) -> Path | None:
    """Return the folder of the last whole epoch, as the trial's process has told of it."""
    path = (trial.last_result or {}).get("checkpoint")
    return None if path is None else Path(path)


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
