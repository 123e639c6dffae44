"""Ray Tune, set up to ask a worklist for all and to decide nothing itself.

Tune's own restore is not used: each start is a new Tune experiment whose jobs come from the
planner, and an interrupted trial's job names the newest checkpoint that it left. Nor are its
checkpoints: a trial's process puts its own where they stay, before it tells of an epoch.
"""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial

from sg_ray.cluster.losses import infrastructure_failure
from sg_ray.cluster.nodes.leaving_nodes import LeavingNodes
from sg_ray.cluster.nodes.node_check import NodeCheck
from sg_ray.cluster.nodes.premises import Premises
from sg_ray.cluster.placing.admission import any_group, check_fits
from sg_ray.cluster.placing.capacity import Capacity, Growth, capacity
from sg_ray.cluster.stop_board import StopBoard
from sg_ray.errors import InfrastructureError, SgRayError
from sg_ray.host.disk import disk_trouble
from sg_ray.host.signals import StopRequest
from sg_ray.jobs.job import TrainJob, parse_job
from sg_ray.sweep.execute.actor import JOB, Shared, TrialActor
from sg_ray.sweep.execute.executor import Execution, Setting, told_positions
from sg_ray.sweep.execute.grace import Grace, places_of
from sg_ray.sweep.execute.in_flight import InFlight
from sg_ray.sweep.execute.room import Room
from sg_ray.sweep.execute.tune_hooks import PlanSearcher, PruningScheduler, RecordingCallback
from sg_ray.sweep.execute.worklist import Worklist
from sg_ray.sweep_folder import RAY_LOG
from sg_ray.trial.own_code import OwnCode

_WAITING_ACTOR = {"node:__internal_head__": 0.001}
"""What the Tune actor of a multi-worker trial takes: nothing its workers need, for it only waits.

A bundle must not be empty, and a hundredth of a CPU would keep the workers from filling the node.
"""

_TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # records replace Tune's own logs
    "RAY_AIR_NEW_OUTPUT": "0",  # the newer output prints even when told to be silent
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # signals are ours, see on_step_begin
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # no snapshots of Tune: nobody would read them
    # Their processes start side by side. Tune would wait for one before it asks for the next: on
    # hundreds of nodes for half an hour. What is handed out is ``Room``'s to say.
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
}


def run_tune(worklist: Worklist, setting: Setting, stop: StopRequest, *, of_own: bool) -> Execution:
    """Run jobs until the worklist has no more, as of ``Executor.execute``. Ray is initialised.

    ``of_own`` says that Ray was started for this sweep, on this machine: nodes neither come nor go.
    """
    os.environ.update(_TUNE_ENVIRONMENT)
    supplies, folder = setting.supplies, setting.folder
    flight = InFlight(stop, supplies.max_failures)
    attempt = folder.new_attempt  # becomes the Tune experiment
    grace = Grace(setting.grace_s, places_of(folder, attempt))
    own_code = OwnCode.of(setting.takes, setting.own_metrics)
    with _explaining_rays_end(), ExitStack() as held:
        nodes = None
        if not of_own or len(ray.nodes()) > 1:  # else it is this very code, on this machine
            nodes = held.enter_context(NodeCheck(folder, own_code.modules, worklist.on_node))
            nodes.ask_all(setting.takes)
            if any_group(setting.takes):
                held.callback(flight.left_groups.remove)
        flight.nodes = nodes
        board = StopBoard()
        shared = Shared(
            ray.put(supplies.features),
            own_code,
            supplies.cache_dir.absolute(),
            folder,
            attempt,
            supplies.max_failures,
            Premises() if nodes is None else nodes.premises,
            supplies.checkpoint_every_s,
            board.actor,
        )
        away = set[str] if nodes is None else nodes.away
        flight.leaving = None if of_own else LeavingNodes(board)
        growth = None if of_own else Growth(ray.get_runtime_context().gcs_address)
        callback = RecordingCallback(worklist, flight, board, grace)
        room = _room(setting, lambda: capacity(growth, away=away()))
        tuner = _tuner(worklist, setting, flight, shared, callback, room)
        stop.raises = False  # from here on there are positions to save
        with suppress(KeyboardInterrupt):  # see on_step_begin
            tuner.fit()
        board.close()
    stop.raises = True
    if flight.error is not None:
        raise flight.error
    if flight.done and not stop():
        return Execution(is_finished=True)
    if not stop():  # Tune's own handler heard it, before any trial began: see setup
        stop.number = signal.SIGUSR1
    has_saved = [grace.has_saved(job) for job in flight.saving]  # what was not heard in time
    num_saved = flight.num_saved + sum(has_saved)
    positions = told_positions(num_saved, has_saved.count(False))
    return Execution(is_finished=False, positions=positions)


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
            f"Ray could not go on: {reason} ({RAY_LOG} tells more). All that was recorded is kept: "
            "the same command again, or --resume, goes on from there."
        ) from error


def _tuner(
    worklist: Worklist,
    setting: Setting,
    flight: InFlight,
    shared: Shared,
    callback: RecordingCallback,
    room: Room,
) -> tune.Tuner:
    trainable = tune.with_parameters(TrialActor, shared=shared)
    return tune.Tuner(
        tune.with_resources(trainable, _placement),
        tune_config=tune.TuneConfig(
            num_samples=-1,
            search_alg=PlanSearcher(worklist, flight, room),
            scheduler=PruningScheduler(worklist, flight),
            # Tune does not see what a group of workers takes: an actor kept for reuse would
            # hold what the next trial's workers wait for.
            reuse_actors=not any_group(setting.takes),
            trial_name_creator=_job_name,
            trial_dirname_creator=_job_name,
        ),
        run_config=tune.RunConfig(
            name=shared.attempt.name,
            storage_path=str(shared.attempt.parent.absolute()),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),  # see on_trial_error
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[callback],
        ),
    )


def _room(setting: Setting, capacity_now: Callable[[], Capacity]) -> Room:
    """Return the room for trials. Raises InputError for one that can never fit."""
    room = Room(set(setting.takes.values()), capacity_now, setting.max_concurrent_trials)
    if not room.capacity.may_grow:
        check_fits(setting.takes, room.capacity.at_most)
    return room


def _placement(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    job = parse_job(config[JOB])
    takes = job.resources
    if isinstance(job, TrainJob) and takes.is_group:
        return tune.PlacementGroupFactory([_WAITING_ACTOR])
    return _bundle(takes.cpus, takes.gpus)


@cache  # Tune keeps what each trial takes: 1 KB, unless they share it
def _bundle(cpus: float, gpus: float) -> tune.PlacementGroupFactory:
    return tune.PlacementGroupFactory([{"CPU": cpus, "GPU": gpus}])


def _job_name(trial: Trial) -> str:
    return parse_job(trial.config[JOB]).name
