"""Which trials there is room for beside those that run: Tune sees none of a group's workers.

Nothing is handed out that could not run. A point of a search is chosen by what is known when it is
handed out, and one that only waits would be chosen by less. On a cluster that adds machines a few
are handed out all the same: Ray starts machines for trials that wait, not for plans.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection

from sg_ray.cluster.placing.capacity import Capacity
from sg_ray.cluster.placing.packing import Bundle, bundles_of, hold, least_bundles, num_fitting
from sg_ray.config import Resources
from sg_ray.jobs.job import AnyJob, TrainJob

MOST_WAITING = 5
"""So many trials may wait for machines; Ray's autoscaler starts as many machines at once."""
_MOST_WAITING_BLINDLY = 1
"""The same where it is not known whether, and which, machines can be added."""
_LOOKED_UP_EVERY_S = 2.0


class Room:
    """What the cluster has, looked up every few seconds: nodes come, and nodes go."""

    def __init__(
        self,
        takes: Collection[Resources],
        look_up: Callable[[], Capacity],
        max_concurrent_trials: int | None = None,
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``takes`` says what one trial of each model takes."""
        self._takes, self._look_up, self._now_s = takes, look_up, now_s
        self._limit = max_concurrent_trials
        self.capacity = look_up()
        self._looked_up_s = now_s()

    def beside(self, jobs: Collection[AnyJob], num_waiting: int) -> "Gap":
        """Return what is left beside jobs in flight, of which so many have not begun."""
        if self._now_s() - self._looked_up_s >= _LOOKED_UP_EVERY_S:
            self.capacity = self._look_up()
            self._looked_up_s = self._now_s()
        has_places = self._limit is None or len(jobs) < self._limit
        return Gap(self.capacity, jobs, num_waiting, has_places=has_places)

    def is_full(self, gap: "Gap") -> bool:
        """Return whether no trial of any model finds room."""
        return not any(map(gap.has_room, self._takes))


class Gap:
    """What is left of a cluster at one moment. To be asked whether a trial fits."""

    def __init__(
        self,
        capacity: Capacity,
        jobs: Collection[AnyJob],
        num_waiting: int,
        *,
        has_places: bool,
    ) -> None:
        """``has_places`` is False once as many trials run as may."""
        self._capacity, self._num_waiting, self._has_places = capacity, num_waiting, has_places
        self._taken = _taken(jobs, capacity)
        self._answers: dict[Resources, bool] = {}
        self.was_refused = False
        """Whether a trial was asked for that finds none."""

    def __call__(self, takes: Resources) -> bool:
        """Return whether a trial finds room, or may wait for machines that are to come."""
        self.was_refused |= not self.has_room(takes)
        return self.has_room(takes)

    def has_room(self, takes: Resources) -> bool:
        """Return the same for a trial that there may not be."""
        if takes not in self._answers:
            self._answers[takes] = self._has_places and self._has_room(takes)
        return self._answers[takes]

    def _has_room(self, takes: Resources) -> bool:
        wanted = self._taken + least_bundles(takes)
        if hold(self._capacity.machines, wanted):
            return True
        if self._capacity.may_grow:
            return self._num_waiting < _MOST_WAITING_BLINDLY
        return self._num_waiting < MOST_WAITING and hold(self._capacity.at_most, wanted)


def _taken(jobs: Collection[AnyJob], capacity: Capacity) -> Counter[Bundle]:
    """Return what jobs take, or will once they have begun."""
    counts = Counter((job.resources, isinstance(job, TrainJob)) for job in jobs)
    taken: Counter[Bundle] = Counter()
    for (takes, is_training), number in counts.items():
        num_workers = _num_workers(takes, capacity) if is_training else 1
        for bundle, num_each in bundles_of(takes, num_workers).items():
            taken[bundle] += number * num_each
    return taken


def _num_workers(takes: Resources, capacity: Capacity) -> int:
    """Return the workers of a trial: one that may do with fewer takes as many as there can be."""
    if takes.min_workers is None:
        return takes.num_workers
    worker = takes.model_copy(update={"num_workers": 1, "min_workers": None})
    able = num_fitting(capacity.machines, worker)
    return max(takes.min_workers, min(takes.num_workers, able))
