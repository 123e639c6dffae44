"""A trial on several workers: TorchTrainer under the Tune actor, epoch by epoch.

The workers train in a folder that all of them and the actor see. Rank 0 hands each epoch over and
waits until the next one is allowed, so the folder stands still while Tune copies it, and a trial
that is given up computes nothing more. What is allowed is an epoch's number, which means the same
to a group that was started again. Nothing passes through Train's own reports and snapshots: such a
group goes on from the folder's ``last.pt``.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from pydantic import ValidationError
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.train import (
    ControllerError,
    FailureConfig,
    RunConfig,
    ScalingConfig,
)
from ray.train.torch import TorchTrainer, get_device
from ray.util.queue import Empty, Queue

from sg_ray.cluster.groups.folder_claim import Claim, claim_for_group, release
from sg_ray.cluster.groups.process_group import GroupConfig
from sg_ray.cluster.losses import GroupFailure
from sg_ray.cluster.nodes.placement_groups import remove_groups_of_actor
from sg_ray.cluster.nodes.premises import Premises
from sg_ray.cluster.placing.capacity import node_types
from sg_ray.cluster.ray_private.train_tune_names import (
    PlacementGroupCleanerCallback,
    TrainController,
    WorkerGroupStartupTimeoutError,
    get_train_context,
)
from sg_ray.cluster.stop_board import Board, hear_board, helper_actor, on_this_node
from sg_ray.config import Resources
from sg_ray.errors import InfrastructureError, SgRayError
from sg_ray.files import write_json
from sg_ray.host.scratch import ScratchFolder
from sg_ray.host.stop_flag import StopReason, flag_of_this_process
from sg_ray.records.record import Failure
from sg_ray.sweep_folder import ENVIRONMENT, METRICS
from sg_ray.training.loop import EpochResult, Interrupted, ShouldStop
from sg_ray.training.saving import Saving
from sg_ray.training.workers import workers_of_group
from sg_ray.trial.context import TrialContext
from sg_ray.trial.own_code import OwnCode
from sg_ray.trial.run import run_trial
from sg_ray.trial.spec import TrialSpec

_POLL_S = 1.0
_GATE_POLL_S = 0.05
_ABORT_TIMEOUT_S = 30.0
_START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"


class _Gate(Board):
    """Actor that holds the highest epoch the workers may train, and whether they are to stop."""

    def __init__(self) -> None:
        super().__init__()
        self._allowed_epoch = 0
        self._was_reached = False

    def allow(self, epoch: int) -> None:
        self._allowed_epoch = max(self._allowed_epoch, epoch)

    def allowed_epoch(self) -> int:
        self._was_reached = True
        return self._allowed_epoch

    def was_reached(self) -> bool:
        """Return whether a worker has ever asked: all before that is set-up."""
        return self._was_reached


class WorkerGroup(Iterator[EpochResult]):
    """The epochs of a trial that several workers train together."""

    def __init__(
        self,
        spec: TrialSpec,
        resources: Resources,
        *,
        features_ref: "ray.ObjectRef[Any]",
        cache_dir: Path,
        folder: Path,
        should_stop: ShouldStop,
        board: Any = None,
        max_failures: int,
        premises: Premises,
        checkpoint_every_s: float | None = None,
    ) -> None:
        """Nothing starts before the first epoch is asked for.

        Once ``should_stop`` says so, or the driver's ``board`` to them, the workers save their
        position and end: Interrupted. A group that is still being set up has none, and is not
        waited for. One of a sweep also ends so, "preempted", if it finds no room: others hold parts
        of machines that only together are large enough. It is tried again later, at no loss.
        """
        self._folder, self._should_stop = folder, should_stop
        self._is_of_sweep = board is not None
        self._claim = claim_for_group(folder)
        self._results = Queue(actor_options=on_this_node())
        self._gate = helper_actor(_Gate)
        self._epoch = 0
        self._train_storage = ScratchFolder("train")
        self._trainer = _AbortableTrainer(
            _train_worker,
            train_loop_config={
                "spec": spec.model_dump_json(),
                "features_ref": [features_ref],
                "own_code": OwnCode.of([spec.family], spec.own_metrics),
                "premises": premises,
                "cache_dir": cache_dir,
                "folder": folder,
                "claim": self._claim,
                "boards": [self._gate] if board is None else [self._gate, board],
                "checkpoint_every_s": checkpoint_every_s,
                "is_of_sweep": self._is_of_sweep,
                "takes": resources,
                "results": self._results,
                "gate": self._gate,
            },
            torch_config=GroupConfig(backend="nccl" if resources.gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=_num_workers(resources),
                use_gpu=resources.gpus > 0,
                resources_per_worker=_per_worker(resources),
            ),
            run_config=RunConfig(
                name=spec.trial_key,
                storage_path=str(self._train_storage.path),
                failure_config=FailureConfig(
                    max_failures=max_failures,
                    # That of an elastic group also waits for machines, as long as it takes.
                    controller_failure_limit=-1 if resources.min_workers else max_failures,
                ),
            ),
        )
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def __next__(self) -> EpochResult:
        """Return the next epoch. Raises Interrupted, GroupFailure, or what ended the group."""
        self._pass_on_stop()
        if self._thread is None:
            self._thread = threading.Thread(target=self._fit, daemon=True)
            self._thread.start()
        self._epoch = max(self._epoch, num_epochs(self._folder)) + 1
        self._gate.allow.remote(self._epoch)
        was_written = False
        while True:
            try:
                message = self._results.get(timeout=_POLL_S)
            except Empty:
                if not self._thread.is_alive():
                    raise self._error or StopIteration from None
                self._pass_on_stop()
                is_written = num_epochs(self._folder) >= self._epoch
                if is_written and was_written:  # its worker died before it could hand it over
                    self._gate.allow.remote(self._epoch + 1)
                was_written = is_written
                continue
            if isinstance(message, Interrupted):
                raise Interrupted(str(message), _reason(self._should_stop()) or message.reason)
            if isinstance(message, Failure):
                raise GroupFailure(message)
            if message.epoch >= self._epoch or message.stop_reason is not None:
                result: EpochResult = message
                self._epoch = result.epoch
                return result

    def close(self) -> None:
        """End the workers, free their placement group, and drop what the group kept."""
        self._trainer.abort()
        if self._thread is not None:
            self._thread.join(_ABORT_TIMEOUT_S)
        self._results.shutdown(force=True)
        ray.kill(self._gate)
        self._train_storage.remove()
        release(self._folder, self._claim)

    def _pass_on_stop(self) -> None:
        """Have the workers stop if this process was told to; end a group that is being set up."""
        if reason := _reason(self._should_stop()):
            self._gate.ask_to_stop.remote()
            if not ray.get(self._gate.was_reached.remote()):
                raise Interrupted(reason=reason)

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:
            self._error = error
            if self._is_of_sweep and _found_no_room(error):
                self._error = Interrupted(reason="preempted")


class _AbortableTrainer(TorchTrainer):
    """TorchTrainer that keeps its controller, so that a Tune actor can end the run.

    Ray 2.60 offers this to SIGINT alone, and only on the main thread. The methods below are private
    to Ray: its release is pinned.
    """

    _controller: Any = None

    def _create_default_callbacks(self) -> list[Any]:
        # Without the detached actor that frees what a dead controller held: it is not told of it
        # before the workers run, weighs 600 MB, and outlives a sweep. See ``LeftGroups``.
        every = super()._create_default_callbacks()
        return [one for one in every if not isinstance(one, PlacementGroupCleanerCallback)]

    def _initialize_and_run_controller(self, **kwargs: Any) -> Any:
        # What the controller starts finds the cluster by this address, not by looking around: it
        # would find none among several on one machine.
        address = ray.get_runtime_context().gcs_address
        variables = {"RAY_ADDRESS": address, **_patience(self.scaling_config, address)}
        controller_class = ray.remote(**on_this_node(), runtime_env={"env_vars": variables})(
            TrainController
        )
        self._controller = controller_class.remote(**kwargs)
        ray.get(self._controller.run.remote())
        return ray.get(self._controller.get_result.remote())

    def abort(self) -> None:
        """End the run if it is still going on."""
        if self._controller is None:
            return
        with suppress(RayActorError, GetTimeoutError):  # it ends itself, as it was asked to
            ray.get(self._controller.abort.remote(), timeout=_ABORT_TIMEOUT_S)
        ray.kill(self._controller)
        with suppress(RayError):  # as at Ray's end
            # One that was ended while it set its workers up has not freed what it had asked for.
            remove_groups_of_actor(self._controller._actor_id.hex())


def _patience(scaling: ScalingConfig, address: str) -> dict[str, str]:
    """Return what has workers wait for machines that an autoscaler may start.

    Train gives up after a minute, and three minutes later the trial would count as lost. An elastic
    group goes on asking, for it may do with fewer.
    """
    is_elastic = not isinstance(scaling.num_workers, int)
    if is_elastic or _START_TIMEOUT in os.environ or node_types(address) == []:
        return {}
    return {_START_TIMEOUT: str(24 * 3600)}


def _found_no_room(error: Exception) -> bool:
    return isinstance(error, ControllerError) and isinstance(
        error.controller_failure, WorkerGroupStartupTimeoutError
    )


def _reason(stop: StopReason | bool | None) -> StopReason | None:
    return "stop" if stop is True else stop or None


def _train_worker(config: dict[str, Any]) -> None:
    """Run on each worker: the trial's epochs, handed over by rank 0."""
    spec = TrialSpec.model_validate_json(config["spec"])
    config["premises"].require_here()
    config["own_code"].plug_in()
    features = ray.get(config["features_ref"][0])
    # Train would fall back to the CPU without a word; ``of`` does not. Its own device is this
    # worker's one among several.
    context = TrialContext.of(config["takes"], features, config["cache_dir"])
    context = replace(context, device=get_device())
    workers = workers_of_group(context.device)
    hand_over = workers.rank == 0
    folder, flag = config["folder"], flag_of_this_process()
    for board in config["boards"]:
        hear_board(board, flag)

    def should_stop() -> StopReason | None:
        return flag() or ("preempted" if _is_on_notice() else None)

    try:
        claim = Claim(folder, config["claim"]) if hand_over else None
        saving = Saving(config["checkpoint_every_s"], check=claim.check if claim else lambda: None)
        if hand_over:
            write_json(folder / ENVIRONMENT, context.environment)
            _wait_for(config["gate"], num_epochs(folder) + 1)
        epochs = run_trial(
            spec, context, folder, workers=workers, should_stop=should_stop, saving=saving
        )
        for result in epochs:
            if hand_over:
                config["results"].put(result)
                if result.stop_reason is None:
                    _wait_for(config["gate"], result.epoch + 1)
    except Interrupted as interrupted:
        # A sweep hands the trial out again where there is room, once a machine is to be taken away.
        # Else Train starts the group again without it.
        if hand_over and (interrupted.reason == "stop" or config["is_of_sweep"]):
            config["results"].put(interrupted)
        workers.barrier()  # Train ends them all once one has: not before rank 0 has said why
        raise
    except InfrastructureError:
        raise  # another machine may do: Train starts again
    except (SgRayError, ValidationError) as error:
        config["results"].put(Failure.of(error))
        raise
    # Anything else may be a worker's or a machine's death, seen from here: Train starts again.


def _is_on_notice() -> bool:
    """Whether this worker has heard that a machine of its group is to be taken away.

    Train's own ``get_preemption_info`` waits for all workers to ask: one that was told to stop
    would not, and they would wait for each other. The training itself has them agree.
    """
    return get_train_context().preemption_context.preemption_info is not None


def _wait_for(gate: Any, epoch: int) -> None:
    while ray.get(gate.allowed_epoch.remote()) < epoch:
        time.sleep(_GATE_POLL_S)


def num_epochs(folder: Path) -> int:
    """Return how many epochs a trial's folder holds."""
    path = folder / METRICS
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


def _num_workers(resources: Resources) -> int | tuple[int, int]:
    if resources.min_workers is None:
        return resources.num_workers
    return (resources.min_workers, resources.num_workers)


def _per_worker(resources: Resources) -> dict[str, float]:
    gpus = {"GPU": resources.gpus} if resources.gpus else {}
    return {"CPU": resources.cpus, **gpus}
