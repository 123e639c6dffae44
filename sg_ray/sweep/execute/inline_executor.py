"""The executor without Ray: in this process, one job after the other.

For debugging (a breakpoint in a family stops here), for teaching and for tests. It trains, prunes,
records and resumes as the other does, with equal numbers: a sweep may be begun by one and gone on
with by the other.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from sg_ray.cluster.losses import infrastructure_failure
from sg_ray.config import Resources
from sg_ray.errors import InfrastructureError, InputError
from sg_ray.host.signals import StopRequest
from sg_ray.jobs.checkpoints import keep_position
from sg_ray.jobs.job import AnyJob, SingleJob, StackJob, TrainJob
from sg_ray.jobs.job_run import JobRun, Result
from sg_ray.jobs.positions import restore
from sg_ray.jobs.stack_run import Place, StackRun
from sg_ray.sweep.execute.executor import (
    Execution,
    Setting,
    lose,
    saves_position,
    tell_round,
    told_positions,
)
from sg_ray.sweep.execute.worklist import Worklist


class InlineExecutor:
    """Runs each job where it is called from."""

    is_here = True
    has_joined = False

    def check(self, takes: Mapping[str, Resources]) -> None:
        """Raise InputError for trials on several workers, or on a GPU that is not here."""
        for family, one in takes.items():
            if one.is_group:
                raise InputError(
                    f"resources: a {family} trial takes {one.num_workers} workers; the inline "
                    "executor is one process. Set resources.num_workers=1, or use --executor tune."
                )
            if one.gpus and not torch.cuda.is_available():
                raise InputError(
                    f"resources: a {family} trial takes {one.gpus:g} GPUs, and torch sees none "
                    "here. Set resources.gpus=0."
                )

    def machines(self) -> str:
        """Say which machine the trials run on."""
        return "machines: this one (one trial at a time, in this process)"

    def close(self) -> None:
        """Nothing: it runs nothing elsewhere."""

    def told_at_once(self, takes: Mapping[str, Resources], at_most: int | None) -> str:
        """Return, for the user, that trials run one at a time."""
        del takes, at_most
        return "at once: 1 trial, in this process"

    def begin(self, takes: Mapping[str, Resources], log: Path) -> None:
        """Nothing: this process is there."""

    def execute(self, worklist: Worklist, setting: Setting, stop: StopRequest) -> Execution:
        """Run what the worklist hands out, in its order."""
        self.check(setting.takes)
        run = _Run(worklist, setting, stop)
        stop.raises = False  # from here on there are positions to save
        try:
            return run.to_the_end()
        finally:
            stop.raises = True


class _Run:
    """One start of a sweep."""

    def __init__(self, worklist: Worklist, setting: Setting, stop: StopRequest) -> None:
        self._worklist, self._setting, self._stop = worklist, setting, stop
        self._attempt = setting.folder.new_attempt
        self._lost: list[AnyJob] = []
        self._num_saved = 0

    def to_the_end(self) -> Execution:
        """Run jobs until there are none, or a stop is asked for."""
        while not self._stop():
            job = self._next_job()
            if job is None:
                return Execution(is_finished=True)
            self._run(job)
        return Execution(is_finished=False, positions=told_positions(self._num_saved))

    def _next_job(self) -> AnyJob | None:
        if not self._lost:
            return self._worklist.next_job()
        return self._worklist.again(self._lost.pop(0)) or self._next_job()

    def _run(self, job: AnyJob) -> None:
        self._worklist.on_started(job)
        if isinstance(job, StackJob):
            self._run_stack(job)
        else:
            self._run_single(job)

    def _run_stack(self, job: StackJob) -> None:
        """Run trials that train as one, each in its own folder."""
        places = [self._place(one) for one in job.jobs]
        run = StackRun(job, self._setting.supplies, places, should_stop=self._stop)
        max_failures = self._setting.supplies.max_failures
        left: StackJob | None = job
        try:
            while left is not None:
                result = run.step()
                if result.get("interrupted") or result.get("unstacked"):
                    left_by = {one.spec.trial_key for one in left.jobs}
                    own = (p.folder for p in places if p.job.spec.trial_key in left_by)
                    self._num_saved += sum(map(keep_position, own))
                left, lost = tell_round(self._worklist, left, result, max_failures)
                self._lost += lost
                if result["done"]:
                    return
        except InfrastructureError as error:
            assert left is not None
            self._lose(left, str(error), None)
        finally:
            run.close()

    def _place(self, job: TrainJob) -> Place:
        folder = self._begin_folder(job)
        return Place(job, folder, left=folder)

    def _run_single(self, job: SingleJob) -> None:
        folder = self._begin_folder(job)
        try:
            result, pruned = self._take_steps(job, folder)
        except InfrastructureError as error:
            self._lose(job, str(error), folder)
            return
        if result.get("interrupted"):
            self._num_saved += keep_position(folder)
        elif lack := self._worklist.failure_of_results(job, result, folder, pruned=pruned):
            self._lose(job, lack.message, folder)
        else:
            self._worklist.on_finished(job, result, folder, pruned=pruned)

    def _begin_folder(self, job: SingleJob) -> Path:
        """Make the folder in which a job works: it is its own checkpoint, whole at any moment."""
        folder = self._attempt / job.name / "checkpoint_000000"
        if not (isinstance(job, TrainJob) and job.resume_from):
            folder.mkdir(parents=True)
            return folder
        copy = folder.with_name("copy.tmp")
        restore(job.resume_from, copy)
        copy.rename(folder)
        return folder

    def _take_steps(self, job: SingleJob, folder: Path) -> tuple[Result, bool]:
        """Return the last step's result, and whether the plan has given the trial up."""
        run = JobRun(
            job,
            self._setting.supplies,
            folder,
            should_stop=self._stop,
        )
        try:
            while True:
                result = self._step(run, job)
                pruned = self._tell(job, result)
                if result["done"] or pruned:
                    return result, pruned
        finally:
            run.close()

    def _step(self, run: JobRun, job: SingleJob) -> Result:
        """Take a step; a signal ends at once what would have no position to save."""
        raises = not saves_position(job)
        try:
            with _raising(self._stop, raises):
                return run.step()
        except KeyboardInterrupt:
            if not self._stop():
                raise
            return {"done": True, "interrupted": "stop"}

    def _tell(self, job: SingleJob, result: Result) -> bool:
        """Tell of an epoch; return whether the trial is given up. A last one is not asked about."""
        if not isinstance(job, TrainJob) or "epoch" not in result:
            return False
        epoch, metrics = result["epoch"], result["metrics"]
        pruned = not result["done"] and self._worklist.on_epoch(job, epoch, metrics)
        self._worklist.journal_epoch(job, epoch, metrics)
        return pruned

    def _lose(self, job: AnyJob, reason: str, folder: Path | None) -> None:
        failure = infrastructure_failure(reason)
        max_failures = self._setting.supplies.max_failures
        again = lose(self._worklist, job, failure, folder, max_failures)
        self._lost += [] if again is None else [again]


@contextmanager
def _raising(stop: StopRequest, raises: bool) -> Iterator[None]:
    stop.raises = raises
    try:
        yield
    finally:
        stop.raises = False
