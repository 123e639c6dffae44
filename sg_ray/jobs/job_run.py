"""One job in this process, step by step: an epoch of a training, or the whole of another job.

What cannot succeed however often it is tried (bad configuration, divergence) is returned as a
result; what may (a dead process or machine, a full disk) is raised, for the executor to decide.
"""

import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sg_ray.cluster.epochs import Supplies, open_epochs
from sg_ray.cluster.losses import GroupFailure
from sg_ray.errors import InfrastructureError
from sg_ray.host.disk import disk_trouble
from sg_ray.jobs.checkpoints import read_environment, write_environment
from sg_ray.jobs.job import LrRangeJob, SingleJob, TestJob, TrainJob
from sg_ray.jobs.positions import PositionShelf
from sg_ray.records.record import Failure
from sg_ray.sweep_folder import LAST
from sg_ray.training.loop import EpochResult, Interrupted, ShouldStop
from sg_ray.training.saving import AT_EPOCHS
from sg_ray.training.shared_gpu import release_memory
from sg_ray.trial.run import find_learning_rate, score_test

if TYPE_CHECKING:
    from sg_ray.cluster.groups.group import WorkerGroup

Result = dict[str, Any]
"""What a step came to, as plain data. ``done`` says that it was the last.

``checkpoint`` is the folder that holds what whole epochs have left, if there are any. Of an epoch:
``epoch``, ``metrics``, ``environment``, and ``longest_gap_s`` and ``save_s`` as of ``Pace``, with
what the shelf took. Of the last step alone: ``lr_range`` of a range test, ``metrics`` of a test,
``failure``; ``interrupted`` is why, where a stop was asked for, and ``has_position`` whether there
is one then.
"""


class JobRun:
    """A job that goes on from what ``folder`` holds, and leaves there what can be gone on from."""

    _epochs: "Generator[EpochResult] | WorkerGroup | None" = None
    _put_s = 0.0

    def __init__(
        self,
        job: SingleJob,
        supplies: Supplies,
        folder: Path,
        *,
        should_stop: ShouldStop,
        shelf: PositionShelf | None = None,
        board: Any = None,
    ) -> None:
        """``should_stop`` and ``board`` as of ``open_epochs``.

        What is to outlive the process is put on the ``shelf``; without one it is the folder itself.
        """
        self._job, self._supplies, self._folder = job, supplies, folder
        self._should_stop, self._shelf, self._board = should_stop, shelf, board
        self._left: Path | None = None
        self._open()

    def _open(self) -> None:
        job = self._job
        if not isinstance(job, TrainJob):
            return
        self._left = job.resume_from
        if not job.resources.is_group:  # the first of a group's workers notes its own
            context = self._supplies.context(job.resources)
            write_environment(self._folder, context.environment)
        self._epochs = open_epochs(
            job.spec,
            job.resources,
            self._supplies,
            self._folder,
            should_stop=self._should_stop,
            saving=AT_EPOCHS if self._shelf is None else self._shelf.saving(self._folder),
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
        result = self._safe_step()
        if self._shelf is not None and "epoch" in result:
            began_s = time.monotonic()
            self._left = self._shelf.put_epoch(self._folder)
            self._put_s = max(self._put_s, time.monotonic() - began_s)
            result["save_s"] += self._put_s
        if result["done"] and not self._job.resources.is_group:
            self.close()  # what it held of a GPU, another may need before this process goes on
        return result if self._left is None else {**result, "checkpoint": str(self._left)}

    def _safe_step(self) -> Result:
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
