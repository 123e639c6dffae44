"""How many trials each stage of a sweep has, from its settings alone."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from sg_ray.config import Model, ReplicateSettings, Rules
from sg_ray.records.record import Stage

PlannedName = Stage | Literal["lr_range"]


class PlannedStage(BaseModel):
    """One stage of one model.

    Trials that replicate takes over from the search are the search's. ``num_extra`` more may follow
    where the planned seeds leave something undecided. Of all of these each of ``num_finalists`` has
    the same share, and what the race drops does without the rest of its own. The stage "variance"
    is the winner's, whose model ("" here) is not yet known.
    """

    model_config = ConfigDict(frozen=True)
    model: str
    stage: PlannedName
    num_trials: int
    num_extra: int = 0
    num_finalists: int = 1


def planned_stages(models: Iterable[Model], rules: Rules) -> list[PlannedStage]:
    """Return every stage of every model, in the order in which they begin."""
    replicate = rules.replicate
    stages: list[PlannedStage] = []
    for model in models:
        has_test = rules.lr_range.enabled and model.is_neural
        num_points = rules.search.num_points(model)
        if model.is_floor:
            stages += _of_floor(model, replicate)
        else:
            stages += _of_model(model, num_points, has_test, replicate)
    num_variance = replicate.num_variance_trials
    if num_variance:
        stages.append(PlannedStage(model="", stage="variance", num_trials=num_variance))
    return stages


def num_planned(stages: Sequence[PlannedStage], model: str, stage: PlannedName) -> int:
    """Return how many trials a stage of a model has by plan."""
    return next(one.num_trials for one in stages if one.stage == stage and one.model in (model, ""))


def up_to(least: int, most: int) -> str:
    """Return e.g. "12", or "12 to 20" of what may become more."""
    return f"{least} to {most}" if most > least else str(least)


def _of_floor(model: Model, replicate: ReplicateSettings) -> Iterator[PlannedStage]:
    num_seeds, num_extra = len(replicate.seeds), len(replicate.extra_seeds)
    yield PlannedStage(model=model.name, stage="floor", num_trials=num_seeds, num_extra=num_extra)


def _of_model(
    model: Model, num_points: int, has_range_test: bool, replicate: ReplicateSettings
) -> Iterator[PlannedStage]:
    if has_range_test:
        yield PlannedStage(model=model.name, stage="lr_range", num_trials=1)
    yield PlannedStage(model=model.name, stage="search", num_trials=num_points)
    num_finalists = replicate.num_finalists(num_points)
    yield PlannedStage(
        model=model.name,
        stage="replicate",
        num_trials=num_finalists * (len(replicate.seeds) - 1),
        num_extra=num_finalists * len(replicate.extra_seeds),
        num_finalists=num_finalists,
    )
