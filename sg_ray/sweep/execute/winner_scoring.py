"""The test split: read once in the life of a sweep, for the winner, after everything is decided."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from sg_ray.files import write_json
from sg_ray.jobs.job import TestJob
from sg_ray.records.events import WinnerTested
from sg_ray.records.journal import Journal
from sg_ray.sweep.plan.model_plan import Fits, all_fit
from sg_ray.sweep.plan.planner import Planner
from sg_ray.sweep_folder import SweepFolder


class WinnerTest:
    """Scores the winner on the test split, once in the life of a sweep."""

    def __init__(self, planner: Planner, journal: Journal, folder: SweepFolder) -> None:
        self._planner, self._journal = planner, journal
        self._path = folder.test_scores
        self._folder = folder
        self._jobs: list[TestJob] | None = None
        self._scores: dict[str, Mapping[str, float]] = {}
        self._seeds: list[str] = []
        self.problems: list[str] = []

    @property
    def done(self) -> bool:
        """True if there is nothing to score, or it is scored."""
        return self._path.exists() or not self._planner.has_test_split

    def next_job(self, fits: Fits = all_fit) -> TestJob | None:
        """Return the next of the winner's seeds to score that ``fits``.

        None if all are being scored or were, or without a split.
        """
        if self._jobs is None:
            self._jobs = [] if self._path.exists() else self._plan()
            self._seeds = [str(job.spec.seed) for job in self._jobs]
        return self._jobs.pop(0) if self._jobs and fits(self._jobs[0].resources) else None

    def on_finished(self, job: TestJob, result: Mapping[str, Any]) -> None:
        """Keep a seed's scores; with the last of them write the file."""
        if result.get("failure"):
            reason = f"{result['failure']['kind']}: {result['failure']['message']}"
            self.problems.append(f"{job.spec.name} could not be scored on the test split: {reason}")
            return
        self._scores[str(job.spec.seed)] = result["metrics"]
        if len(self._scores) < len(self._seeds):
            return
        by_seed = {seed: self._scores[seed] for seed in self._seeds}  # whichever came first
        names = list(result["metrics"])
        means = {n: fmean(scores[n] for scores in by_seed.values()) for n in names}
        summary = {
            "model": job.spec.model,
            "config_hash": job.spec.config_hash,
            "metrics": means,
            "seeds": by_seed,
        }
        write_json(self._path, summary)
        self._journal.append(
            WinnerTested(
                model=job.spec.model,
                metrics=means,
                num_seeds=len(by_seed),
                is_below_floor=self._planner.winner_is_below_floor,
            )
        )

    def _plan(self) -> list[TestJob]:
        winner = self._planner.winner()
        if winner is None or not self._planner.has_test_split:
            return []
        plan = self._planner.plans[winner.model]
        seeds = sorted(winner.seeds, key=self._planner.rules.replicate.all_seeds.index)
        specs = [plan.spec(winner.configuration, seed) for seed in seeds]
        return [
            TestJob(
                spec=spec,
                resources=plan.model.resources,
                folder=self._folder.trial(spec.trial_key),
            )
            for spec in specs
        ]
