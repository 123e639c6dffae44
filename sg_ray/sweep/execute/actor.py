"""The Ray Tune actor: runs one job at a time and is reused for the next. One step is one epoch.

What a job raises, Tune takes for the loss of a process or machine.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune

from sg_ray.cluster.epochs import Supplies
from sg_ray.cluster.groups.folder_claim import claim_for_group
from sg_ray.cluster.nodes.premises import Premises
from sg_ray.cluster.stop_board import hear_board
from sg_ray.features.packed import Features
from sg_ray.host.scratch import ScratchFolder, remove_scratch
from sg_ray.host.stop_flag import flag_of_this_process, hear_signals
from sg_ray.jobs.job import TrainJob, parse_job
from sg_ray.jobs.job_run import JobRun, Result
from sg_ray.jobs.positions import PositionShelf, restore
from sg_ray.records.origin import note_packages
from sg_ray.sweep_folder import SweepFolder
from sg_ray.trial import OwnCode

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

    _run: JobRun
    _save_s = 0.0

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
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Leave the finished job behind and take the next one."""
        self.cleanup()
        self._start(new_config)
        return True

    def step(self) -> Result:
        """Run one epoch, or the whole of a job that has none."""
        result = self._run.step()
        self._is_put_away = "interrupted" in result
        save_s = max(result.get("save_s", 0.0), self._save_s)
        return {**result, "save_s": save_s} if "save_s" in result else result

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Let Tune gather a checkpoint in a scratch folder of ours.

        One that a kill leaves is then removed by whoever starts next; of its own folder Tune says
        not whose it was.
        """
        if checkpoint_dir is not None:
            return super().save(checkpoint_dir)
        began_s = time.monotonic()
        try:
            with ScratchFolder("trial") as scratch:
                return super().save(str(scratch.path))
        finally:
            self._save_s = max(self._save_s, time.monotonic() - began_s)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Copy the trial's folder: weights, optimiser, history, all that a restart needs.

        After a stop that is where it outlives this process already; Tune's copy stays empty.
        """
        if not self._is_put_away:
            hidden = shutil.ignore_patterns(".*")  # what is being written, and whose it is
            shutil.copytree(self._folder, checkpoint_dir, dirs_exist_ok=True, ignore=hidden)

    def load_checkpoint(self, checkpoint: str | dict[str, Any] | None) -> None:
        """Go on from a copy that ``save_checkpoint`` made."""
        assert isinstance(checkpoint, str)
        restore(Path(checkpoint), self._folder)
        self._run.reopen()

    def cleanup(self) -> None:
        """Drop what the job holds, and its temporary folder.

        A group's folder stays: it may hold the only position, or be another group's by now.
        """
        self._run.close()
        if self._scratch is not None:
            self._scratch.remove()

    def _start(self, config: Mapping[str, Any]) -> None:
        job = parse_job(config[JOB])
        self._scratch: ScratchFolder | None = None
        self._stop.begin()
        self._is_put_away = False
        shelf = PositionShelf(self._shared.attempt / job.name)
        if isinstance(job, TrainJob) and job.resources.is_group:
            self._folder = self._sweep_folder.group(job.spec.trial_key)
            claim_for_group(self._folder)  # before it is as the job wants it
        else:
            self._scratch = ScratchFolder("trial")
            self._folder = self._scratch.path
        if isinstance(job, TrainJob) and job.resume_from not in (None, self._folder):
            restore(job.resume_from, self._folder)
        if self._sweep_folder.all_packages.exists():  # seen from here
            note_packages(self._sweep_folder)
        self._run = JobRun(
            job,
            self._supplies,
            self._folder,
            should_stop=self._stop,
            put_away=partial(shelf.put, self._folder),
            board=self._shared.board,
        )
