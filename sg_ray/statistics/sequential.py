"""Tests over seeds that stay valid however often one looks and whenever one stops.

Two kinds, because two questions are asked while a sweep runs:

- May one say that A beats B? A claim, so it assumes little: see ``beats_e_process``.
- Is it worth another seed? Spending, so ``race`` may assume normal noise of equal variance, and
  can therefore drop a clear loser after two or three seeds.

Both rest on e-processes: evidence E_0 = 1, E_1, ... that no stopping rule can raise above 1 in
expectation while the null hypothesis holds, so that it ever reaches 1 / alpha with probability
at most alpha (Ville's inequality; Ramdas, Gruenwald, Vovk and Shafer 2023, "Game-Theoretic
Statistics and Safe Anytime-Valid Inference", Statistical Science 38).

What no test can repair is a choice of seeds that looks at their scores: which configurations get
a seed must be settled before any of them has finished with it.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from sg_ray.errors import InputError
from sg_ray.statistics.multiple import holm

Array = NDArray[np.float64]
Pair = TypeVar("Pair", bound=Hashable)

ALL_IN_SHARE = 5 / 8
"""Of the capital, on "A wins every seed": 5/8 * 2^6 / 2 = 1 / 0.05, so that 6 wins decide."""

EFFECT_SIZE = 1.0
"""Mean difference over its SD that the rest of the capital bets on."""

_SD_PER_MEAN_MAGNITUDE = math.sqrt(math.pi / 2)  # of a normal variable of mean 0
_MAX_LOG = 700.0  # exp of more is no float
_NUM_CONTINUATIONS = 400
_NUM_SIMULATED = 2000
_LARGEST_EFFECT = 10.0
_EFFECT_PRECISION = 0.01


def beats_e_process(differences: ArrayLike) -> Array:
    """Return the evidence that A beats B after 0..n seeds, from A - B seed by seed.

    ``differences`` [..., n] in the order in which the seeds ran; the result is [..., n + 1] and
    starts with 1. Null hypothesis: given the past, each difference is symmetric and unimodal about
    a centre <= 0; no normality, no equal variances. Then, whatever its magnitude, its sign is + at
    best as often as -, and a bet of a share 0..1 of the capital on + that knows the past and the
    magnitude is no better than fair.

    Two bettors share the capital. One stakes everything on + each time. The other stakes
    tanh(|x|), x = mu d / sigma^2, which multiplies its capital by exp(x) / cosh(x): the likelihood
    ratio of the sign if differences are normal with mean mu and variance sigma^2, and at least
    exp(x - x^2 / 2) of de la Pena (1999, "A General Class of Exponential Inequalities for
    Martingales and Ratios", Annals of Probability 27). mu is EFFECT_SIZE * sigma, and sigma is
    estimated from the magnitudes so far. The shares were chosen by simulated power.

    A difference of 0 is no evidence, so 0 also stands for a seed that A or B lacks. A failed seed
    counts as the worst score: before subtracting, put the worst that any of the question's
    configurations has reached in its place.

    Raises InputError for a difference that is not finite.
    """
    given = _finite(differences)
    wins = np.sign(given)
    stakes = _stakes(_magnitudes(given))
    all_in = np.cumprod(1.0 + wins, axis=-1)
    measured = np.cumprod(1.0 + stakes * wins, axis=-1)
    evidence = ALL_IN_SHARE * all_in + (1 - ALL_IN_SHARE) * measured
    start = np.ones((*given.shape[:-1], 1))
    return np.concatenate([start, evidence], axis=-1)


def family_e_process(differences: ArrayLike) -> Array:
    """Return the evidence that the best of family F beats the best of family G.

    ``differences`` [F, G, n]: configuration of F minus configuration of G, the same seed at the
    same place of every row, 0 where one of the two lacks it. The result [n + 1] is the mean over F
    of the minimum over G of the pairs' evidence. If F is no better, some b of G is at least as
    good as every a of F; the minima are at most the evidence for a > b, and means of e-processes
    are e-processes (Vovk and Wang 2021, "E-values: Calibration, Combination and Applications",
    Annals of Statistics 49).

    Raises InputError for a difference that is not finite.
    """
    return np.asarray(beats_e_process(differences).min(axis=1).mean(axis=0))


def two_sided_p(better: ArrayLike, worse: ArrayLike) -> Array:
    """Return p after 0..n seeds of "neither beats the other", from the evidence both ways.

    p = 1 / max over the seeds so far of (better + worse) / 2: the average of two e-processes is
    one, and beats the alternative, 2 / max, on all data. If read together with the larger of the
    two at that maximum, the wrong direction has probability <= alpha too: there, the evidence for
    it is at least the average.
    """
    average = (np.asarray(better, dtype=np.float64) + np.asarray(worse, dtype=np.float64)) / 2
    return np.asarray(1 / np.maximum.accumulate(np.maximum(average, 1.0), axis=-1))


def anytime_p(differences: ArrayLike) -> float:
    """Return the two-sided p of paired ``differences`` [n], valid however often one looks.

    Assumptions and errors are those of beats_e_process.
    """
    given = _finite(differences)
    return float(two_sided_p(beats_e_process(given), beats_e_process(-given))[-1])


def smallest_anytime_p(num_seeds: int) -> float:
    """Return the greatest lower bound of anytime_p over all outcomes of ``num_seeds`` seeds.

    It is approached by wins only, each so large that the earlier ones are small beside it.
    """
    stakes = _stakes(np.arange(1, num_seeds + 1) / _SD_PER_MEAN_MAGNITUDE)
    measured = float(np.prod(1.0 + stakes) + np.prod(1.0 - stakes))
    all_in = 2.0**num_seeds
    return min(1.0, 2.0 / (ALL_IN_SHARE * all_in + (1 - ALL_IN_SHARE) * measured))


def seeds_to_decide(
    differences: ArrayLike, alpha: float = 0.05, max_seeds: int = 100, *, seed: int = 0
) -> int | None:
    """Return an estimate of how many seeds in all bring anytime_p down to ``alpha``.

    The median over continuations of ``differences`` [n] whose further values are normal with the
    mean and SD seen so far: a guess for planning, unreliable from few seeds. With m comparisons in
    one question pass alpha / m. At most n if it is decided already; None if ``max_seeds`` would
    not do, or for fewer than 2 seeds.

    Raises InputError for a difference that is not finite or an ``alpha`` outside 0..1.
    """
    _require_share("alpha", alpha)
    given = _finite(differences)
    num_more = max_seeds - len(given)
    if len(given) < 2 or num_more < 0:
        return None
    draws = np.random.default_rng(seed).normal(
        given.mean(), given.std(ddof=1), (_NUM_CONTINUATIONS, num_more)
    )
    seen = np.broadcast_to(given, (_NUM_CONTINUATIONS, len(given)))
    paths = np.concatenate([seen, draws], axis=-1)
    decided = two_sided_p(beats_e_process(paths), beats_e_process(-paths)) <= alpha
    if decided[:, -1].mean() < 0.5:
        return None
    first = np.where(decided[:, -1], decided.argmax(axis=-1), max_seeds + 1)
    return int(np.quantile(first, 0.5, method="inverted_cdf"))


def seeds_for_anytime_p(alpha: float) -> int:
    """Return the least number of seeds with which anytime_p can be ``alpha`` or less.

    With m comparisons in one question pass alpha / m. Raises InputError for an ``alpha`` outside
    0..1.
    """
    _require_share("alpha", alpha)
    return next(num for num in count(1) if smallest_anytime_p(num) <= alpha)


@lru_cache(maxsize=256)
def detectable_effect(num_seeds: int, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Return the true mean difference, in SDs of the paired differences, that is likely found.

    Found means that anytime_p of ``num_seeds`` seeds is at most ``alpha``, with probability
    ``power`` if the differences are normal; by simulation. It is larger than what a t-test finds,
    for which the number of seeds is fixed beforehand. None if no effect is found so often, as with
    fewer than seeds_for_anytime_p(alpha) seeds. With m comparisons in one question pass alpha / m.

    Raises InputError for an ``alpha`` or a ``power`` outside 0..1.
    """
    _require_share("alpha", alpha)
    _require_share("power", power)
    noise = np.random.default_rng(0).normal(size=(_NUM_SIMULATED, num_seeds))
    low, high = 0.0, _LARGEST_EFFECT
    if num_seeds < 2 or _share_found(noise + high, alpha) < power:
        return None
    while high - low > _EFFECT_PRECISION:
        middle = (low + high) / 2
        if _share_found(noise + middle, alpha) < power:
            low = middle
        else:
            high = middle
    return high


@dataclass(frozen=True)
class Claim:
    """What is said about A and B. ``p_holm`` <= alpha: the better one beats the other."""

    p_anytime: float
    p_holm: float
    a_is_better: bool
    """The direction at the moment of the most evidence: it means little while p is large."""


def claims(evidence: Mapping[Pair, tuple[ArrayLike, ArrayLike]]) -> dict[Pair, Claim]:
    """Return the claims of one question, corrected by Holm for the number of its pairs.

    ``evidence[pair]`` holds the evidence that A beats B and that B beats A after 0, 1, ... seeds:
    ``(beats_e_process(d), beats_e_process(-d))``, or two of family_e_process. Any false claim of a
    difference at any time has probability at most alpha. (For a wrong direction Holm's
    procedure is known to do the same for independent tests (Shaffer 1980, Annals of Statistics 8);
    no counterexample is known for others.)
    """
    both = {pair: np.asarray(sides, dtype=np.float64) for pair, sides in evidence.items()}
    p_values = [float(two_sided_p(*sides)[-1]) for sides in both.values()]
    adjusted = holm(p_values)
    return {
        pair: Claim(p, p_holm, _favours_first(sides))
        for (pair, sides), p, p_holm in zip(both.items(), p_values, adjusted, strict=True)
    }


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
    _require_share("alpha", alpha)
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


def _share_found(differences: Array, alpha: float) -> float:
    """Return the share of rows of ``differences`` [s, n] that are decided, and rightly."""
    better, worse = beats_e_process(differences), beats_e_process(-differences)
    is_found = (two_sided_p(better, worse)[:, -1] <= alpha) & (better[:, -1] > worse[:, -1])
    return float(is_found.mean())


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


def _stakes(magnitudes: Array) -> Array:
    """Return the share of the capital to bet, for |d| in units of the root of its mean square.

    That root is sigma * sqrt(1 + EFFECT_SIZE^2) if the effect is of that size.
    """
    return np.asarray(np.tanh(EFFECT_SIZE * math.hypot(1.0, EFFECT_SIZE) * magnitudes))


def _magnitudes(differences: Array) -> Array:
    """Return |d| over its root mean square so far, judged by the mean |d| that outliers move less.

    Differences of 0 do not count.
    """
    sizes = np.abs(differences)
    num = np.maximum(np.cumsum(sizes > 0, axis=-1), 1)
    root = np.cumsum(sizes, axis=-1) / num * _SD_PER_MEAN_MAGNITUDE
    return np.divide(sizes, root, out=np.zeros_like(sizes), where=root > 0)


def _favours_first(evidence: Array) -> bool:
    """Return whether the first row of ``evidence`` [2, n + 1] is the larger where they peak."""
    return bool(np.subtract(*evidence)[evidence.sum(axis=0).argmax()] > 0)


def _finite(differences: ArrayLike) -> Array:
    given = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(given).all():
        raise InputError(
            "differences: some are not finite. Pass 0 for a seed that one of the two lacks, and "
            "count a failed one as the worst score."
        )
    return given


def _require_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise InputError(f"{name}: {value} is not between 0 and 1. Use e.g. 0.05.")
