"""Seeds beyond the planned ones, in rounds, for what those leave undecided.

A round is one seed for every configuration that is still in the race of a model in question. Who
takes part follows from the scores of earlier rounds alone, so that the sequential tests hold, and
that a resumed sweep goes on as the uninterrupted one.

A round is handed out once all before it are on record. Where a machine would wait for that, a model
goes on to the next round as soon as its own trials are on record, if whatever the others come to
cannot keep it from that round. So the trials are the same, and are done sooner.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sg_ray.config import ReplicateSettings
from sg_ray.configuration import Configuration
from sg_ray.jobs.job import TrainJob
from sg_ray.records.race import CLAIM_ALPHA, model_claims
from sg_ray.statistics.seeds_needed import smallest_anytime_p
from sg_ray.sweep.plan.model_plan import Fits, ModelPlan, all_fit


@dataclass(frozen=True)
class _Entry:
    """A configuration that takes part in a round."""

    plan: ModelPlan
    configuration: Configuration


class ExtraSeeds:
    """What the planner asks once every model has its planned seeds."""

    def __init__(
        self, plans: Mapping[str, ModelPlan], replicate: ReplicateSettings, objective: str
    ) -> None:
        self._plans, self._replicate, self._objective = plans, replicate, objective
        self._rounds: dict[int, list[_Entry]] = {}

    @property
    def settled(self) -> bool:
        """True if nothing is undecided, or there are no more seeds for it."""
        return self._open_round() is None

    def next_job(self, fits: Fits = all_fit, *, has_planned_seeds: bool = True) -> TrainJob | None:
        """Return a job that ``fits``; None: wait for others, or all is done.

        ``has_planned_seeds`` is False while a model lacks some of its planned seeds.
        """
        for seed, entries in self._rounds_now(has_planned_seeds=has_planned_seeds):
            job = self._next_of(entries, seed, fits)
            if job is not None:
                return job
        return None

    def _next_of(self, entries: Sequence[_Entry], seed: int, fits: Fits) -> TrainJob | None:
        for entry in entries:
            if not entry.plan.has_branches(seed):
                continue  # what it builds on is in this round too
            if not fits(entry.plan.model.resources):
                continue
            job = entry.plan.extra_job(entry.configuration, seed)
            if job is not None:
                return job
        return None

    def _rounds_now(self, *, has_planned_seeds: bool) -> Iterator[tuple[int, Sequence[_Entry]]]:
        """Yield the open round, then those after it with whoever is certain to take part."""
        open_round = self._open_round() if has_planned_seeds else None
        if open_round is not None:
            yield open_round
        elif has_planned_seeds:
            return
        known = self._replicate.seeds
        for seed in self._replicate.extra_seeds:
            if seed not in self._rounds:  # what came before is not all on record
                entries = self._certain_entries(known, seed)
                if not entries:
                    return
                yield seed, entries
            known = (*known, seed)

    def _open_round(self) -> tuple[int, list[_Entry]] | None:
        """Return the first round with a trial that is not on record."""
        known = self._replicate.seeds
        for seed in self._replicate.extra_seeds:
            if seed not in self._rounds:  # all before it is on record, so this stays as it is
                self._rounds[seed] = self._entries(known, seed)
            entries = self._rounds[seed]
            if not entries:
                return None
            if not all(entry.plan.is_on_record(entry.configuration, seed) for entry in entries):
                return seed, entries
            known = (*known, seed)
        return None

    def _entries(self, known: Sequence[int], seed: int) -> list[_Entry]:
        """Return who takes part in the round of ``seed``, by what the seeds ``known`` say."""
        able = [model for model in self._plans if self._can_have(model, known, seed)]
        return self._entries_of(self._open_models(able, known), known)

    def _certain_entries(self, known: Sequence[int], seed: int) -> list[_Entry]:
        """Return those who take part in the round of ``seed`` whatever is not on record yet.

        With few seeds no outcome can tell two models apart, so that all of them are in question. Of
        a model that has its own seeds on record, it is known who is still in its race.
        """
        if self._replicate.budget_epochs is not None:  # others may have to stay out
            return []
        if smallest_anytime_p(len(known) - 1) <= CLAIM_ALPHA:
            return []
        able = [model for model in self._plans if self._can_have(model, known, seed)]
        compared = [model for model in able if self._plans[model].finalists]
        if len(compared) < 2:
            return []
        return self._entries_of([m for m in compared if self._has_all(m, known)], known)

    def _has_all(self, model: str, seeds: Sequence[int]) -> bool:
        """Return True if those in a model's race over ``seeds`` have each of them on record."""
        plan = self._plans[model]
        in_race = plan.in_race(seeds)
        return all(plan.is_on_record(one, seed) for seed in reversed(seeds) for one in in_race)

    def _entries_of(self, models: Sequence[str], known: Sequence[int]) -> list[_Entry]:
        """Return a round's entries if these models are in question, with what they build on."""
        wanted: dict[str, list[Configuration]] = {model: [] for model in self._plans}
        for model in models:
            wanted[model] += self._plans[model].in_race(known)
            for branch in self._branches(model).values():
                wanted[branch.model].append(branch)
        return [
            _Entry(self._plans[model], configuration)
            for model, configurations in wanted.items()
            for configuration in dict.fromkeys(configurations)
        ]

    def _open_models(self, able: Sequence[str], known: Sequence[int]) -> list[str]:
        """Return those of ``able`` with several in the race, or not told apart from another."""
        rounds = known[1:]
        trials = {model: plan.trials(known) for model, plan in self._plans.items()}
        dropped = {model: plan.dropped(known) for model, plan in self._plans.items()}
        claims = model_claims(trials, dropped, rounds, self._objective)
        undecided = [
            pair
            for pair, claim in claims.items()
            if claim.p_holm > CLAIM_ALPHA and set(pair) <= set(able)
        ]
        racing = {m for m, of_config in trials.items() if len(of_config) - len(dropped[m]) > 1}
        asked = racing.union(*undecided)
        return [model for model in able if model in asked]

    def _can_have(self, model: str, known: Sequence[int], seed: int) -> bool:
        """Return True if a model's next seed is within its budget, and has what it builds on."""
        plan, budget = self._plans[model], self._replicate.budget_epochs
        if budget is not None:
            cost = sum(int(one.values.get("epochs", 1)) for one in plan.in_race(known))
            if plan.num_epochs(known) + cost > budget:
                return False
        given = plan.model.branches.keys() - self._branches(model).keys()
        return all(given <= plan.branch_sources(one).keys() for one in (*known, seed))

    def _branches(self, model: str) -> dict[str, Configuration]:
        """Return the configurations in this sweep that a model builds on, by their families."""
        branches = self._plans[model].model.branches.items()
        own = {family: name for family, name in branches if name in self._plans}
        found = {family: self._plans[name].branch for family, name in own.items()}
        return {family: branch for family, branch in found.items() if branch is not None}
