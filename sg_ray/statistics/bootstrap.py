"""Intervals of a mean score over seeds and items, and of the difference of two.

Drawing s seeds with replacement from s of them gives intervals that are far too narrow: their
variance is (s - 1) / s of what it should be, and three values have no tails to draw from (nominal
95 % hold in 80 of 100 cases for s = 3). So only the items are resampled. To each resample the
error of the mean over seeds is added as Student's t with s - 1 degrees of freedom times
SD / sqrt(s), which takes the scores of seeds on the same items as normal. The limits are quantiles
of the sum. Where one of the two errors is small, this is the bootstrap of the items, or the
t interval over seeds; the sum is Behrens and Fisher's, which holds at least its level (Robinson
1976, "Properties of Student's t and of the Behrens-Fisher Solution", Annals of Statistics 4).

In simulations of crossed seeds and items (nominal 95 %, 3 to 10 seeds) intervals held the true
mean in 93 to 98 % of runs, the true difference in 93 to 96 %.

With one seed only the items vary: the interval is about that one trained model, and says nothing
of the next.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sg_ray.errors import InputError
from sg_ray.statistics.arguments import Labels, Probabilities
from sg_ray.statistics.resampling import NUM_RESAMPLES, ResampledScores, resample_scores
from sg_ray.statistics.scores import Scale, Score

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and its two-sided interval of nominal coverage ``level``."""

    estimate: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class PairedDifference:
    """How much better a is than b, paired by seed and item.

    ``interval`` is of the mean difference, > 0 where a is better, also for a loss.
    ``probability_better`` is P(a beats b) for one seed and as many items drawn anew, ties one
    half (Bouthillier et al. 2021, "Accounting for Variance in Machine Learning Benchmarks",
    MLSys). They count runs, which for s seeds knows multiples of 1 / s only; here seeds are
    taken as normal. It describes the two: no test, and not the probability that a is better on
    average.
    """

    interval: Interval
    probability_better: float


def score_interval(
    labels: Labels,
    probabilities: Probabilities,
    score: Score,
    *,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int,
) -> Interval:
    """Return the mean score over seeds with its interval over seeds and items.

    ``labels`` have shape [n], ``probabilities`` [s, n]. ``seed`` is that of the resampling.

    Raises InputError as resample_scores does, and for a ``level`` outside 0..1.
    """
    scores = resample_scores(labels, probabilities, score, num_resamples=num_resamples, seed=seed)
    return mean_interval(scores, score.scale, level=level)


def compare(
    a: ResampledScores, b: ResampledScores, scale: Scale, *, level: float = 0.95
) -> PairedDifference:
    """Compare two configurations by their scores on the same resamples and seeds.

    Raises InputError for unequal numbers of either, and for a ``level`` outside 0..1.
    """
    advantage = b.minus(a) if scale.lower_is_better else a.minus(b)
    width = scale.highest - scale.lowest
    return PairedDifference(
        interval=mean_interval(advantage, Scale(-width, width), level=level),
        probability_better=_probability_positive(advantage),
    )


def mean_interval(scores: ResampledScores, scale: Scale, *, level: float = 0.95) -> Interval:
    """Return the mean over seeds with its interval over seeds and items, within ``scale``.

    Raises InputError for a ``level`` outside 0..1.
    """
    if not 0 < level < 1:
        raise InputError(f"level: {level} is not between 0 and 1. Use e.g. 0.95.")
    items = scores.item_deviations()
    draws = scores.mean + items + _errors_of_seeds(scores, len(items))
    low, high = np.clip(
        np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]), scale.lowest, scale.highest
    )
    return Interval(estimate=scores.mean, low=float(low), high=float(high), level=level)


def _errors_of_seeds(scores: ResampledScores, num_draws: int) -> Floats:
    """Return draws of the error of the mean over seeds, shape [num_draws]; 0 for one seed.

    They are evenly spaced quantiles: as t has heavy tails, random draws would move the limits by
    several percent. The resamples that they are added to come in random order.
    """
    if scores.num_seeds == 1:
        return np.zeros(num_draws)
    from scipy import stats  # takes half a second

    standard_error = math.sqrt(scores.variance_parts().over_seeds / scores.num_seeds)
    shares = (np.arange(num_draws) + 0.5) / num_draws
    return np.asarray(standard_error * stats.t.ppf(shares, scores.num_seeds - 1))


def _probability_positive(advantage: ResampledScores) -> float:
    """Return P(advantage > 0) for items and one seed drawn anew, ties one half."""
    on_new_items = advantage.mean + advantage.item_deviations()
    sd_of_seed = math.sqrt(advantage.variance_parts().over_seeds)
    if sd_of_seed == 0:
        return float(np.mean((np.sign(on_new_items) + 1) / 2))
    from scipy import stats

    return float(np.mean(stats.norm.cdf(on_new_items / sd_of_seed)))
