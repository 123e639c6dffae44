"""Seeds beyond the planned ones, in rounds, for what those leave undecided.

A round is one seed for every configuration that is still in the race of a family in question. Who
takes part follows from the scores of earlier rounds alone, so that the sequential tests hold, and
that a resumed sweep goes on as the uninterrupted one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sg_ray.config import Experiment
from sg_ray.models.families import get_family
from sg_ray.records.race import CLAIM_ALPHA, family_claims
from sg_ray.sweep.plan.family_plan import FamilyPlan
from sg_ray.sweep.plan.jobs import TrainJob


@dataclass(frozen=True)
class _Entry:
    """A configuration that takes part in a round."""

    plan: FamilyPlan
    config: Mapping[str, Any]


class ExtraSeeds:
    """What the planner asks once every family has its planned seeds."""

    def __init__(self, experiment: Experiment, plans: Mapping[str, FamilyPlan]) -> None:
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
            if not plan.has_branches(seed):
                continue  # what it builds on is in this round too
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
        able = [family for family in self._plans if self._can_have(family, known, seed)]
        wanted: dict[str, list[Mapping[str, Any]]] = {family: [] for family in self._plans}
        for family in self._open_families(able, known):
            wanted[family] += self._plans[family].in_race(known)
            for branch, config in self._branches(family).items():
                wanted[branch].append(config)
        return [
            _Entry(self._plans[family], config)
            for family, configs in wanted.items()
            for number, config in enumerate(configs)
            if config not in configs[:number]
        ]

    def _open_families(self, able: Sequence[str], known: Sequence[int]) -> list[str]:
        """Return those of ``able`` with several in the race, or not told apart from another."""
        rounds = known[1:]
        trials = {family: plan.trials(known) for family, plan in self._plans.items()}
        dropped = {family: plan.dropped(known) for family, plan in self._plans.items()}
        claims = family_claims(trials, dropped, rounds, self._experiment.objective)
        undecided = [
            pair
            for pair, claim in claims.items()
            if claim.p_holm > CLAIM_ALPHA and set(pair) <= set(able)
        ]
        racing = {f for f, of_config in trials.items() if len(of_config) - len(dropped[f]) > 1}
        asked = racing.union(*undecided)
        return [family for family in able if family in asked]

    def _can_have(self, family: str, known: Sequence[int], seed: int) -> bool:
        """Return True if a family's next seed is within its budget, and has what it builds on."""
        plan, budget = self._plans[family], self._replicate.budget_epochs
        if budget is not None:
            cost = sum(int(config.get("epochs", 1)) for config in plan.in_race(known))
            if plan.num_epochs(known) + cost > budget:
                return False
        given = set(get_family(family).branches) - self._branches(family).keys()
        return all(given <= plan.branch_sources(one).keys() for one in (*known, seed))

    def _branches(self, family: str) -> dict[str, Mapping[str, Any]]:
        """Return the configurations in this sweep that a family builds on."""
        own = [name for name in get_family(family).branches if name in self._plans]
        found = {name: self._plans[name].branch for name in own}
        return {name: config for name, config in found.items() if config is not None}
