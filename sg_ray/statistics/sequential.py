"""Tests over seeds that stay valid however often one looks and whenever one stops.

Two kinds, because two questions are asked while a sweep runs:

- May one say that A beats B? A claim, so it assumes little: see ``beats_e_process``.
- Is it worth another seed? Spending, so ``racing.race`` may assume normal noise of equal variance,
  and can therefore drop a clear loser after two or three seeds.

Both rest on e-processes: evidence E_0 = 1, E_1, ... that no stopping rule can raise above 1 in
expectation while the null hypothesis holds, so that it ever reaches 1 / alpha with probability
at most alpha (Ville's inequality; Ramdas, Gruenwald, Vovk and Shafer 2023, "Game-Theoretic
Statistics and Safe Anytime-Valid Inference", Statistical Science 38).

What no test can repair is a choice of seeds that looks at their scores: which configurations get
a seed must be settled before any of them has finished with it.
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sg_ray.statistics.arguments import finite_differences
from sg_ray.statistics.multiple import holm

Array = NDArray[np.float64]
Pair = TypeVar("Pair", bound=Hashable)

ALL_IN_SHARE = 5 / 8
"""Of the capital, on "A wins every seed": 5/8 * 2^6 / 2 = 1 / 0.05, so that 6 wins decide."""

EFFECT_SIZE = 1.0
"""Mean difference over its SD that the rest of the capital bets on."""

SD_PER_MEAN_MAGNITUDE = math.sqrt(math.pi / 2)
"""Of a normal variable of mean 0."""


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
    given = finite_differences(differences)
    wins = np.sign(given)
    stakes = stake_shares(_magnitudes(given))
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
    given = finite_differences(differences)
    return float(two_sided_p(beats_e_process(given), beats_e_process(-given))[-1])


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


def stake_shares(magnitudes: Array) -> Array:
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
    root = np.cumsum(sizes, axis=-1) / num * SD_PER_MEAN_MAGNITUDE
    return np.divide(sizes, root, out=np.zeros_like(sizes), where=root > 0)


def _favours_first(evidence: Array) -> bool:
    """Return whether the first row of ``evidence`` [2, n + 1] is the larger where they peak."""
    return bool(np.subtract(*evidence)[evidence.sum(axis=0).argmax()] > 0)
