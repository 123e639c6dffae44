"""Private names of Ray's libraries, Train and Tune."""

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.train.torch.config import _TorchBackend as TorchBackend
from ray.train.v2._internal.callbacks.placement_group_callback import (
    PlacementGroupCleanerCallback,
)
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2._internal.execution.controller import TrainController
from ray.tune.utils.object_cache import _ObjectCache as ObjectCache

__all__ = [
    "ObjectCache",
    "PlacementGroupCleanerCallback",
    "RayActorManager",
    "TorchBackend",
    "TrackedActor",
    "TrackedActorTask",
    "TrainController",
    "WorkerGroupStartupTimeoutError",
    "get_train_context",
]
