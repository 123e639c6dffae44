"""How many seeds a comparison needs, and which difference a number of seeds is likely to find."""

from functools import lru_cache
from itertools import count

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sg_ray.statistics.arguments import finite_differences, require_share
from sg_ray.statistics.sequential import (
    ALL_IN_SHARE,
    SD_PER_MEAN_MAGNITUDE,
    beats_e_process,
    stake_shares,
    two_sided_p,
)

Array = NDArray[np.float64]

MAX_SEEDS = 100
"""A comparison that needs more is told as one that seeds will not decide."""

_POWER = 0.8
_NUM_CONTINUATIONS = 400
_NUM_SIMULATED = 2000
_LARGEST_EFFECT = 10.0
_EFFECT_PRECISION = 0.01


def smallest_anytime_p(num_seeds: int) -> float:
    """Return the greatest lower bound of anytime_p over all outcomes of ``num_seeds`` seeds.

    It is approached by wins only, each so large that the earlier ones are small beside it.
    """
    stakes = stake_shares(np.arange(1, num_seeds + 1) / SD_PER_MEAN_MAGNITUDE)
    measured = float(np.prod(1.0 + stakes) + np.prod(1.0 - stakes))
    all_in = 2.0**num_seeds
    return min(1.0, 2.0 / (ALL_IN_SHARE * all_in + (1 - ALL_IN_SHARE) * measured))


def seeds_for_anytime_p(alpha: float) -> int:
    """Return the least number of seeds with which anytime_p can be ``alpha`` or less.

    With m comparisons in one question pass alpha / m. Raises InputError for an ``alpha`` outside
    0..1.
    """
    require_share("alpha", alpha)
    return next(num for num in count(1) if smallest_anytime_p(num) <= alpha)


def seeds_to_decide(differences: ArrayLike, alpha: float = 0.05) -> int | None:
    """Return an estimate of how many seeds in all bring anytime_p down to ``alpha``.

    The median over continuations of ``differences`` [n] whose further values are normal with the
    mean and SD seen so far: a guess for planning, unreliable from few seeds. With m comparisons in
    one question pass alpha / m. At most n if it is decided already; None if MAX_SEEDS would not
    do, or for fewer than 2 seeds.

    Raises InputError for a difference that is not finite or an ``alpha`` outside 0..1.
    """
    require_share("alpha", alpha)
    given = finite_differences(differences)
    num_more = MAX_SEEDS - len(given)
    if len(given) < 2 or num_more < 0:
        return None
    draws = np.random.default_rng(0).normal(
        given.mean(), given.std(ddof=1), (_NUM_CONTINUATIONS, num_more)
    )
    seen = np.broadcast_to(given, (_NUM_CONTINUATIONS, len(given)))
    paths = np.concatenate([seen, draws], axis=-1)
    decided = two_sided_p(beats_e_process(paths), beats_e_process(-paths)) <= alpha
    if decided[:, -1].mean() < 0.5:
        return None
    first = np.where(decided[:, -1], decided.argmax(axis=-1), MAX_SEEDS + 1)
    return int(np.quantile(first, 0.5, method="inverted_cdf"))


@lru_cache(maxsize=256)
def detectable_effect(num_seeds: int, alpha: float = 0.05) -> float | None:
    """Return the true mean difference, in SDs of the paired differences, that is likely found.

    Found means that anytime_p of ``num_seeds`` seeds is at most ``alpha``, with probability
    0.8 if the differences are normal; by simulation. It is larger than what a t-test finds,
    for which the number of seeds is fixed beforehand. None if no effect is found so often, as with
    fewer than seeds_for_anytime_p(alpha) seeds. With m comparisons in one question pass alpha / m.

    Raises InputError for an ``alpha`` outside 0..1.
    """
    require_share("alpha", alpha)
    noise = np.random.default_rng(0).normal(size=(_NUM_SIMULATED, num_seeds))
    low, high = 0.0, _LARGEST_EFFECT
    if num_seeds < 2 or _share_found(noise + high, alpha) < _POWER:
        return None
    while high - low > _EFFECT_PRECISION:
        middle = (low + high) / 2
        if _share_found(noise + middle, alpha) < _POWER:
            low = middle
        else:
            high = middle
    return high


def _share_found(differences: Array, alpha: float) -> float:
    """Return the share of rows of ``differences`` [s, n] that are decided, and rightly."""
    better, worse = beats_e_process(differences), beats_e_process(-differences)
    is_found = (two_sided_p(better, worse)[:, -1] <= alpha) & (better[:, -1] > worse[:, -1])
    return float(is_found.mean())
