"""The kinds of work that a sweep hands to its executor, as plain JSON-able data."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from sg_ray.config import Resources
from sg_ray.records.record import Stage
from sg_ray.trial.spec import TrialSpec, job_name


class _Job(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    spec: TrialSpec
    resources: Resources
    num_losses: int = 0
    """How often its process or machine has died in this start of the sweep."""
    num_moves: int = 0
    """How often it was handed out again, its position saved, because its machine was to be taken
    away: no loss."""

    @property
    def name(self) -> str:
        """Folder name of the job, readable and unique in a Tune experiment."""
        number = self.num_losses + self.num_moves
        return f"{self.base_name}-{number}" if number else self.base_name

    @property
    def base_name(self) -> str:
        """The name without the number of losses and moves."""
        raise NotImplementedError

    def lost(self) -> Self:
        """Return the job as it is handed out after the death of its process or machine."""
        return self.model_copy(update={"num_losses": self.num_losses + 1})

    def moved(self) -> Self:
        """Return the job as it is handed out after its machine was taken away with notice."""
        return self.model_copy(update={"num_moves": self.num_moves + 1})


class TrainJob(_Job):
    """Train one trial, from the checkpoint folder ``resume_from`` if an interruption left one."""

    kind: Literal["train"] = "train"
    stage: Stage
    resume_from: Path | None = None

    @property
    def row(self) -> str:
        """The name of its row in a stack."""
        return self.spec.row

    @property
    def base_name(self) -> str:
        """The name without the number of losses and moves, unique in a sweep."""
        return job_name(self.spec)


class StackJob(_Job):
    """Train several seeds of one configuration as one model, each as the job that it is alone.

    ``spec`` is the first one's. A trial that has ended is no longer among the ``jobs``, and its row
    stays empty.
    """

    kind: Literal["stack"] = "stack"
    jobs: tuple[TrainJob, ...] = Field(min_length=1)
    rows: tuple[str, ...]
    """The name of the seed of each row of the stack, also of those that have ended."""
    is_measured: bool = False
    """Whether the stack is given up if it is found not to pay."""

    @classmethod
    def of(
        cls, jobs: Sequence[TrainJob], rows: Sequence[str], *, is_measured: bool = False
    ) -> Self:
        """Return the stack of these jobs; one that goes on was found to pay before."""
        first = jobs[0]
        return cls(
            spec=first.spec,
            resources=first.resources,
            jobs=tuple(jobs),
            rows=tuple(rows),
            is_measured=is_measured,
        )

    @property
    def base_name(self) -> str:
        """The name without the number of losses and moves, unique in a sweep."""
        return f"stack-{job_name(self.spec)}"

    def without(self, trial_keys: Collection[str]) -> Self | None:
        """Return the stack without trials that have ended; None if those are all."""
        left = tuple(job for job in self.jobs if job.spec.trial_key not in trial_keys)
        return self.model_copy(update={"jobs": left}) if left else None

    def lost(self) -> Self:
        """Return the jobs as they are handed out after the death of their process or machine."""
        return super().lost().model_copy(update={"jobs": tuple(job.lost() for job in self.jobs)})

    def moved(self) -> Self:
        """Return the jobs as they are handed out after their machine was taken away."""
        return super().moved().model_copy(update={"jobs": tuple(job.moved() for job in self.jobs)})


class LrRangeJob(_Job):
    """Run the learning-rate range test of a model."""

    kind: Literal["lr_range"] = "lr_range"
    num_steps: int
    num_seeds: int
    max_samples: int

    @property
    def base_name(self) -> str:
        """The name without the number of losses and moves, unique in a sweep."""
        return f"lr_range-{self.spec.model}"


class TestJob(_Job):
    """Score one finished trial of the winner on the test split, and keep its predictions."""

    __test__ = False  # not a test case for pytest to collect
    kind: Literal["test"] = "test"
    folder: Path

    @property
    def base_name(self) -> str:
        """The name without the number of losses and moves, unique in a sweep."""
        return f"test-{self.spec.name}"


SingleJob = TrainJob | LrRangeJob | TestJob
AnyJob = SingleJob | StackJob
_ADAPTER: TypeAdapter[AnyJob] = TypeAdapter(Annotated[AnyJob, Field(discriminator="kind")])


def parse_job(text: str) -> AnyJob:
    """Return the job that ``model_dump_json`` wrote."""
    return _ADAPTER.validate_json(text)


def trainings_of(job: AnyJob) -> tuple[TrainJob, ...]:
    """Return the trainings that a job is: one, those of a stack, or none."""
    if isinstance(job, StackJob):
        return job.jobs
    return (job,) if isinstance(job, TrainJob) else ()
