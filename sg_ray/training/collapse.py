"""Whether a model has collapsed: it gives every sample the same answer.

It happens when a learning rate is too high: saturated units or a normalised constant wipe out what
tells samples apart, no gradient brings it back, and only the readout's bias still moves.

"Predicts one class, and ranks like chance" does not say so. At a learning rate that is low, and on
hard data at a good one too, a model looks like that for epochs. What tells the two apart is the
spread of the logits over samples. Measured as standard deviation on the models of ``experiments/``:
7e-4 to 5e-2 before anything is learned, also after six epochs at a rate that is far too low; 0 to
4e-8, float32's rounding, after a collapse. Hence only answers that are equal up to rounding count,
and a trial that is merely slow is never taken for a collapsed one.
"""

import math

import numpy as np

from sg_ray.training.metrics import Labels, Scores, roc_auc

MAX_SPREAD = 1e-6
"""Standard deviation of logits that float32's rounding alone may give: a logit near 0 is a
difference of terms near 1."""

CHANCE_STANDARD_ERRORS = 2.0
"""A ROC-AUC up to this far above one half cannot be told from that of a random ranking."""

MIN_PER_CLASS = 10
"""With fewer validation samples of a class than this the ROC-AUC is not asked."""


def is_collapsed(labels: Labels, logits: Scores, resolution: float) -> bool:
    """Return whether one validation, labels and logits of shape [n], shows a collapsed model.

    ``resolution`` is the relative distance of neighbouring numbers in the format of the forward
    pass; answers that are two neighbours still count as the same. They do not if their order tells
    the classes apart: then a model begins to learn.
    """
    # Two neighbours, half of the samples each, have half their distance as standard deviation.
    tolerance = MAX_SPREAD + resolution / 2 * float(np.abs(logits).max())
    return float(np.std(logits)) <= tolerance and not _tells_classes_apart(labels, logits)


def _tells_classes_apart(labels: Labels, logits: Scores) -> bool:
    num_positive = int(np.sum(labels == 1))
    num_negative = len(labels) - num_positive
    if min(num_positive, num_negative) < MIN_PER_CLASS:
        return False
    error = auc_standard_error(num_negative, num_positive)
    return roc_auc(labels, logits) >= 0.5 + CHANCE_STANDARD_ERRORS * error


def auc_standard_error(num_negative: int, num_positive: int) -> float:
    """Return the standard error of the ROC-AUC of a random ranking without ties.

    That is the one of the Mann-Whitney statistic, divided by the number of pairs (Mann and
    Whitney, Annals of Mathematical Statistics 18, 1947).
    """
    num_pairs = num_negative * num_positive
    return math.sqrt((num_negative + num_positive + 1) / (12 * num_pairs))
