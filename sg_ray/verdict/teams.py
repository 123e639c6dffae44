"""The sides of a comparison: configurations, or the finalists of a model as a team."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sg_ray.statistics.seeds_needed import smallest_anytime_p
from sg_ray.statistics.sequential import family_e_process
from sg_ray.verdict.model import Side
from sg_ray.verdict.trials import Contender, Results, Trial

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Team:
    """One configuration, or several of one model of which the best counts; best first."""

    members: tuple[Contender, ...]

    @property
    def in_race(self) -> tuple[Contender, ...]:
        """The members that the race has not given up; all of them if it has no other."""
        return tuple(one for one in self.members if one.is_in_race) or self.members

    @property
    def best(self) -> Contender:
        """The member that stands for the team where only one can be shown."""
        return self.in_race[0]

    @property
    def is_floor(self) -> bool:
        """Whether it is the floor."""
        return self.best.row.is_floor

    @property
    def is_silent(self) -> bool:
        """Whether none of its trials has a score."""
        return not any(one.judged for one in self.members)

    @property
    def side(self) -> Side:
        """A configuration or, with several members, the model."""
        row = self.best.row
        if len(self.members) > 1:
            return Side(model=row.model, config_hash="")
        return Side(model=row.model, config_hash=row.config_hash, short_name=row.configuration.name)


@dataclass(frozen=True)
class Duel:
    """Two teams, seed by seed.

    ``worst`` is the worst score that any configuration of the question reached with a fresh seed;
    it stands for one that failed. Differences are > 0 where the first team is better.
    """

    a: Team
    b: Team
    results: Results
    worst: float | None

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seeds on which the best of both are compared."""
        return self.results.common_seeds(self.a.best, self.b.best)

    @property
    def trials(self) -> tuple[list[Trial], list[Trial]]:
        """The trials of the best of both with these seeds."""
        a, b = ([team.best.trial(seed) for seed in self.seeds] for team in (self.a, self.b))
        return a, b

    @cached_property
    def differences(self) -> Array:
        """Best of a minus best of b, shape [n]."""
        return _differences(self.a.best, self.b.best, self.results, self.worst)

    @cached_property
    def evidence(self) -> tuple[Array, Array]:
        """That a beats b, and that b beats a, after 0, 1, ... seeds."""
        return self._evidence(self.a, self.b), self._evidence(self.b, self.a)

    @property
    def smallest_p(self) -> float:
        """What the evidence could at best have come to with the seeds that there are."""
        return min(self._smallest_p(self.a, self.b), self._smallest_p(self.b, self.a))

    def swapped(self) -> "Duel":
        """Return the same with the teams exchanged."""
        return Duel(self.b, self.a, self.results, self.worst)

    def _evidence(self, first: Team, second: Team) -> Array:
        """Return the evidence that the best of ``first`` beats all of ``second`` in the race.

        All finalists of the first share the bet, those that the race gave up included: leaving
        them out would be choosing by the scores. Those of the second must all be beaten but for
        what the race gave up, which keeps no claim to be its best.
        """
        rows = [
            [_differences(a, b, self.results, self.worst) for b in second.in_race]
            for a in first.members
        ]
        num_seeds = max(len(pair) for row in rows for pair in row)
        table = np.zeros((len(rows), len(rows[0]), num_seeds))
        for cells, row in zip(table, rows, strict=True):
            for cell, pair in zip(cells, row, strict=True):
                cell[: len(pair)] = pair
        return family_e_process(table)

    def _smallest_p(self, first: Team, second: Team) -> float:
        """Return the least p that ``_evidence`` can give: each pair at the least of its own."""
        most = [
            min(1 / smallest_anytime_p(self._num_common(a, b)) for b in second.in_race)
            for a in first.members
        ]
        return len(most) / sum(most)

    def _num_common(self, a: Contender, b: Contender) -> int:
        return len(self.results.common_seeds(a, b))


def worst_score(teams: Sequence[Team], results: Results) -> float | None:
    """Return the worst score of any member with a fresh seed; None if all failed."""
    scores = [
        trial.score
        for team in teams
        for member in team.members
        for trial in member.fresh
        if trial.score is not None
    ]
    return (max if results.lower_is_better else min)(scores, default=None)


def duels(teams: Sequence[Team], results: Results) -> Iterator[Duel]:
    """Yield all pairs of ``teams``, in their order."""
    worst = worst_score(teams, results)
    for place, team in enumerate(teams):
        for other in teams[place + 1 :]:
            yield Duel(team, other, results, worst)


def _differences(a: Contender, b: Contender, results: Results, worst: float | None) -> Array:
    """Return a - b on their common seeds, > 0 where a is better; 0 if ``worst`` is None."""
    seeds = results.common_seeds(a, b)
    sign = -1.0 if results.lower_is_better else 1.0
    scores = np.array([[_score(one.trial(seed), worst) for seed in seeds] for one in (a, b)])
    return np.asarray(sign * (scores[0] - scores[1]))


def _score(trial: Trial, worst: float | None) -> float:
    if trial.score is not None:
        return trial.score
    return 0.0 if worst is None else worst
