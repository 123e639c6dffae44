"""The three kinds of work that a sweep hands to Ray Tune, as plain JSON-able data."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from sg_ray.config import Resources
from sg_ray.records.record import Stage
from sg_ray.trial import TrialSpec, job_name


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
    def base_name(self) -> str:
        """The name without the number of losses and moves, unique in a sweep."""
        return job_name(self.spec)


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


AnyJob = TrainJob | LrRangeJob | TestJob
_ADAPTER: TypeAdapter[AnyJob] = TypeAdapter(Annotated[AnyJob, Field(discriminator="kind")])


def parse_job(text: str) -> AnyJob:
    """Return the job that ``model_dump_json`` wrote."""
    return _ADAPTER.validate_json(text)
