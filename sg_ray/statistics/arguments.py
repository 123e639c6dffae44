"""Checks of what is handed to the statistics."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sg_ray.errors import InputError

Labels = NDArray[np.integer]
"""0 or 1, shape [n]."""

Probabilities = NDArray[np.float64]
"""Of label 1, shape [s, n]: s seeds, n items."""


def require_predictions(labels: Labels, probabilities: Probabilities) -> None:
    """Raise InputError unless there are labels [n] and probabilities [s, n] with s and n > 0."""
    if labels.ndim != 1 or not len(labels) or not np.isin(labels, (0, 1)).all():
        raise InputError(
            f"labels: need a row of 0 and 1, have values {np.unique(labels)[:5].tolist()} of shape "
            f"{list(labels.shape)}. Pass the labels of the split."
        )
    if probabilities.ndim != 2 or probabilities.shape[1] != len(labels) or not len(probabilities):
        raise InputError(
            f"probabilities: shape {list(probabilities.shape)} does not fit {len(labels)} labels. "
            f"Pass one row of {len(labels)} per seed."
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise InputError(
            "probabilities: some are not within 0..1. Leave out the seeds that diverged."
        )


def finite_differences(differences: ArrayLike) -> NDArray[np.float64]:
    """Return paired differences [..., n] as floats; raise InputError if one is not finite."""
    given = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(given).all():
        raise InputError(
            "differences: some are not finite. Pass 0 for a seed that one of the two lacks, and "
            "count a failed one as the worst score."
        )
    return given


def require_share(name: str, value: float) -> None:
    """Raise InputError, by the argument's ``name``, unless ``value`` is between 0 and 1."""
    if not 0 < value < 1:
        raise InputError(f"{name}: {value} is not between 0 and 1. Use e.g. 0.05.")
