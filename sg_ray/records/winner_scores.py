"""What ``test.json`` says: the winner's scores on the test split, and those set aside."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from sg_ray.reading import read_model
from sg_ray.sweep_folder import SweepFolder

Metrics = Mapping[str, float | None]


class ScoresOnTest(BaseModel):
    """Content of ``test.json``: means, and the scores of each seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    model: str
    config_hash: str
    metrics: Metrics
    seeds: Mapping[str, Metrics]


def read_test_scores(folder: SweepFolder) -> dict[tuple[str, str], Metrics]:
    """Return the winner's mean test metrics by model and configuration; empty if not scored."""
    found = read_scores(folder)
    return {} if found is None else {(found.model, found.config_hash): found.metrics}


def read_scores(folder: SweepFolder) -> ScoresOnTest | None:
    """Return what ``test.json`` says; None without it. Raises InputError if it is damaged."""
    path = folder.test_scores
    if not path.exists():
        return None
    return read_model(
        path,
        ScoresOnTest,
        what="score on the test split",
        remedy="Restore it from a copy, or delete it: the next `sg-ray sweep --resume` then scores "
        "the same winner again.",
    )


def set_test_aside(folder: SweepFolder) -> None:
    """Put the test scores of a sweep that is extended where they can be found, but not counted."""
    if folder.test_scores.exists():
        folder.set_aside.mkdir(exist_ok=True)
        folder.test_scores.rename(folder.new_test_set_aside)
