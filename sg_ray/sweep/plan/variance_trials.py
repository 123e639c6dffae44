"""Trials that take one stream of random numbers from another seed, to split variance by source.

Where a score over seeds varies, is it the first weights or the order of the data? The winner is
trained again with only one of them changed (Bouthillier et al. 2021, "Accounting for Variance in
Machine Learning Benchmarks", MLSys).
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import count, islice

from sg_ray.config import ReplicateSettings
from sg_ray.jobs.job import TrainJob
from sg_ray.records.leaderboard import Row
from sg_ray.sweep.plan.model_plan import Fits, ModelPlan, all_fit
from sg_ray.trial.spec import TrialSpec


class VarianceTrials:
    """What the planner asks last, when the winner is known; ``winner`` returns its row."""

    def __init__(
        self,
        plans: Mapping[str, ModelPlan],
        replicate: ReplicateSettings,
        winner: Callable[[], Row | None],
    ) -> None:
        self._plans, self._winner = plans, winner
        self._specs: list[tuple[ModelPlan, TrialSpec]] | None = None
        self._base_seed = replicate.seeds[0]
        self._num_seeds = replicate.variance_seeds

    @property
    def settled(self) -> bool:
        """True once all of them are on record."""
        return all(plan.is_known(spec) for plan, spec in self._trials)

    def next_job(self, fits: Fits = all_fit) -> TrainJob | None:
        """Return the next missing trial that ``fits``."""
        able = ((plan, spec) for plan, spec in self._trials if fits(plan.model.resources))
        jobs = (plan.job(spec, "variance") for plan, spec in able)
        return next((job for job in jobs if job is not None), None)

    def open_trials(self) -> Iterator[TrainJob]:
        """Yield all that is missing, left open as of ``ModelPlan.open_job``."""
        for plan, spec in self._trials:
            if (job := plan.open_job(spec, "variance")) is not None:
                yield job

    @property
    def _trials(self) -> list[tuple[ModelPlan, TrialSpec]]:
        if self._specs is None:  # asked when all else is on record: the winner stays the winner
            self._specs = list(self._of_winner())
        return self._specs

    def _of_winner(self) -> Iterator[tuple[ModelPlan, TrialSpec]]:
        winner = self._winner() if self._num_seeds else None
        if winner is None or not self._plans[winner.model].model.is_neural:
            return
        plan = self._plans[winner.model]
        base = plan.spec(winner.configuration, self._base_seed)
        others = (seed for seed in count(1) if seed != self._base_seed)
        for seed in islice(others, self._num_seeds):
            yield plan, base.with_streams({"init": seed})
            yield plan, base.with_streams({"order": seed})
