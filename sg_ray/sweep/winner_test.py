"""The test split: read once in the life of a sweep, for the winner, after everything is decided."""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict

from sg_ray.config import Experiment
from sg_ray.files import write_json
from sg_ray.reading import read_model
from sg_ray.sweep.events import Journal
from sg_ray.sweep.jobs import TestJob
from sg_ray.sweep.planner import Planner
from sg_ray.sweep.records import trial_dir

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


class WinnerTest:
    """Scores the winner on the test split, once in the life of a sweep."""

    def __init__(
        self, experiment: Experiment, planner: Planner, journal: Journal, sweep_dir: Path
    ) -> None:
        self._experiment, self._planner, self._journal = experiment, planner, journal
        self._path = sweep_dir / _FILE
        self._sweep_dir = sweep_dir
        self._jobs: list[TestJob] | None = None
        self._scores: dict[str, Mapping[str, float]] = {}
        self._num_jobs = 0
        self.problems: list[str] = []

    @property
    def done(self) -> bool:
        """True if there is nothing to score, or it is scored."""
        return self._path.exists() or not self._planner.has_test_split

    def next_job(self) -> TestJob | None:
        """Return the next of the winner's seeds to score; None if scored, or without a split."""
        if self._jobs is None:
            self._jobs = [] if self._path.exists() else self._plan()
            self._num_jobs = len(self._jobs)
        return self._jobs.pop(0) if self._jobs else None

    def on_finished(self, job: TestJob, result: Mapping[str, Any]) -> None:
        """Keep a seed's scores; with the last of them write the file."""
        if result.get("failure"):
            reason = f"{result['failure']['kind']}: {result['failure']['message']}"
            self.problems.append(f"{job.spec.name} could not be scored on the test split: {reason}")
            return
        self._scores[str(job.spec.seed)] = result["metrics"]
        if len(self._scores) < self._num_jobs:
            return
        names = list(result["metrics"])
        means = {n: fmean(scores[n] for scores in self._scores.values()) for n in names}
        summary = {
            "family": job.spec.family,
            "config_hash": job.spec.config_hash,
            "metrics": means,
            "seeds": self._scores,
        }
        write_json(self._path, summary)
        self._journal.append("test_scored", family=job.spec.family, metrics=means)

    def _plan(self) -> list[TestJob]:
        winner = self._planner.winner()
        if winner is None or not self._planner.has_test_split:
            return []
        plan = self._planner.plans[winner.family]
        specs = [plan.spec(winner.config, seed) for seed in winner.seeds]
        return [
            TestJob(
                spec=spec,
                resources=self._experiment.resources_of(winner.family),
                folder=trial_dir(self._sweep_dir, spec.trial_key),
            )
            for spec in specs
        ]


def read_test_scores(sweep_dir: Path) -> dict[tuple[str, str], Metrics]:
    """Return the winner's mean test metrics by family and configuration; empty if not scored."""
    found = read_scores(sweep_dir)
    return {} if found is None else {(found.family, found.config_hash): found.metrics}


def read_scores(sweep_dir: Path) -> ScoresOnTest | None:
    """Return what ``test.json`` says; None without it. Raises InputError if it is damaged."""
    path = sweep_dir / _FILE
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
    path = sweep_dir / _FILE
    if path.exists():
        aside = sweep_dir / _ASIDE
        aside.mkdir(exist_ok=True)
        path.rename(aside / f"test-{len(tests_set_aside(sweep_dir)) + 1:03d}.json")


def tests_set_aside(sweep_dir: Path) -> list[Path]:
    """Return the files of test scores that a sweep had before it was extended."""
    return sorted((sweep_dir / _ASIDE).glob("test-*.json"))
