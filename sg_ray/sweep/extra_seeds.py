"""Seeds beyond the planned ones, in rounds, for what those leave undecided.

A round is one seed for every configuration that is still in the race of a family in question. Who
takes part follows from the scores of earlier rounds alone, so that the sequential tests hold, and
that a resumed sweep goes on as the uninterrupted one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sg_ray.config import Experiment
from sg_ray.models.families import get_family
from sg_ray.sweep.jobs import TrainJob
from sg_ray.sweep.race import CLAIM_ALPHA, family_claims

if TYPE_CHECKING:
    from sg_ray.sweep.planner import FamilyPlan


@dataclass(frozen=True)
class _Entry:
    """A configuration that takes part in a round."""

    plan: "FamilyPlan"
    config: Mapping[str, Any]


class ExtraSeeds:
    """What the planner asks once every family has its planned seeds."""

    def __init__(self, experiment: Experiment, plans: Mapping[str, "FamilyPlan"]) -> None:
        self._experiment, self._plans = experiment, plans
        self._replicate = experiment.replicate
        self._rounds: dict[int, list[_Entry]] = {}

    @property
    def settled(self) -> bool:
        """True if nothing is undecided, or there are no more seeds for it."""
        return self._open_round() is None

    def next_job(self) -> TrainJob | None:
        """Return a job of the round that is open, or None: wait for its others, or all is done."""
        open_round = self._open_round()
        if open_round is None:
            return None
        seed, entries = open_round
        for plan, config in ((entry.plan, entry.config) for entry in entries):
            if len(plan.branch_sources(seed)) < len(get_family(plan.family).branches):
                continue  # its branches are in this round too
            job = plan.extra_job(config, seed)
            if job is not None:
                return job
        return None

    def _open_round(self) -> tuple[int, list[_Entry]] | None:
        """Return the first round with a trial that is not on record."""
        known = self._replicate.seeds
        for seed in self._replicate.extra_seeds:
            if seed not in self._rounds:  # all before it is on record, so this stays as it is
                self._rounds[seed] = self._entries(known, seed)
            entries = self._rounds[seed]
            if not entries:
                return None
            if not all(entry.plan.is_on_record(entry.config, seed) for entry in entries):
                return seed, entries
            known = (*known, seed)
        return None

    def _entries(self, known: Sequence[int], seed: int) -> list[_Entry]:
        """Return who takes part in the round of ``seed``, by what the seeds ``known`` say."""
        open_families = self._open_families(known)
        wanted: dict[str, list[Mapping[str, Any]]] = {family: [] for family in self._plans}
        for family, plan in self._plans.items():
            in_race = plan.in_race(known)
            is_asked = family in open_families and self._can_afford(plan, in_race, known)
            if is_asked and self._can_have_branches(family, seed):
                wanted[family] += in_race
                for branch, config in self._branches(family).items():
                    wanted[branch].append(config)
        return [
            _Entry(self._plans[family], config)
            for family, configs in wanted.items()
            for number, config in enumerate(configs)
            if config not in configs[:number]
        ]

    def _open_families(self, known: Sequence[int]) -> set[str]:
        """Return the families with several in the race, or not told apart from another."""
        rounds = known[1:]
        trials = {family: plan.trials(known) for family, plan in self._plans.items()}
        dropped = {family: plan.dropped(known) for family, plan in self._plans.items()}
        claims = family_claims(trials, dropped, rounds, self._experiment.objective)
        undecided = [pair for pair, claim in claims.items() if claim.p_holm > CLAIM_ALPHA]
        racing = {f for f, of_config in trials.items() if len(of_config) - len(dropped[f]) > 1}
        return racing.union(*undecided)

    def _can_afford(
        self, plan: "FamilyPlan", in_race: Sequence[Mapping[str, Any]], known: Sequence[int]
    ) -> bool:
        budget = self._replicate.budget_epochs
        if budget is None:
            return True
        cost = sum(int(config.get("epochs", 1)) for config in in_race)
        return plan.num_epochs(known) + cost <= budget

    def _branches(self, family: str) -> dict[str, Mapping[str, Any]]:
        """Return the configurations in this sweep that a family builds on."""
        found = {name: self._plans.get(name) for name in get_family(family).branches}
        rows = {name: plan.branch for name, plan in found.items() if plan is not None}
        return {name: row.config for name, row in rows.items() if row is not None}

    def _can_have_branches(self, family: str, seed: int) -> bool:
        """Return True unless the family builds on trials of another sweep that lacks the seed."""
        own = self._branches(family)
        given = [name for name in get_family(family).branches if name not in own]
        return all(name in self._plans[family].branch_sources(seed) for name in given)
