"""How many trials each stage of a sweep has, from its settings alone."""

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

from sg_ray.config import FLOOR, Experiment
from sg_ray.models.families import get_family
from sg_ray.models.family import NeuralFamily
from sg_ray.records.record import Stage

PlannedName = Stage | Literal["lr_range"]


class PlannedStage(BaseModel):
    """One stage of one family.

    Trials that replicate takes over from the search are the search's. ``num_extra`` more may follow
    where the planned seeds leave something undecided. Of all of these each of ``num_finalists`` has
    the same share, and what the race drops does without the rest of its own. The stage "variance"
    is the winner's, whose family ("" here) is not yet known.
    """

    model_config = ConfigDict(frozen=True)
    family: str
    stage: PlannedName
    num_trials: int
    num_extra: int = 0
    num_finalists: int = 1


def planned_stages(experiment: Experiment) -> list[PlannedStage]:
    """Return every stage of every family, in the order in which they begin."""
    stages = [one for family in experiment.all_families for one in _of_family(experiment, family)]
    num_variance = experiment.replicate.num_variance_trials
    if num_variance:
        stages.append(PlannedStage(family="", stage="variance", num_trials=num_variance))
    return stages


def num_planned(experiment: Experiment, family: str, stage: PlannedName) -> int:
    """Return how many trials a stage of a family has by plan."""
    stages = planned_stages(experiment)
    return next(
        one.num_trials for one in stages if one.stage == stage and one.family in (family, "")
    )


def up_to(least: int, most: int) -> str:
    """Return e.g. "12", or "12 to 20" of what may become more."""
    return f"{least} to {most}" if most > least else str(least)


def _of_family(experiment: Experiment, family: str) -> Iterator[PlannedStage]:
    replicate = experiment.replicate
    num_seeds, num_extra = len(replicate.seeds), len(replicate.extra_seeds)
    if family == FLOOR:
        yield PlannedStage(family=family, stage="floor", num_trials=num_seeds, num_extra=num_extra)
        return
    if experiment.lr_range.enabled and isinstance(get_family(family), NeuralFamily):
        yield PlannedStage(family=family, stage="lr_range", num_trials=1)
    yield PlannedStage(family=family, stage="search", num_trials=experiment.num_points(family))
    num_finalists = experiment.num_finalists(family)
    yield PlannedStage(
        family=family,
        stage="replicate",
        num_trials=num_finalists * (num_seeds - 1),
        num_extra=num_finalists * num_extra,
        num_finalists=num_finalists,
    )
