"""What the seeds of a configuration say about the same functions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sg_ray.statistics.arguments import Labels, Probabilities
from sg_ray.training.predictions import Predictions
from sg_ray.verdict.trials import Trial


@dataclass(frozen=True)
class PredictedSeeds:
    """Labels [n], probabilities [s, n], and what each of the s seeds decides at."""

    labels: Labels
    probabilities: Probabilities
    thresholds: tuple[float, ...]

    @property
    def decisions(self) -> NDArray[np.bool_]:
        """Whether each seed flags each function, shape [s, n]."""
        return np.asarray(self.probabilities >= np.asarray(self.thresholds)[:, None])


def predicted_seeds(trials: Sequence[Trial]) -> PredictedSeeds | None:
    """Return what ``trials`` say about the validation split; None as for ``stacked``."""
    return stacked([t.predictions for t in trials], [t.threshold for t in trials])


def stacked(
    predictions: Sequence[Predictions | None], thresholds: Sequence[float]
) -> PredictedSeeds | None:
    """Return the predictions of several seeds as one; None without any, or unless all fit.

    They fit if none is missing and all are of the same functions.
    """
    known = [one for one in predictions if one is not None]
    if not known or len(known) < len(predictions):
        return None
    labels = known[0].labels
    if not all(np.array_equal(labels, one.labels) for one in known):
        return None
    return PredictedSeeds(labels, np.stack([one.probabilities for one in known]), tuple(thresholds))
