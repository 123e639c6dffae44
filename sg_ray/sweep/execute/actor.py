"""The Ray Tune actor: runs one job at a time and is reused for the next. One step is one epoch.

What a job raises, Tune takes for the loss of a process or machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from sg_ray.cluster.epochs import Supplies
from sg_ray.cluster.groups.folder_claim import claim_for_group
from sg_ray.cluster.nodes.premises import Premises
from sg_ray.cluster.stop_board import hear_board
from sg_ray.features.packed import Features
from sg_ray.host.scratch import remove_scratch
from sg_ray.host.stop_flag import flag_of_this_process, hear_signals
from sg_ray.jobs.job import SingleJob, StackJob, TrainJob, parse_job
from sg_ray.jobs.job_run import JobRun, Result
from sg_ray.jobs.positions import PositionShelf, restore
from sg_ray.jobs.stack_run import Place, StackRun
from sg_ray.records.origin import note_packages
from sg_ray.sweep_folder import SweepFolder
from sg_ray.trial.own_code import OwnCode

JOB = "job"
"""Key of a trial's Tune configuration that holds its job as JSON."""


@dataclass(frozen=True)
class Shared:
    """What every job of a sweep uses, as it travels to the actors: the features stay behind."""

    features_ref: "ray.ObjectRef[Features]"
    own_code: OwnCode
    cache_dir: Path
    folder: SweepFolder
    attempt: Path
    """Tune's folder of this start, in which each job has one."""
    max_failures: int
    premises: Premises
    checkpoint_every_s: float | None
    board: Any
    """The actor of the driver's ``StopBoard``."""

    def fetch(self) -> Supplies:
        """Return what the jobs are given here, and make the user's own code known.

        Features are read in place, not copied. Raises InfrastructureError if nothing may be
        trained here.
        """
        self.premises.require_here()
        self.own_code.plug_in()
        features = ray.get(self.features_ref)
        return Supplies(
            features,
            self.cache_dir,
            self.max_failures,
            self.features_ref,
            self.checkpoint_every_s,
            self.premises,
        )


class TrialActor(tune.Trainable):
    """Runs jobs. Configuration: ``{"job": JSON of the job}``."""

    _job: SingleJob | StackJob
    _run: JobRun | StackRun | None = None
    _shelves: Sequence[PositionShelf] = ()

    def setup(
        self,
        config: dict[str, Any],
        shared: Shared | None = None,
    ) -> None:
        """Take what all trials share and the first job; from here on a stop is heard."""
        assert shared is not None
        self._stop = flag_of_this_process()
        hear_signals()
        hear_board(shared.board, self._stop)
        remove_scratch()
        self._shared = shared
        self._sweep_folder = shared.folder
        self._supplies = shared.fetch()
        self._take(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Leave the finished job behind and take the next one."""
        self.cleanup()
        self._take(new_config)
        return True

    def step(self) -> Result:
        """Run one epoch, or the whole of a job that has none."""
        if self._run is None:
            self._run = self._open(self._job)
        return self._run.step()

    def cleanup(self) -> None:
        """Drop what the job holds, and the folder in which it trained.

        A group's folder stays: it may hold the only position, or be another group's by now.
        """
        if self._run is not None:
            self._run.close()
            self._run = None
        for shelf in self._shelves:
            shelf.remove_training()
        self._shelves = ()

    def _take(self, config: Mapping[str, Any]) -> None:
        """Take a job, and leave its folder alone until the first step.

        While this process starts, Tune may give the job to one that has become free, and end this
        one: the folder is that one's by then.
        """
        self._job = parse_job(config[JOB])
        self._stop.begin()
        if self._sweep_folder.all_packages.exists():  # seen from here
            note_packages(self._sweep_folder)

    def _open(self, job: SingleJob | StackJob) -> JobRun | StackRun:
        return self._stack(job) if isinstance(job, StackJob) else self._single(job)

    def _stack(self, job: StackJob) -> StackRun:
        places = []
        for one in job.jobs:
            shelf, folder = self._place(one)
            places.append(Place(one, folder, shelf))
        return StackRun(job, self._supplies, places, should_stop=self._stop)

    def _single(self, job: SingleJob) -> JobRun:
        shelf, folder = self._place(job)
        return JobRun(
            job,
            self._supplies,
            folder,
            should_stop=self._stop,
            shelf=shelf,
            board=self._shared.board,
        )

    def _place(self, job: SingleJob) -> tuple[PositionShelf | None, Path]:
        """Return the shelf of a job, and the folder in which it works, as the job wants it."""
        shelf, folder = self._new_place(job)
        self._shelves = [*self._shelves, *([] if shelf is None else [shelf])]
        if isinstance(job, TrainJob) and job.resume_from not in (None, folder):
            restore(job.resume_from, folder)
        return shelf, folder

    def _new_place(self, job: SingleJob) -> tuple[PositionShelf | None, Path]:
        """Return where the job puts what outlives this process, and where it works."""
        job_folder = self._shared.attempt / job.name
        if not isinstance(job, TrainJob):
            return None, job_folder
        shelf = PositionShelf(job_folder)
        if not job.resources.is_group:
            return shelf, shelf.new_training_folder()
        folder = self._sweep_folder.group(job.spec.trial_key)
        claim_for_group(folder)  # before it is as the job wants it
        return shelf, folder
