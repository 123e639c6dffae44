"""Jobs handed to Tune and not yet finished, and how long none of them has run."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from ray.exceptions import RayError

from sg_ray.cluster.nodes.leaving_nodes import LeavingNodes
from sg_ray.cluster.nodes.node_check import NodeCheck
from sg_ray.cluster.nodes.placement_groups import LeftGroups
from sg_ray.host.signals import StopRequest
from sg_ray.jobs.job import AnyJob, TrainJob, trainings_of
from sg_ray.sweep.execute.executor import saves_position
from sg_ray.sweep.execute.worklist import Worklist

WAIT_TOLD_S = 60.0
"""So often it is said that no trial begins."""


class Waiting:
    """Since when no trial runs, which is told once a minute."""

    def __init__(self) -> None:
        self.end()

    def end(self) -> None:
        """Take note that something runs, or that nothing is to."""
        self._since_s = self._told_at_s = time.monotonic()

    def tell(self, worklist: Worklist, why: Callable[[], str]) -> None:
        """Say that there are trials to run and that none has begun, and why."""
        now_s = time.monotonic()
        if now_s - self._told_at_s >= WAIT_TOLD_S:
            self._told_at_s = now_s
            worklist.on_waiting(now_s - self._since_s, why())


@dataclass
class InFlight:
    """Jobs handed to Tune and not yet finished, by Tune's trial id."""

    stop: StopRequest
    max_failures: int
    nodes: NodeCheck | None = None
    leaving: LeavingNodes | None = None
    """Both of a cluster that was joined."""
    left_groups: LeftGroups = field(default_factory=LeftGroups)
    jobs: dict[str, AnyJob] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    """Of the jobs, those whose process has begun."""
    pruned: set[str] = field(default_factory=set)
    lost: list[AnyJob] = field(default_factory=list)
    """Jobs whose process or machine died, or is to be taken away, to be handed out again."""
    error: Exception | None = None
    """What went wrong in our own bookkeeping (a full disk, say). Nothing more is started."""
    waiting: Waiting = field(default_factory=Waiting)
    done: bool = False
    num_saved: int = 0
    """Trainings that a stop has met, and that have saved their position."""

    @property
    def saving(self) -> list[TrainJob]:
        """Running trainings that learn by steps: an estimator's fit has no position in it."""
        running = [job for trial_id, job in self.jobs.items() if trial_id in self.started]
        return [one for job in running if saves_position(job) for one in trainings_of(job)]

    def look_around(self) -> None:
        """Have nodes that joined asked what they are, and trials told to leave those that go.

        Also frees what a lost group of workers held.
        """
        with suppress(RayError):  # at Ray's end Tune itself meets it
            if self.nodes is not None:
                self.nodes.look()
            if self.leaving is not None:
                self.leaving.look()
            self.left_groups.look()

    def end(self, trial_id: str) -> AnyJob:
        """Return the job that was Tune's trial; it is in flight no longer."""
        self.started.discard(trial_id)
        return self.jobs.pop(trial_id)
