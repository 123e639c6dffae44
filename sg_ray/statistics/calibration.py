"""Whether predicted probabilities are the shares that they claim to be."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sg_ray.statistics.arguments import Labels, require_predictions

NUM_BINS = 15


@dataclass(frozen=True)
class ReliabilityBin:
    """Items of similar probability: their number, mean probability, and share of label 1."""

    num_samples: int
    mean_probability: float
    positive_share: float


def reliability(
    labels: Labels, probabilities: NDArray[np.float64], num_bins: int = NUM_BINS
) -> Sequence[ReliabilityBin]:
    """Return the bins that have items, lowest probability first; both arrays have shape [n].

    Bins have equal width, and each holds its upper edge but not its lower (the first holds 0).

    Raises InputError for arrays that do not fit.
    """
    require_predictions(labels, probabilities[None])
    inner_edges = np.linspace(0.0, 1.0, num_bins + 1)[1:-1]
    bins = np.searchsorted(inner_edges, probabilities)
    return [
        ReliabilityBin(
            num_samples=int(members.sum()),
            mean_probability=float(probabilities[members].mean()),
            positive_share=float(labels[members].mean()),
        )
        for members in (bins == number for number in np.unique(bins))
    ]


def expected_calibration_error(
    labels: Labels, probabilities: NDArray[np.float64], num_bins: int = NUM_BINS
) -> float:
    """Return the mean distance of probability and share of label 1 over the bins' items.

    Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning" (AAAI);
    here for the probability of label 1, not of the predicted label. It is above 0 by chance for a
    perfectly calibrated model too: by about sqrt(num_bins / n) * 0.4 where the classes are even.

    Raises InputError for arrays that do not fit.
    """
    return sum(
        part.num_samples * abs(part.mean_probability - part.positive_share)
        for part in reliability(labels, probabilities, num_bins)
    ) / len(labels)
