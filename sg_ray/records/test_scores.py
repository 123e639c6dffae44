"""What ``test.json`` says: the winner's scores on the test split, and those set aside."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from sg_ray.reading import read_model

_FILE = "test.json"
_ASIDE = "set_aside"

Metrics = Mapping[str, float | None]


class ScoresOnTest(BaseModel):
    """Content of ``test.json``: means, and the scores of each seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    family: str
    config_hash: str
    metrics: Metrics
    seeds: Mapping[str, Metrics]


def scores_path(sweep_dir: Path) -> Path:
    """Where a sweep's scores on the test split lie, once there are any."""
    return sweep_dir / _FILE


def read_test_scores(sweep_dir: Path) -> dict[tuple[str, str], Metrics]:
    """Return the winner's mean test metrics by family and configuration; empty if not scored."""
    found = read_scores(sweep_dir)
    return {} if found is None else {(found.family, found.config_hash): found.metrics}


def read_scores(sweep_dir: Path) -> ScoresOnTest | None:
    """Return what ``test.json`` says; None without it. Raises InputError if it is damaged."""
    path = scores_path(sweep_dir)
    if not path.exists():
        return None
    return read_model(
        path,
        ScoresOnTest,
        what="score on the test split",
        remedy="Restore it from a copy, or delete it: the next `sg-ray sweep --resume` then scores "
        "the same winner again.",
    )


def set_test_aside(sweep_dir: Path) -> None:
    """Put the test scores of a sweep that is extended where they can be found, but not counted."""
    path = scores_path(sweep_dir)
    if path.exists():
        aside = sweep_dir / _ASIDE
        aside.mkdir(exist_ok=True)
        path.rename(aside / f"test-{len(tests_set_aside(sweep_dir)) + 1:03d}.json")


def tests_set_aside(sweep_dir: Path) -> list[Path]:
    """Return the files of test scores that a sweep had before it was extended."""
    return sorted((sweep_dir / _ASIDE).glob("test-*.json"))
