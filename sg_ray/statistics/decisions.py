"""What models decide on the same items: where two differ, how stable seeds are, their mean."""

import math
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sg_ray.errors import InputError
from sg_ray.statistics.arguments import Labels, Probabilities

Predicted = NDArray[np.bool_] | NDArray[np.integer]


def mcnemar(labels: Labels, predicted_a: Predicted, predicted_b: Predicted) -> float:
    """Return the exact two-sided p that two models, all of shape [n], are right equally often.

    Only the items that one gets right and the other wrong count: under the null hypothesis each
    is as likely to favour a as b (McNemar 1947; exact by the binomial distribution). 1 if there
    are none. It is about two trained models: another seed may decide otherwise.

    Raises InputError for unequal shapes.
    """
    if not labels.shape == predicted_a.shape == predicted_b.shape:
        raise InputError(
            f"predictions: shapes {list(labels.shape)}, {list(predicted_a.shape)} and "
            f"{list(predicted_b.shape)} of labels, a and b differ. Use the same items."
        )
    right_a, right_b = predicted_a == labels, predicted_b == labels
    only_a = int(np.sum(right_a & ~right_b))
    only_b = int(np.sum(right_b & ~right_a))
    if only_a + only_b == 0:
        return 1.0
    from scipy import stats  # takes half a second

    return float(stats.binomtest(only_a, only_a + only_b).pvalue)


def flip_share(predicted: Predicted) -> float:
    """Return the mean over pairs of seeds of the share of items that they decide differently.

    ``predicted`` has shape [s, n] (called churn by Milani Fard et al. 2016, "Launch and Iterate").
    NaN for fewer than 2 seeds.
    """
    if len(predicted) < 2:
        return math.nan
    return float(np.mean([np.mean(a != b) for a, b in combinations(predicted, 2)]))


def ensemble(probabilities: Probabilities) -> NDArray[np.float64]:
    """Return the mean probability of each item over seeds, shape [n], from shape [s, n]."""
    return np.asarray(probabilities.mean(axis=0))
