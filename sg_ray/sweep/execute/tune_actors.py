"""How Tune keeps the processes of trials: every death of one is told, and an idle one is kept."""

from collections.abc import Hashable, Iterator
from typing import Any

from ray.exceptions import (
    LocalRayletDiedError,
    RayActorError,
    RayError,
    RaySystemError,
    RayTaskError,
)

from sg_ray.cluster.ray_private.train_tune_names import (
    ObjectCache,
    RayActorManager,
    TrackedActor,
    TrackedActorTask,
)


def take_over(controller: Any, *, keeps_idle: bool) -> None:
    """Give Tune's controller our keepers of actors, while there are none to keep.

    ``keeps_idle`` is for a Ray of this machine's own: an idle process would have the machine of a
    cluster kept too, that an autoscaler may give back.
    """
    manager = controller._actor_manager
    if isinstance(manager, ActorManager):
        return
    controller._actor_manager = ActorManager(manager._resource_manager)
    if keeps_idle:
        controller._actor_cache = IdleActors()


class ActorManager(RayActorManager):
    """Tune's keeper of actors, for whom every death of an actor is one.

    Ray's own knows ``RayActorError`` alone. Of an actor that the memory monitor ended it hears
    ``OutOfMemoryError``, and gives up the whole run.
    """

    def __init__(self, resource_manager: Any) -> None:
        super().__init__(resource_manager)
        self._left: set[TrackedActor] = set()

    def leave(self, tracked_actor: TrackedActor) -> None:
        """Have Tune not keep an actor for the next trial: its node is to be taken away."""
        self._left.add(tracked_actor)

    def is_actor_failed(self, tracked_actor: TrackedActor) -> bool:
        """Say what Tune asks before it keeps an actor, and at no other time."""
        return tracked_actor in self._left or bool(super().is_actor_failed(tracked_actor))

    def _actor_task_failed(
        self, tracked_actor_task: TrackedActorTask, exception: Exception
    ) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, _NO_ACTORS_DEATH):
            exception = RayActorError(error_msg=str(exception))
        super()._actor_task_failed(tracked_actor_task, exception)


_NO_ACTORS_DEATH = (RayActorError, RayTaskError, LocalRayletDiedError, RaySystemError)
"""What Ray's keeper knows, and what ends Ray itself."""


class IdleActors(ObjectCache):
    """Tune's cache of the actors that have no trial now, which keeps them for the next ones.

    Ray's own ends all but one as soon as no trial waits, and a sweep often waits for the last
    trials of a stage. A new process would need 5 to 15 s of a CPU for its imports. An actor is
    ended for the sake of trials that take something else, and at the end.
    """

    def cache_object(self, key: Hashable, obj: TrackedActor) -> bool:
        """Keep an actor whose trial has ended; return False to have it ended instead."""
        if self._are_others_waiting():
            return bool(super().cache_object(key, obj))
        self._cached_objects[key].append(obj)
        self._num_cached_objects += 1
        return True

    def flush_cached_objects(self, force_all: bool = False) -> Iterator[TrackedActor]:
        """Yield the actors that are to be ended."""
        if force_all or self._are_others_waiting():
            yield from super().flush_cached_objects(force_all)

    def _are_others_waiting(self) -> bool:
        """Return whether a trial waits that no kept actor can run, for it takes something else."""
        waiting = (key for key, number in self._max_num_objects.items() if number > 0)
        return any(not self._cached_objects[key] for key in list(waiting))
