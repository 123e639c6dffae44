"""Metrics of a binary classifier for many seeds and many resamples of the items at once.

A resample is a row of weights: how often it holds each item. With all weights 1 the values are
those that the trials' ``val_`` and ``test_`` metrics have on the same probabilities.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sg_ray.errors import InputError
from sg_ray.statistics.arguments import Labels, Probabilities, require_predictions
from sg_ray.statistics.own_metrics import OWN_METRICS, Metric

Floats = NDArray[np.float64]

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class Scale:
    """The values that a metric can have, and which of them are good."""

    lowest: float = 0.0
    highest: float = 1.0
    lower_is_better: bool = False

    @property
    def worst(self) -> float:
        """The worst value there is; infinite where there is none."""
        return self.highest if self.lower_is_better else self.lowest


@dataclass(frozen=True)
class Counts:
    """Weighted counts of outcomes, each of shape [b, s]."""

    true_positives: Floats
    false_positives: Floats
    false_negatives: Floats
    true_negatives: Floats


@dataclass(frozen=True)
class _Metric:
    """``evaluate`` takes labels [n], probabilities [s, n], weights [b, n] and thresholds [s].

    It is None of a metric of the user's own whose code is not here.
    """

    evaluate: Callable[[Labels, Probabilities, Floats, Floats], Floats] | None
    scale: Scale = Scale()
    needs_thresholds: bool = False


@dataclass(frozen=True)
class Score:
    """A metric, to be called. ``thresholds`` are one a seed; None: 0.5 for all."""

    objective: str
    thresholds: tuple[float, ...] | None = None

    @property
    def scale(self) -> Scale:
        """The values that the metric can have."""
        return _metric(self.objective).scale

    @property
    def is_own(self) -> bool:
        """Whether it is a metric of the user's own, whose code may be missing or fail."""
        return _metric_name(self.objective) not in _METRICS

    @property
    def needs_thresholds(self) -> bool:
        """Whether it depends on what each seed decides at."""
        return _metric(self.objective).needs_thresholds

    def __call__(
        self, labels: Labels, probabilities: Probabilities, weights: Floats | None = None
    ) -> Floats:
        """Return the metric of each resample and seed, shape [b, s]; NaN where it has none.

        ``labels`` have shape [n], ``probabilities`` [s, n]. ``weights``, shape [b, n], are at
        least 0; without them every item counts once, and b is 1.

        Raises InputError for shapes, labels or probabilities that do not fit, and for a metric
        that cannot be measured.
        """
        require_predictions(labels, probabilities)
        every_item_once = np.ones((1, len(labels)))
        evaluate = _metric(self.objective).evaluate
        if evaluate is None:
            raise InputError(f"the code of {_metric_name(self.objective)} was not loaded")
        return evaluate(
            labels,
            probabilities,
            every_item_once if weights is None else weights,
            self._threshold_of_each_seed(len(probabilities)),
        )

    def _threshold_of_each_seed(self, num_seeds: int) -> Floats:
        if self.thresholds is None:
            return np.full(num_seeds, DEFAULT_THRESHOLD)
        if len(self.thresholds) != num_seeds:
            raise InputError(
                f"thresholds: {len(self.thresholds)} for {num_seeds} seeds of {self.objective}. "
                "Pass one a seed."
            )
        return np.asarray(self.thresholds, dtype=np.float64)


def score_function(objective: str, thresholds: Sequence[float] | None = None) -> Score:
    """Return the metric of the name ``objective``, e.g. ``val_f1`` or ``test_f1``.

    ``thresholds``, one a seed, are for the names that end in ``_at_threshold``; the others ignore
    them. A threshold is not tuned again on a resample.

    Raises InputError for an unknown name, and for an ``_at_threshold`` without thresholds.
    """
    if not _metric(objective).needs_thresholds:
        return Score(objective)
    if thresholds is None:
        raise InputError(f"thresholds: {objective} has none. Pass one a seed.")
    return Score(objective, tuple(thresholds))


def _metric(objective: str) -> _Metric:
    name = _metric_name(objective)
    metric = _METRICS.get(name) or _own_metric(name)
    if metric is None:
        known = ", ".join(f"val_{name}" for name in (*_METRICS, *OWN_METRICS))
        raise InputError(f"objective: unknown metric {objective!r}. Use one of: {known}.")
    return metric


def _metric_name(objective: str) -> str:
    return objective.removeprefix("val_").removeprefix("test_")


def _own_metric(name: str) -> _Metric | None:
    """Return a metric of the user's own; None if it is not known. Its values have no bounds."""
    direction, own = OWN_METRICS.direction(name), OWN_METRICS.metric(name)
    if direction is None:
        return None
    scale = Scale(-math.inf, math.inf, lower_is_better=direction == "minimise")
    if own is None:
        return _Metric(None, scale)
    return _Metric(_one_by_one(own), scale, needs_thresholds=own.takes_threshold)


def _one_by_one(metric: Metric) -> Callable[[Labels, Probabilities, Floats, Floats], Floats]:
    """Return a metric of one seed and one resample as a function of many of both."""

    def evaluate(
        labels: Labels, probabilities: Probabilities, weights: Floats, thresholds: Floats
    ) -> Floats:
        counts, seeds = weights.astype(np.int64), list(zip(probabilities, thresholds, strict=True))
        return np.array(
            [[metric(labels, row, float(t), count) for row, t in seeds] for count in counts]
        )

    return evaluate


def _of_counts(
    formula: Callable[[Counts], Floats],
) -> Callable[[Labels, Probabilities, Floats, Floats], Floats]:
    """Return ``formula`` as a function of what a metric's ``evaluate`` takes."""

    def evaluate(
        labels: Labels, probabilities: Probabilities, weights: Floats, thresholds: Floats
    ) -> Floats:
        positive = (labels == 1).astype(np.float64)
        predicted = (probabilities >= thresholds[:, None]).astype(np.float64)
        hits = weights @ (predicted * positive).T
        alarms = weights @ (predicted * (1 - positive)).T
        return formula(
            Counts(
                true_positives=hits,
                false_positives=alarms,
                false_negatives=(weights @ positive)[:, None] - hits,
                true_negatives=(weights @ (1 - positive))[:, None] - alarms,
            )
        )

    return evaluate


def _accuracy(counts: Counts) -> Floats:
    correct = counts.true_positives + counts.true_negatives
    return correct / (correct + counts.false_positives + counts.false_negatives)


def _precision(counts: Counts) -> Floats:
    return _ratio(counts.true_positives, counts.true_positives + counts.false_positives)


def _recall(counts: Counts) -> Floats:
    return _ratio(counts.true_positives, counts.true_positives + counts.false_negatives)


def _f1(counts: Counts) -> Floats:
    wrong = counts.false_positives + counts.false_negatives
    return _ratio(2 * counts.true_positives, 2 * counts.true_positives + wrong)


def _mcc(counts: Counts) -> Floats:
    tp, fp = counts.true_positives, counts.false_positives
    fn, tn = counts.false_negatives, counts.true_negatives
    scale = np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn))
    return _ratio(tp * tn - fp * fn, scale)


def _log_loss(
    labels: Labels, probabilities: Probabilities, weights: Floats, _thresholds: Floats
) -> Floats:
    """No probability is nearer to 0 or 1 than the precision of float64."""
    tiny = np.finfo(np.float64).eps
    of_label = np.where(labels == 1, probabilities, 1 - probabilities)
    losses = -np.log(np.clip(of_label, tiny, 1 - tiny))
    return np.asarray(weights @ losses.T / weights.sum(axis=1, keepdims=True))


def _roc_auc(
    labels: Labels, probabilities: Probabilities, weights: Floats, _thresholds: Floats
) -> Floats:
    columns = [_one_roc_auc(labels, row, weights) for row in probabilities]
    return np.stack(columns, axis=1)


def _pr_auc(
    labels: Labels, probabilities: Probabilities, weights: Floats, _thresholds: Floats
) -> Floats:
    columns = [_one_pr_auc(labels, row, weights) for row in probabilities]
    return np.stack(columns, axis=1)


def _one_roc_auc(labels: Labels, probabilities: Floats, weights: Floats) -> Floats:
    """Return the weighted share of pairs with the positive above, ties one half; shape [b]."""
    positives, negatives = _by_falling_probability(labels, probabilities)
    levels = -probabilities[positives], -probabilities[negatives]
    weight_of_negatives = np.take(weights, negatives, axis=1)
    found = _cumulated(np.take(weights, positives, axis=1))
    above = np.take(found, np.searchsorted(*levels, side="left"), axis=1)
    not_below = np.take(found, np.searchsorted(*levels, side="right"), axis=1)
    won = np.einsum("bn,bn->b", (above + not_below) / 2, weight_of_negatives)
    return _ratio_or_nan(won, found[:, -1] * weight_of_negatives.sum(axis=1))


def _one_pr_auc(labels: Labels, probabilities: Floats, weights: Floats) -> Floats:
    """Return the average precision: the mean over positives of the precision there; shape [b]."""
    positives, negatives = _by_falling_probability(labels, probabilities)
    at = -probabilities[positives]
    weight_of_positives = np.take(weights, positives, axis=1)
    found = _cumulated(weight_of_positives)
    alarms = _cumulated(np.take(weights, negatives, axis=1))
    hits_there = np.take(found, np.searchsorted(at, at, side="right"), axis=1)
    alarms_there = np.take(
        alarms, np.searchsorted(-probabilities[negatives], at, side="right"), axis=1
    )
    precision = _ratio(hits_there, hits_there + alarms_there)
    gained = np.einsum("bn,bn->b", precision, weight_of_positives)
    has_negatives = np.where(alarms[:, -1] > 0, 1.0, 0.0)
    return _ratio_or_nan(gained, found[:, -1] * has_negatives)


def _by_falling_probability(
    labels: Labels, probabilities: Floats
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of the positives and of the negatives, most probable first."""
    order = np.argsort(-probabilities, kind="stable")
    is_positive = labels[order] == 1
    return order[is_positive], order[~is_positive]


def _cumulated(weights: Floats) -> Floats:
    """Return the sums of the first 0, 1, ... columns, shape [b, n + 1]."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)


def _ratio_or_nan(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; NaN where the denominator is 0."""
    return np.divide(
        numerator, denominator, out=np.full_like(numerator, math.nan), where=denominator != 0
    )


_METRICS: Mapping[str, _Metric] = {
    "loss": _Metric(_log_loss, Scale(0.0, math.inf, lower_is_better=True)),
    "accuracy": _Metric(_of_counts(_accuracy)),
    "precision": _Metric(_of_counts(_precision)),
    "recall": _Metric(_of_counts(_recall)),
    "f1": _Metric(_of_counts(_f1)),
    "mcc": _Metric(_of_counts(_mcc), Scale(-1.0, 1.0)),
    "roc_auc": _Metric(_roc_auc),
    "pr_auc": _Metric(_pr_auc),
    "f1_at_threshold": _Metric(_of_counts(_f1), needs_thresholds=True),
    "accuracy_at_threshold": _Metric(_of_counts(_accuracy), needs_thresholds=True),
}
