"""Trials that are trained again for their weights, which an earlier end of the sweep let go.

Only what won by an extension (a longer search, more finalists or seeds) can lack them. Test scores
and the exported model need the weights; the numbers are on record, and come out the same.
"""

from collections.abc import Callable, Iterator, Mapping

from sg_ray.jobs.job import TrainJob
from sg_ray.records.leaderboard import Row
from sg_ray.records.record import RunRecord
from sg_ray.sweep.plan.ledger import Ledger
from sg_ray.sweep.plan.model_plan import Fits, ModelPlan, all_fit
from sg_ray.sweep_folder import BEST


class WeightsAgain:
    """What the planner asks after all else; ``winners`` returns each model's row."""

    def __init__(
        self,
        plans: Mapping[str, ModelPlan],
        ledger: Ledger,
        winners: Callable[[], Mapping[str, Row]],
    ) -> None:
        self._plans, self._ledger, self._winners = plans, ledger, winners

    @property
    def settled(self) -> bool:
        """True once every trial of every winner has weights."""
        return not any(self._lacking())

    def next_job(self, fits: Fits = all_fit) -> TrainJob | None:
        """Return the next such trial that ``fits``."""
        for record in self._lacking():
            plan = self._plans[record.model]
            if fits(plan.model.resources):
                job = plan.job_again(plan.spec(record.configuration, record.seed), record.stage)
                if job is not None:
                    return job
        return None

    def _lacking(self) -> Iterator[RunRecord]:
        if not self._ledger.let_go:
            return
        for row in self._winners().values():
            for seed in row.seeds:
                key = self._plans[row.model].spec(row.configuration, seed).trial_key
                weights = self._ledger.folder.trial(key) / BEST
                if key in self._ledger.let_go and not weights.exists():
                    yield self._ledger.records[key]
