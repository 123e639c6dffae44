"""Metrics of a binary classifier, in numpy; undefined values are NaN.

ROC-AUC, average precision and MCC agree with scikit-learn where they are defined there; importing
it takes seconds in every worker.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sg_ray.errors import InputError
from sg_ray.statistics.own_metrics import BUILT_IN, OWN_METRICS, Direction, Metric

Labels = NDArray[np.integer]
Scores = NDArray[np.float64]

OBJECTIVES = tuple(f"val_{name}" for name in BUILT_IN)
NEED_BOTH_CLASSES = ("val_roc_auc", "val_pr_auc")
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class Confusion:
    """Counts of true and false positives and negatives, of shape [] or over thresholds [t]."""

    true_positives: NDArray[np.float64]
    false_positives: NDArray[np.float64]
    false_negatives: NDArray[np.float64]
    true_negatives: NDArray[np.float64]

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Share of correct predictions."""
        correct = self.true_positives + self.true_negatives
        return correct / (correct + self.false_positives + self.false_negatives)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of the predicted positives that are positive; 0 if there are none."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of the positives that are found; 0 if there are none."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall; 0 without a true positive."""
        wrong = self.false_positives + self.false_negatives
        return _ratio(2 * self.true_positives, 2 * self.true_positives + wrong)

    @property
    def mcc(self) -> NDArray[np.float64]:
        """Matthews correlation coefficient; 0 if labels or predictions have one class."""
        tp, fp = self.true_positives, self.false_positives
        fn, tn = self.false_negatives, self.true_negatives
        scale = np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn))
        return _ratio(tp * tn - fp * fn, scale)


def confusion(labels: Labels, predicted: NDArray[np.bool_]) -> Confusion:
    """Count the outcomes of predictions, both of shape [n]."""
    positive = labels == 1
    return Confusion(
        true_positives=_count(positive & predicted),
        false_positives=_count(~positive & predicted),
        false_negatives=_count(positive & ~predicted),
        true_negatives=_count(~positive & ~predicted),
    )


def roc_auc(labels: Labels, scores: Scores) -> float:
    """Probability that a positive scores above a negative, ties one half; NaN with one class."""
    outcomes = _outcomes_by_threshold(labels, scores)
    num_positive = outcomes.true_positives[-1]
    num_negative = outcomes.false_positives[-1]
    if num_positive == 0 or num_negative == 0:
        return math.nan
    hits = np.concatenate([[0.0], outcomes.true_positives])
    alarms = np.concatenate([[0.0], outcomes.false_positives])
    return float(np.trapezoid(hits, alarms) / (num_positive * num_negative))


def pr_auc(labels: Labels, scores: Scores) -> float:
    """Average precision: precision weighted by the gain in recall; NaN with one class."""
    outcomes = _outcomes_by_threshold(labels, scores)
    if outcomes.true_positives[-1] == 0 or outcomes.false_positives[-1] == 0:
        return math.nan
    gains = np.diff(outcomes.recall, prepend=0.0)
    return float(np.sum(gains * outcomes.precision))


def tune_threshold(
    labels: Labels, probabilities: Scores, metric: Literal["mcc", "f1"] = "mcc"
) -> float:
    """Return the threshold t at which "probability >= t" has the best ``metric``.

    Between two neighbouring probabilities every threshold predicts the same; the one returned is
    0.5 if that is between them, else their midpoint. Equally good gaps: the one nearest 0.5.
    """
    levels = np.unique(probabilities)
    lower = np.concatenate([[0.0], levels[:-1]])
    middles = (lower + levels) / 2
    candidates = np.where(middles > lower, middles, levels)  # neighbours may be adjacent floats
    holds_default = (lower < DEFAULT_THRESHOLD) & (levels >= DEFAULT_THRESHOLD)
    candidates = np.where(holds_default, DEFAULT_THRESHOLD, candidates)
    # Counts come highest threshold first, thresholds lowest first.
    values = getattr(_outcomes_by_threshold(labels, probabilities), metric)[::-1]
    if values.max() <= 0:
        return DEFAULT_THRESHOLD
    best = candidates[values >= values.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - DEFAULT_THRESHOLD))])


def log_loss(labels: Labels, logits: Scores) -> float:
    """Mean binary cross-entropy of logits."""
    return float(np.mean(np.logaddexp(0.0, logits) - labels * logits))


def sigmoid(logits: Scores) -> Scores:
    """Probabilities of logits, without overflow."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)


def validation_metrics(
    labels: Labels, logits: Scores, own: Sequence[Metric] = ()
) -> dict[str, float]:
    """Return every ``val_`` metric of logits, shape [n], with a threshold tuned on them.

    ``own`` are metrics of the user's, measured too.
    """
    probabilities = sigmoid(logits)
    threshold = tune_threshold(labels, probabilities)
    metrics = scored("val", labels, probabilities, threshold, own)
    return {**metrics, "val_loss": log_loss(labels, logits)}


def scored(
    prefix: str,
    labels: Labels,
    probabilities: Scores,
    threshold: float,
    own: Sequence[Metric] = (),
) -> dict[str, float]:
    """Return every metric of probabilities, shape [n], as ``<prefix>_<name>``.

    ``_at_threshold`` metrics use ``threshold``, the plain ones 0.5. In the loss no probability is
    nearer to 0 or 1 than the precision of float64. ``own`` are metrics of the user's.
    """
    default = confusion(labels, probabilities >= DEFAULT_THRESHOLD)
    tuned = confusion(labels, probabilities >= threshold)
    metrics = {
        "loss": log_loss(labels, _logit(probabilities)),
        "accuracy": float(default.accuracy),
        "precision": float(default.precision),
        "recall": float(default.recall),
        "f1": float(default.f1),
        "mcc": float(default.mcc),
        "roc_auc": roc_auc(labels, probabilities),
        "pr_auc": pr_auc(labels, probabilities),
        "threshold": threshold,
        "f1_at_threshold": float(tuned.f1),
        "accuracy_at_threshold": float(tuned.accuracy),
        **{metric.name: metric(labels, probabilities, threshold) for metric in own},
    }
    return {f"{prefix}_{name}": value for name, value in metrics.items()}


def direction(objective: str) -> Direction:
    """Return what to do with ``objective``. Raises InputError for an unknown name."""
    if objective in OBJECTIVES:
        return "minimise" if objective == "val_loss" else "maximise"
    own = OWN_METRICS.direction(objective.removeprefix("val_"))
    if own is None or not objective.startswith("val_"):
        known = ", ".join([*OBJECTIVES, *(f"val_{name}" for name in OWN_METRICS)])
        raise InputError(
            f"objective: unknown metric {objective!r}. Use one of: {known}. One of your own is "
            "named in metrics, too: metrics=[./cost.py:NAME]."
        )
    return own


def is_better(objective: str, value: float, best: float | None) -> bool:
    """Return whether ``value`` beats ``best`` (None: nothing yet). NaN beats nothing."""
    lower_is_better = direction(objective) == "minimise"
    if math.isnan(value):
        return False
    if best is None or math.isnan(best):
        return True
    return value < best if lower_is_better else value > best


def check_objective(objective: str, labels: Labels) -> None:
    """Raise InputError if ``objective`` is unknown, or has no value on labels of one class."""
    direction(objective)
    if objective in NEED_BOTH_CLASSES and len(np.unique(labels)) < 2:
        raise InputError(
            f"objective: {objective} has no value, the validation split has labels of one class "
            f"only ({len(labels)} samples). Use val_loss, or add samples of the other class."
        )


def _outcomes_by_threshold(labels: Labels, scores: Scores) -> Confusion:
    """Count outcomes of "score >= level" for each distinct level, highest level first."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits = np.cumsum(labels[order] == 1, dtype=np.float64)
    true_positives = hits[ends]
    false_positives = ends + 1 - true_positives
    return Confusion(
        true_positives=true_positives,
        false_positives=false_positives,
        false_negatives=hits[-1] - true_positives,
        true_negatives=len(scores) - hits[-1] - false_positives,
    )


def _logit(probabilities: Scores) -> Scores:
    tiny = np.finfo(np.float64).eps
    inner = np.clip(probabilities, tiny, 1 - tiny)
    return np.log(inner / (1 - inner))


def _count(flags: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(flags.sum(), dtype=np.float64)


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide; 0 where the denominator is 0."""
    is_zero = np.equal(denominator, 0)
    return np.where(is_zero, 0.0, numerator / np.where(is_zero, 1.0, denominator))
