"""The Ray Tune actor: runs one job at a time and is reused for the next.

One step is one epoch. What cannot succeed however often it is tried (bad configuration,
divergence) is returned as a result; what may (a dead process or machine) is raised for Tune to
start again from the last checkpoint.
"""

import shutil
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from sg_ray.cluster.group import GroupFailure, WorkerGroup, describe
from sg_ray.errors import InfrastructureError
from sg_ray.features.packed import Features
from sg_ray.files import remove_scratch, scratch_folder
from sg_ray.host.disk import disk_trouble
from sg_ray.sweep.execute.checkpoints import write_environment
from sg_ray.sweep.plan.jobs import LrRangeJob, TestJob, TrainJob, parse_job
from sg_ray.sweep_folder import SweepFolder
from sg_ray.training.compute import device_for
from sg_ray.training.loop import EpochResult, Interrupted
from sg_ray.trial import (
    OwnCode,
    TrialContext,
    environment,
    find_learning_rate,
    run_trial,
    score_test,
)

JOB = "job"
"""Key of a trial's Tune configuration that holds its job as JSON."""


@dataclass(frozen=True)
class Shared:
    """What every job of a sweep uses."""

    features_ref: "ray.ObjectRef[Features]"
    own_code: OwnCode
    cache_dir: Path
    folder: SweepFolder
    max_failures: int


class TrialActor(tune.Trainable):
    """Runs jobs. Configuration: ``{"job": JSON of the job}``."""

    def setup(
        self,
        config: dict[str, Any],
        shared: Shared | None = None,
    ) -> None:
        """Take what all trials share and the first job."""
        assert shared is not None
        remove_scratch()
        shared.own_code.plug_in()
        self._shared = shared
        self._features: Features = ray.get(shared.features_ref)  # read in place, not copied
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Leave the finished job behind and take the next one."""
        self.cleanup()
        self._start(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Run one epoch, or the whole of a job that has none."""
        try:
            match self._job:
                case TrainJob():
                    return self._train_epoch()
                case LrRangeJob():
                    return {"done": True, **self._find_learning_rate(self._job)}
                case TestJob():
                    metrics = score_test(self._job.spec, self._context(), self._job.folder)
                    return {"done": True, "metrics": metrics}
        except Interrupted:  # last.pt holds the position, and Tune's checkpoint will
            return {"done": True, "interrupted": True}
        except GroupFailure as failure:
            if disk_trouble(failure.described["traceback"]):
                raise
            return {"done": True, "failure": failure.described}
        except Exception as error:
            # A group's own errors come as GroupFailure: this is Ray's. A full disk is nobody's.
            if self._is_group or isinstance(error, InfrastructureError) or disk_trouble(error):
                raise
            return {"done": True, "failure": describe(error)}

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Let Tune gather a checkpoint in a scratch folder of ours.

        One that a kill leaves is then removed by whoever starts next; of its own folder Tune says
        not whose it was.
        """
        if checkpoint_dir is not None:
            return super().save(checkpoint_dir)
        folder = scratch_folder("trial")
        try:
            return super().save(str(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Copy the trial's folder: weights, optimiser, history, all that a restart needs."""
        shutil.copytree(self._folder, checkpoint_dir, dirs_exist_ok=True)
        write_environment(Path(checkpoint_dir), self._environment())

    def load_checkpoint(self, checkpoint: str | dict[str, Any] | None) -> None:
        """Go on from a copy that ``save_checkpoint`` made."""
        assert isinstance(checkpoint, str)
        self._restore(Path(checkpoint))
        self._epochs.close()
        self._epochs = self._open()

    def cleanup(self) -> None:
        """Drop the epoch generator (which may hold a model) and the trial's temporary folder."""
        self._epochs.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _is_group(self) -> bool:
        return isinstance(self._job, TrainJob) and self._job.resources.num_workers > 1

    _epochs: Generator[EpochResult] | WorkerGroup

    def _start(self, config: Mapping[str, Any]) -> None:
        self._job = parse_job(config[JOB])
        if self._is_group:
            self._folder = self._shared.folder.group(self._job.spec.trial_key)
            self._folder.mkdir(parents=True, exist_ok=True)
        else:
            self._folder = scratch_folder("trial")
        if isinstance(self._job, TrainJob) and self._job.resume_from is not None:
            self._restore(self._job.resume_from)
        self._epochs = self._open()

    def _restore(self, checkpoint: Path) -> None:
        shutil.copytree(checkpoint, self._folder, dirs_exist_ok=True)

    def _open(self) -> Generator[EpochResult] | WorkerGroup:
        """Return the epochs to come; nothing is computed before the first is asked for."""
        stop = self._shared.folder.stop
        if not self._is_group:
            return run_trial(self._job.spec, self._context(), self._folder, should_stop=stop.exists)
        return WorkerGroup(
            self._job.spec,
            self._job.resources,
            features_ref=self._shared.features_ref,
            cache_dir=self._shared.cache_dir,
            folder=self._folder,
            stop=stop,
            max_failures=self._shared.max_failures,
        )

    def _train_epoch(self) -> dict[str, Any]:
        result = next(self._epochs)
        return {
            "done": result.stop_reason is not None,
            "epoch": result.epoch,
            "metrics": dict(result.metrics),
            "environment": self._environment(),
        }

    def _find_learning_rate(self, job: LrRangeJob) -> dict[str, Any]:
        found = find_learning_rate(
            job.spec,
            self._context(),
            num_steps=job.num_steps,
            num_seeds=job.num_seeds,
            max_samples=job.max_samples,
        )
        return {"lr_range": found.as_dict()}

    def _context(self) -> TrialContext:
        return TrialContext(
            features=self._features,
            cache_dir=self._shared.cache_dir,
            device=device_for(self._job.resources.gpus),
            num_threads=max(1, int(self._job.resources.cpus)),
        )

    def _environment(self) -> dict[str, Any]:
        context = self._context()
        return environment(context.device, context.num_threads)
