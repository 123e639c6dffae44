"""Trials that are trained again for their weights, which an earlier end of the sweep let go.

Only what won by an extension (a longer search, more finalists or seeds) can lack them. Test scores
and the exported model need the weights; the numbers are on record. They come out the same on the
same kind of machine, those of seeds that were stacked up to rounding. Each is tried once a start.
"""

from collections.abc import Callable, Iterator, Mapping

from sg_ray.jobs.job import TrainJob
from sg_ray.records.leaderboard import Row
from sg_ray.records.record import RunRecord
from sg_ray.sweep.plan.ledger import Ledger
from sg_ray.sweep.plan.model_plan import Fits, ModelPlan, all_fit


class WeightsAgain:
    """What the planner asks after all else; ``winners`` returns each model's row."""

    def __init__(
        self,
        plans: Mapping[str, ModelPlan],
        ledger: Ledger,
        winners: Callable[[], Mapping[str, Row]],
    ) -> None:
        self._plans, self._ledger, self._winners = plans, ledger, winners
        self._tried: set[str] = set()

    @property
    def settled(self) -> bool:
        """True once every trial of every winner has weights, or was trained again in vain."""
        return all(self._is_done(record) for record in self._lacking())

    def next_job(self, fits: Fits = all_fit) -> TrainJob | None:
        """Return the next such trial that ``fits``."""
        for record in self._lacking():
            plan = self._plans[record.model]
            if record.trial_key not in self._tried and fits(plan.model.resources):
                self._tried.add(record.trial_key)
                spec = plan.spec(record.configuration, record.seed)
                return plan.job_again(spec, record.stage)
        return None

    def _is_done(self, record: RunRecord) -> bool:
        is_running = self._plans[record.model].is_in_flight(record.trial_key)
        return record.trial_key in self._tried and not is_running

    def _lacking(self) -> Iterator[RunRecord]:
        if not self._ledger.let_go:
            return
        for row in self._winners().values():
            for seed in row.seeds:
                key = self._plans[row.model].spec(row.configuration, seed).trial_key
                if self._ledger.lacks_weights(key):
                    yield self._ledger.records[key]
