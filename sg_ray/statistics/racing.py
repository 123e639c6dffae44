"""Which configurations cannot win any more: the race that decides where the next seeds are spent.

A race spends, it claims nothing: that it may assume normal noise of one variance is why it drops a
clear loser after two or three seeds. Claims are those of ``sequential``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from sg_ray.errors import InputError
from sg_ray.statistics.arguments import require_share

Array = NDArray[np.float64]

_MAX_LOG = 700.0  # exp of more is no float


@dataclass(frozen=True)
class Drop:
    """A configuration that cannot win any more, and what showed it."""

    config: str
    against: str
    after_seeds: int
    evidence: float
    """The e-value against it, at least ``threshold``."""
    threshold: float
    difference: float
    """Mean of ``against`` minus its own, over the seeds so far."""


@dataclass(frozen=True)
class RaceState:
    """Where a race stands after ``num_rounds`` seeds that all its configurations have."""

    num_rounds: int
    dropped: tuple[Drop, ...]
    """In the order in which they were dropped."""
    undecided: tuple[str, ...]
    """Who should get the next seed: highest mean first. The race is over if it is only one."""


def race(scores: Mapping[str, Sequence[float]], alpha: float = 0.1) -> RaceState:
    """Return which configurations cannot win any more, and who should get the next seed.

    ``scores[config]`` holds its scores, higher is better, in an order of the seeds that is the
    same for all: NaN (or the end) for a seed that it does not have yet or will not get, -inf for
    one that failed, which counts as the worst score that the race has seen so far.

    A seed counts once every configuration still in the race has it; what came early is left out
    till then, so that the answer depends on neither the order of arrival nor the number of calls:
    what was dropped once stays dropped, whatever else it scores. Give every undecided
    configuration the next seed, then ask again.

    A configuration that is at least as good as all others is ever dropped with probability at
    most ``alpha``, for any number of ties and any stopping rule, if the noise around
    configuration and seed is normal with one variance; see cannot_win.

    Raises InputError for a score of +inf or an ``alpha`` outside 0..1.
    """
    names = list(scores)
    table = np.full((1, len(names), max(map(len, scores.values()), default=0)), math.nan)
    for row, values in zip(table[0], scores.values(), strict=True):
        row[: len(values)] = values
    drops = cannot_win(table, alpha)
    dropped = [
        Drop(
            config=name,
            against=names[drops.against[0, i]],
            after_seeds=int(drops.after[0, i]),
            evidence=float(drops.evidence[0, i]),
            threshold=drops.threshold,
            difference=float(drops.difference[0, i]),
        )
        for i, name in enumerate(names)
        if drops.after[0, i]
    ]
    best_first = np.argsort(-drops.means[0], kind="stable")
    return RaceState(
        num_rounds=int(drops.num_rounds[0]),
        dropped=tuple(sorted(dropped, key=lambda drop: drop.after_seeds)),
        undecided=tuple(names[i] for i in best_first if not drops.after[0, i]),
    )


class Drops(NamedTuple):
    """Outcome of S races of K configurations; [S, K] unless said otherwise."""

    after: NDArray[np.int64]
    """Number of seeds after which each was dropped; 0 if it was not."""
    against: NDArray[np.int64]
    """Index of the configuration with the most evidence against it then."""
    evidence: Array
    difference: Array
    """Mean of ``against`` minus its own, then."""
    means: Array
    """Over the seeds that counted while it was in the race."""
    num_rounds: NDArray[np.int64]
    """[S] seeds that counted."""
    threshold: float


def cannot_win(scores: ArrayLike, alpha: float = 0.1) -> Drops:
    """Run S races at once: ``scores`` [S, K, n], entries as for ``race``.

    After each seed, a configuration in the race is dropped if the evidence that some other one in
    it is better reaches (K - 1) / alpha. The evidence is that of a t-test with the right-Haar
    prior on means and variance and a standard half-normal prior on the effect size (difference
    over SD): an e-process in the data that remain after changes of unit and origin (Perez-Ortiz,
    Lardy, de Heide and Gruenwald 2024, "E-statistics, Group Invariance and Anytime-Valid
    Testing", Annals of Statistics 52; in closed form as in Lindon, Ham, Tingley and Bojinov,
    "Anytime-Valid Linear Models and Regression Adjusted Causal Inference"). One of the best is
    dropped only if one of K - 1 such e-processes reaches its bound.

    The variance is what is left of all scores in the race after means of configurations and
    seeds, so that 16 configurations have 15 degrees of freedom after 2 seeds. If the pair's own
    variance is larger, it takes its place: that can only weaken the evidence, and protects
    configurations that are noisier than the others. That drops change who contributes is beyond
    the theory cited; experiments/benchmarks/racing.py measures its effect, and that of unequal,
    skewed and heavy-tailed noise.

    Raises InputError as ``race`` does, and for a shape other than [S, K, n].
    """
    require_share("alpha", alpha)
    values = _checked(scores)
    races = _Races.at_start(values.shape[0], values.shape[1])
    threshold = max(values.shape[1] - 1, 1) / alpha
    for now in np.moveaxis(values, -1, 0):
        races.add_round(now)
        races.drop(threshold)
    return Drops(
        after=races.after,
        against=races.against,
        evidence=races.evidence,
        difference=races.difference,
        means=races.means,
        num_rounds=races.num_rounds,
        threshold=threshold,
    )


@dataclass
class _Races:
    """Running sums of S races of K configurations, and who was dropped.

    All in one race have the same seeds, so that deviations from the means so far, with the round's
    own mean taken off, give the residual sum of squares of the two-way layout exactly.
    """

    active: NDArray[np.bool_]
    """[S]: the last round counted."""
    num_rounds: NDArray[np.int64]
    worst: Array
    """[S]: the least score that counted; +inf before the first."""
    means: Array
    squares: Array
    """[S]: residual sum of squares, with degrees_of_freedom."""
    degrees_of_freedom: NDArray[np.int64]
    pair_squares: Array
    """[S, K, K]: the same of the paired differences alone."""
    after: NDArray[np.int64]
    against: NDArray[np.int64]
    evidence: Array
    difference: Array

    @classmethod
    def at_start(cls, num_races: int, num_configs: int) -> Self:
        shape = (num_races, num_configs)
        return cls(
            active=np.ones(num_races, dtype=np.bool_),
            num_rounds=np.zeros(num_races, dtype=np.int64),
            worst=np.full(num_races, math.inf),
            means=np.zeros(shape),
            squares=np.zeros(num_races),
            degrees_of_freedom=np.zeros(num_races, dtype=np.int64),
            pair_squares=np.zeros((*shape, num_configs)),
            after=np.zeros(shape, dtype=np.int64),
            against=np.zeros(shape, dtype=np.int64),
            evidence=np.zeros(shape),
            difference=np.zeros(shape),
        )

    def add_round(self, scores: Array) -> None:
        """Take in the next seed's ``scores`` [S, K] of the races in which none is missing."""
        racing = self.after == 0
        num_racing = racing.sum(axis=1)
        self.active &= ~(racing & np.isnan(scores)).any(axis=1) & (num_racing > 1)
        counts = racing & self.active[:, None]
        surprise = np.where(counts, self._with_failures_as_worst(scores, counts) - self.means, 0.0)
        num_before = self.num_rounds
        self.num_rounds = num_before + self.active
        weight = num_before / np.maximum(self.num_rounds, 1)
        centre = surprise.sum(axis=1) / np.maximum(num_racing, 1)
        residuals = np.where(counts, surprise - centre[:, None], 0.0)
        self.squares += weight * (residuals**2).sum(axis=1)
        self.degrees_of_freedom += np.where(self.active & (num_before > 0), num_racing - 1, 0)
        self.pair_squares += weight[:, None, None] * _less_rows(surprise) ** 2
        self.means += surprise / np.maximum(self.num_rounds, 1)[:, None]

    def _with_failures_as_worst(self, scores: Array, counts: NDArray[np.bool_]) -> Array:
        finite = np.where(counts & np.isfinite(scores), scores, math.inf)
        self.worst = np.minimum(self.worst, finite.min(axis=1, initial=math.inf))
        instead = np.where(np.isfinite(self.worst), self.worst, 0.0)  # if all failed, all are equal
        return np.where(np.isneginf(scores), instead[:, None], scores)

    def drop(self, threshold: float) -> None:
        """Drop every configuration against which the last round's evidence suffices."""
        racing = (self.after == 0) & self.active[:, None]
        evidence = self._evidence() * (racing[:, :, None] & racing[:, None, :])
        against = evidence.argmax(axis=2)
        most = evidence.max(axis=2, initial=0.0)
        now = racing & (most >= threshold)
        ahead = np.take_along_axis(self.means, against, axis=1) - self.means
        self.after[now] = np.broadcast_to(self.num_rounds[:, None], now.shape)[now]
        self.against[now] = against[now]
        self.evidence[now] = most[now]
        self.difference[now] = ahead[now]

    def _evidence(self) -> Array:
        """Return [S, K, K]: the evidence, in row a and column b, that b is better than a."""
        num = self.num_rounds[:, None, None]
        df = self.degrees_of_freedom[:, None, None]
        own = self.pair_squares / (2 * np.maximum(num - 1, 1))
        pooled = self.squares[:, None, None] / np.maximum(df, 1)
        return _t_evidence(_less_rows(self.means) / math.sqrt(2), np.maximum(own, pooled), num, df)


def _t_evidence(
    mean: Array, variance: Array, num: NDArray[np.int64], df: NDArray[np.int64]
) -> Array:
    """Return the e-value of a mean of ``num`` normal values against <= 0; 0 if ``mean`` <= 0.

    ``variance`` is estimated with ``df`` degrees of freedom. With t^2 = num mean^2 / variance and
    c = 1 + num, a standard normal prior on the effect size gives the likelihood ratio

        c^(-1/2) ((1 + t^2 / df) / (1 + t^2 / (c df)))^((df + 1) / 2);

    twice the posterior probability of an effect > 0 makes the prior half-normal. The result
    increases with the mean, so that the null hypothesis may be "<= 0".
    """
    c = 1.0 + num
    total = df * variance + num * mean**2
    rest = df * variance + num * mean**2 / c
    has_any = (mean > 0) & (rest > 0) & (df > 0)
    total, rest = np.where(has_any, total, 1.0), np.where(has_any, rest, 1.0)
    posterior_t = num * mean * np.sqrt((df + 1) / (c * rest))
    log_ratio = (df + 1) / 2 * np.log(total / rest) - np.log(c) / 2
    doubled = 2 * special.stdtr(df + 1, posterior_t)
    return np.where(has_any, doubled * np.exp(np.minimum(log_ratio, _MAX_LOG)), 0.0)


def _less_rows(values: Array) -> Array:
    """Return [S, K, K] with ``values`` [S, K] of the column minus that of the row."""
    return values[:, None, :] - values[:, :, None]


def _checked(scores: ArrayLike) -> Array:
    given = np.asarray(scores, dtype=np.float64)
    if given.ndim != 3 or np.isposinf(given).any():
        raise InputError(
            f"scores: need an array [races, configurations, seeds] without +inf, have shape "
            f"{list(given.shape)}. Pass NaN for a score that is missing and -inf for a failure."
        )
    return given
