"""A stack of trials in this process, round by round: in each, some of them complete an epoch."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sg_ray.cluster.epochs import Supplies
from sg_ray.config import Resources
from sg_ray.errors import InfrastructureError
from sg_ray.host.cpus import num_cpus
from sg_ray.host.disk import disk_trouble
from sg_ray.jobs.checkpoints import read_environment, write_environment
from sg_ray.jobs.job import StackJob, TrainJob
from sg_ray.jobs.job_run import Result
from sg_ray.jobs.positions import PositionShelf
from sg_ray.records.record import Failure
from sg_ray.sweep_folder import LAST
from sg_ray.training.loop import EpochResult, Interrupted, ShouldStop
from sg_ray.training.saving import AT_EPOCHS, Saving
from sg_ray.training.shared_gpu import release_memory
from sg_ray.trial.stacked import StackedTrial, run_stacked, why_alone


@dataclass
class Place:
    """Where one of the jobs trains, and where it puts what is to outlive the process.

    Without a shelf the folder itself outlives it.
    """

    job: TrainJob
    folder: Path
    shelf: PositionShelf | None = None
    left: Path | None = None
    """What it can go on from, if anything."""

    @property
    def saving(self) -> Saving:
        """How the training saves its position in the middle of an epoch."""
        return AT_EPOCHS if self.shelf is None else self.shelf.saving(self.folder)


class StackRun:
    """A stack that goes on from what the folders hold, and leaves there what can be gone on from.

    As ``JobRun`` for a job alone.
    """

    def __init__(
        self,
        job: StackJob,
        supplies: Supplies,
        places: Sequence[Place],
        *,
        should_stop: ShouldStop,
    ) -> None:
        """``places`` are those of the ``job``'s jobs."""
        self._should_stop = should_stop
        self._open = {place.job.spec.trial_key: place for place in places}
        self._put_s = 0.0
        context = supplies.context(job.resources)
        for place in places:
            place.left = place.left or place.job.resume_from
            write_environment(place.folder, context.environment)
        self._job, self._context = job, context
        every_s = supplies.checkpoint_every_s
        self._trials = [
            StackedTrial(p.job.spec, p.folder, replace(p.saving, every_s=every_s)) for p in places
        ]
        self._rounds = run_stacked(self._trials, job.rows, context, should_stop=should_stop)
        self._is_decided = not job.is_measured

    def close(self) -> None:
        """Drop what the stack holds."""
        self._rounds.close()
        release_memory()

    def step(self) -> Result:
        """Train until a trial has completed an epoch, or ended: ``members`` are the results of all.

        Each is as of ``JobRun``, with its ``trial_key``. ``unstacked`` says why they are to be
        trained each by itself, where that was measured. Raises what ``JobRun`` does.
        """
        try:
            return self._step()
        except Interrupted as interrupted:
            saved = [(place.folder / LAST).exists() for place in self._open.values()]
            return {
                "done": True,
                "interrupted": interrupted.reason,
                "has_position": sum(saved),
                "members": [],
            }
        except Exception as error:
            if isinstance(error, InfrastructureError) or disk_trouble(error):
                raise
            members = [self._ended(key, error) for key in list(self._open)]
            return {"done": True, "members": members}

    def _step(self) -> Result:
        if reason := self._should_stop():  # before models are built
            raise Interrupted(reason="stop" if reason is True else reason)
        if not self._is_decided:
            self._is_decided = True
            alone = why_alone(self._trials, self._context, _num_at_once(self._job.resources))
            if alone is not None:
                return {"done": True, "members": [], "unstacked": alone}
        members = [
            self._ended(key, one) if isinstance(one, Exception) else self._epoch(key, one)
            for key, one in next(self._rounds).items()
        ]
        return {
            "done": not self._open,
            "members": members,
            "longest_gap_s": max((one.get("longest_gap_s", 0.0) for one in members), default=0.0),
            "save_s": max((one.get("save_s", 0.0) for one in members), default=0.0),
        }

    def _ended(self, key: str, error: Exception) -> Result:
        place = self._open.pop(key)
        return _told(place, {"done": True, "failure": Failure.of(error).model_dump()})

    def _epoch(self, key: str, result: EpochResult) -> Result:
        place = self._open[key]
        if place.shelf is not None:
            began_s = time.monotonic()
            place.left = place.shelf.put_epoch(place.folder)
            self._put_s = max(self._put_s, time.monotonic() - began_s)
        is_done = result.stop_reason is not None
        if is_done:
            del self._open[key]
        return _told(
            place,
            {
                "done": is_done,
                "epoch": result.epoch,
                "metrics": dict(result.metrics),
                "environment": read_environment(place.folder),
                "longest_gap_s": result.longest_gap_s,
                "save_s": result.save_s + self._put_s,
            },
        )


def _num_at_once(takes: Resources) -> int:
    """Return how many trials alone share what one of them takes a part of."""
    if takes.gpus:
        return max(1, int(1 / takes.gpus))
    return max(1, int(num_cpus() / takes.cpus))


def _told(place: Place, result: dict[str, Any]) -> Result:
    left = {} if place.left is None else {"checkpoint": str(place.left)}
    return {"trial_key": place.job.spec.trial_key, **result, **left}
