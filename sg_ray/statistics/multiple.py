"""Several tests of one question."""

from collections.abc import Sequence

import numpy as np

from sg_ray.errors import InputError


def holm(p_values: Sequence[float]) -> list[float]:
    """Return ``p_values`` adjusted by Holm's step-down procedure, in the given order.

    Rejecting where the adjusted p is at most alpha keeps the probability of any false rejection
    at most alpha, however the tests depend on each other (Holm 1979, "A Simple Sequentially
    Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6).

    Raises InputError for a value outside 0..1.
    """
    given = np.asarray(p_values, dtype=np.float64)
    if not ((given >= 0) & (given <= 1)).all():
        raise InputError(f"p_values: {list(p_values)} are not all within 0..1. Use p-values.")
    order = np.argsort(given, kind="stable")
    num_left = len(given) - np.arange(len(given))
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(num_left * given[order]))
    return [float(p) for p in adjusted]
