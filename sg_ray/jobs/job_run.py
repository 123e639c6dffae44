"""One job in this process, step by step: an epoch of a training, or the whole of another job.

What cannot succeed however often it is tried (bad configuration, divergence) is returned as a
result; what may (a dead process or machine, a full disk) is raised, for the executor to decide.
"""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sg_ray.cluster.epochs import Supplies, open_epochs
from sg_ray.cluster.losses import GroupFailure
from sg_ray.errors import InfrastructureError
from sg_ray.host.disk import disk_trouble
from sg_ray.jobs.checkpoints import read_environment, write_environment
from sg_ray.jobs.job import AnyJob, LrRangeJob, TestJob, TrainJob
from sg_ray.records.record import Failure
from sg_ray.sweep_folder import LAST
from sg_ray.training.compute import release_memory
from sg_ray.training.loop import EpochResult, Interrupted, ShouldStop
from sg_ray.trial import find_learning_rate, score_test

if TYPE_CHECKING:
    from sg_ray.cluster.groups.group import WorkerGroup

Result = dict[str, Any]
"""What a step came to, as plain data. ``done`` says that it was the last.

Of an epoch: ``epoch``, ``metrics``, ``environment``, and ``longest_gap_s`` and ``save_s`` as of
``Pace``. Of the last step alone: ``lr_range`` of a range test, ``metrics`` of a test, ``failure``;
``interrupted`` is why, where a stop was asked for, and ``has_position`` whether there is one then.
"""


class JobRun:
    """A job that goes on from what ``folder`` holds, and leaves there what can be gone on from."""

    _epochs: "Generator[EpochResult] | WorkerGroup | None" = None

    def __init__(
        self,
        job: AnyJob,
        supplies: Supplies,
        folder: Path,
        *,
        should_stop: ShouldStop,
        put_away: Callable[[], None] = lambda: None,
        board: Any = None,
    ) -> None:
        """``should_stop``, ``put_away`` and ``board`` as of ``open_epochs``."""
        self._job, self._supplies, self._folder = job, supplies, folder
        self._should_stop, self._put_away, self._board = should_stop, put_away, board
        self.reopen()

    def reopen(self) -> None:
        """Go on from what the folder holds now."""
        self.close()
        job = self._job
        if not isinstance(job, TrainJob):
            return
        if not job.resources.is_group:  # the first of a group's workers notes its own
            context = self._supplies.context(job.resources)
            write_environment(self._folder, context.environment)
        self._epochs = open_epochs(
            job.spec,
            job.resources,
            self._supplies,
            self._folder,
            should_stop=self._should_stop,
            put_away=self._put_away,
            board=self._board,
        )

    def close(self) -> None:
        """Drop what the job holds: a model, or a group of workers."""
        if self._epochs is not None:
            self._epochs.close()
            self._epochs = None
        release_memory()

    def step(self) -> Result:
        """Take a step. Raises InfrastructureError, an error of a disk, or one of Ray's."""
        try:
            return self._step()
        except Interrupted as interrupted:
            has_position = (self._folder / LAST).exists()
            return {"done": True, "interrupted": interrupted.reason, "has_position": has_position}
        except GroupFailure as failure:
            if disk_trouble(failure.failure.traceback):
                raise
            return {"done": True, "failure": failure.failure.model_dump()}
        except Exception as error:
            # A group's own errors come as GroupFailure: this is Ray's. A full disk is nobody's.
            is_group = self._job.resources.is_group and isinstance(self._job, TrainJob)
            if is_group or isinstance(error, InfrastructureError) or disk_trouble(error):
                raise
            return {"done": True, "failure": Failure.of(error).model_dump()}

    def _step(self) -> Result:
        match self._job:
            case TrainJob():
                return self._train_epoch()
            case LrRangeJob():
                return {"done": True, **self._find_learning_rate(self._job)}
            case TestJob(spec=spec, resources=takes, folder=folder):
                metrics = score_test(spec, self._supplies.context(takes), folder)
                return {"done": True, "metrics": metrics}

    def _train_epoch(self) -> Result:
        assert self._epochs is not None
        if reason := self._should_stop():  # before a model is built, or workers are set up
            raise Interrupted(reason="stop" if reason is True else reason)
        result = next(self._epochs)
        return {
            "done": result.stop_reason is not None,
            "epoch": result.epoch,
            "metrics": dict(result.metrics),
            "environment": read_environment(self._folder),
            "longest_gap_s": result.longest_gap_s,
            "save_s": result.save_s,
        }

    def _find_learning_rate(self, job: LrRangeJob) -> Result:
        found = find_learning_rate(
            job.spec,
            self._supplies.context(job.resources),
            num_steps=job.num_steps,
            num_seeds=job.num_seeds,
            max_samples=job.max_samples,
        )
        return {"lr_range": found.as_dict()}
