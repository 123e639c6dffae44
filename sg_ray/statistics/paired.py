"""Two configurations compared on the same seeds, whose number was fixed beforehand."""

import math
from collections.abc import Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from sg_ray.errors import InputError

MOST_EXACT_PAIRS = 20
"""Up to so many pairs all 2^n outcomes are enumerated, at most 4 MB of sums."""

NUM_RANDOM_FLIPS = 99_999
_FLIPS_AT_ONCE = 10_000
_RELATIVE_TOLERANCE = 1e-9


def permutation_p(differences: Sequence[float], *, seed: int = 0) -> float:
    """Return the two-sided p of the sign-flip test on the mean of paired ``differences``.

    Under the null hypothesis each difference is symmetric about 0, so that all 2^n choices of
    signs are equally likely; p is the share of them with a sum as far from 0 as the observed one
    (Fisher 1935, The Design of Experiments, section 21). Sums that differ by rounding only count
    as equal. A difference of 0 has no sign and tells nothing: p is that of the others, and 1 if
    there are none.

    With more than MOST_EXACT_PAIRS differences other than 0, p is estimated from NUM_RANDOM_FLIPS
    random outcomes of ``seed`` and the observed one (Phipson and Smyth 2010, "Permutation P-values
    Should Never Be Zero"), and is never below 1e-5.

    Raises InputError for a difference that is not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"differences: {differences} are not all finite. Leave failed seeds out.")
    sizes = np.abs(values[values != 0])
    at_least = abs(values.sum()) - _RELATIVE_TOLERANCE * sizes.sum()
    if len(sizes) <= MOST_EXACT_PAIRS:
        return float(np.mean(np.abs(_sums_of_all_signs(sizes)) >= at_least))
    num_extreme = _num_extreme_at_random(sizes, at_least, np.random.default_rng(seed))
    return (num_extreme + 1) / (NUM_RANDOM_FLIPS + 1)


def smallest_permutation_p(num_pairs: int) -> float:
    """Return the least p that ``num_pairs`` can reach: 2 of the 2^n outcomes are as extreme."""
    return min(1.0, 2.0 * 0.5**num_pairs)


def seeds_for_p(alpha: float) -> int:
    """Return the least number of pairs that can reach p <= ``alpha``.

    Raises InputError for an ``alpha`` outside 0..1.
    """
    _require_share("alpha", alpha)
    return next(num for num in count(1) if smallest_permutation_p(num) <= alpha)


def minimum_detectable_difference(
    sd: float, num_seeds: int, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """Return the true mean difference that a paired t-test finds with probability ``power``.

    ``sd`` is that of the paired differences, ``alpha`` the two-sided level; differences are taken
    as normal (Cohen 1988, Statistical Power Analysis, chapter 2, with the noncentral t in place of
    his tables). None for fewer than 2 seeds or an undefined ``sd``.

    Raises InputError for an ``alpha`` or a ``power`` outside 0..1, or not alpha < power.
    """
    _require_levels(alpha, power)
    if num_seeds < 2 or math.isnan(sd):
        return None
    standard_errors = _effect_found(num_seeds, alpha, power)
    return standard_errors * sd / math.sqrt(num_seeds)


def seeds_to_detect(
    difference: float,
    sd: float,
    alpha: float = 0.05,
    power: float = 0.8,
    max_seeds: int = 100,
) -> int | None:
    """Return how many seeds a paired t-test needs to find a true mean ``difference``.

    Arguments as for minimum_detectable_difference. None if ``max_seeds`` do not suffice, or
    ``difference`` is 0 or ``sd`` undefined. The number is that of the t-test: a sign-flip test
    needs at least seeds_for_p(alpha).
    """
    _require_levels(alpha, power)
    if difference == 0 or math.isnan(sd):
        return None
    if sd == 0:
        return 2 if max_seeds >= 2 else None
    for num_seeds in range(2, max_seeds + 1):
        if _power(abs(difference) / sd * math.sqrt(num_seeds), num_seeds, alpha) >= power:
            return num_seeds
    return None


def _sums_of_all_signs(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of each choice of signs but the first: the rest mirrors these."""
    sums = sizes[:1] if len(sizes) else np.zeros(1)
    for size in sizes[1:]:
        sums = np.concatenate([sums - size, sums + size])
    return sums


def _num_extreme_at_random(
    sizes: NDArray[np.float64], at_least: float, rng: np.random.Generator
) -> int:
    num_extreme = 0
    for start in range(0, NUM_RANDOM_FLIPS, _FLIPS_AT_ONCE):
        num_flips = min(_FLIPS_AT_ONCE, NUM_RANDOM_FLIPS - start)
        signs = rng.choice([-1.0, 1.0], size=(num_flips, len(sizes)))
        num_extreme += int(np.sum(np.abs(signs @ sizes) >= at_least))
    return num_extreme


def _effect_found(num_seeds: int, alpha: float, power: float) -> float:
    """Return the true mean, in standard errors, that a t-test finds with probability ``power``."""
    highest = 1.0
    while _power(highest, num_seeds, alpha) < power:
        highest *= 2
    return float(optimize.brentq(lambda at: _power(at, num_seeds, alpha) - power, 0.0, highest))


def _power(effect: float, num_seeds: int, alpha: float) -> float:
    """Return how often a two-sided t-test finds a mean of ``effect`` > 0 standard errors.

    A significant mean of the wrong sign finds nothing: it is left out, as by R's power.t.test.
    """
    df = num_seeds - 1
    return float(stats.nct.sf(stats.t.isf(alpha / 2, df), df, effect))


def _require_levels(alpha: float, power: float) -> None:
    _require_share("alpha", alpha)
    _require_share("power", power)
    if power <= alpha:
        raise InputError(
            f"power: {power} is not above alpha = {alpha}, which takes no difference at all. "
            "Use e.g. 0.8."
        )


def _require_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise InputError(f"{name}: {value} is not between 0 and 1. Use e.g. 0.05.")
