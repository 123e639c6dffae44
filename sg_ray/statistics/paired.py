"""Two configurations compared on the same seeds, whose number was fixed beforehand."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sg_ray.errors import InputError

MOST_EXACT_PAIRS = 20
"""Up to so many pairs all 2^n outcomes are enumerated, at most 4 MB of sums."""

NUM_RANDOM_FLIPS = 99_999
_FLIPS_AT_ONCE = 10_000
_RELATIVE_TOLERANCE = 1e-9


def permutation_p(differences: Sequence[float]) -> float:
    """Return the two-sided p of the sign-flip test on the mean of paired ``differences``.

    Under the null hypothesis each difference is symmetric about 0, so that all 2^n choices of
    signs are equally likely; p is the share of them with a sum as far from 0 as the observed one
    (Fisher 1935, The Design of Experiments, section 21). Sums that differ by rounding only count
    as equal. A difference of 0 has no sign and tells nothing: p is that of the others, and 1 if
    there are none.

    With more than MOST_EXACT_PAIRS differences other than 0, p is estimated from NUM_RANDOM_FLIPS
    random outcomes, always the same, and the observed one (Phipson and Smyth 2010, "Permutation
    P-values Should Never Be Zero"), and is never below 1e-5.

    Raises InputError for a difference that is not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"differences: {differences} are not all finite. Leave failed seeds out.")
    sizes = np.abs(values[values != 0])
    at_least = abs(values.sum()) - _RELATIVE_TOLERANCE * sizes.sum()
    if len(sizes) <= MOST_EXACT_PAIRS:
        return float(np.mean(np.abs(_sums_of_all_signs(sizes)) >= at_least))
    num_extreme = _num_extreme_at_random(sizes, at_least, np.random.default_rng(0))
    return (num_extreme + 1) / (NUM_RANDOM_FLIPS + 1)


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
