"""Scores of seeds on resampled items, and the parts of their variance.

The model is that of two crossed random factors (Owen 2007, "The pigeonhole bootstrap", Annals of
Applied Statistics 1): the score of seed i on a sample of items is

    true mean + seed_i + items + (seed_i x items)

where ``items`` is what a sample of items does to all seeds alike, and the last term is what it
does to one seed only. All s seeds are scored on the same items, so the variance of their mean is

    seed / s  +  items  +  interaction / s
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sg_ray.errors import InputError
from sg_ray.statistics.arguments import Labels, Probabilities
from sg_ray.statistics.scores import Score

Floats = NDArray[np.float64]

NUM_RESAMPLES = 2000

_WEIGHTS_AT_ONCE = 2**17
"""Numbers in a block of weights: 1 MB, which stays in a processor's cache."""


@dataclass(frozen=True)
class VarianceParts:
    """Variances of one seed's score: estimates without bias, but for not being below 0.

    ``over_seeds`` is the variance of seeds on the same items, interaction included: what training
    again changes. ``items`` is what other items change for all seeds alike. A single seed tells
    nothing of the former (0), and its ``items`` holds the interaction.
    """

    over_seeds: float
    items: float


@dataclass(frozen=True)
class ResampledScores:
    """Scores of s seeds on all items and on b resamples of them, all seeds on the same items.

    ``observed`` has shape [s], ``resampled`` [b, s]. Equal ``seed`` and labels mean the same
    resamples, so that two of these can be subtracted.
    """

    observed: Floats
    resampled: Floats

    @property
    def num_seeds(self) -> int:
        """Number of seeds s."""
        return len(self.observed)

    @property
    def mean(self) -> float:
        """Mean over seeds of the score on all items."""
        return float(self.observed.mean())

    def of_seeds(self, positions: Sequence[int]) -> "ResampledScores":
        """Return the scores of the seeds at ``positions`` only."""
        chosen = list(positions)
        return ResampledScores(self.observed[chosen], self.resampled[:, chosen])

    def minus(self, other: "ResampledScores") -> "ResampledScores":
        """Return the differences seed by seed. Raises InputError for other seeds or resamples."""
        if self.resampled.shape != other.resampled.shape:
            raise InputError(
                f"resampled scores: shapes {list(self.resampled.shape)} and "
                f"{list(other.resampled.shape)} (resamples, seeds) cannot be paired. Take the "
                "seeds that both have, and as many resamples."
            )
        return ResampledScores(self.observed - other.observed, self.resampled - other.resampled)

    def variance_parts(self) -> VarianceParts:
        """Return what seeds and what items contribute to the variance of one seed's score."""
        of_mean = float(self._defined.mean(axis=1).var(ddof=1))
        if self.num_seeds == 1:
            return VarianceParts(over_seeds=0.0, items=of_mean)
        shared = of_mean - self._interaction() / self.num_seeds
        return VarianceParts(over_seeds=float(self.observed.var(ddof=1)), items=max(0.0, shared))

    def item_deviations(self) -> Floats:
        """Return what each resample of the items does to all seeds alike, shape [b].

        That is the change of the mean over seeds, shrunk to the variance ``items``: the mean of a
        few seeds also moves by their interaction, which ``over_seeds`` has already.
        """
        change: Floats = self._defined.mean(axis=1) - self.mean
        variance = float(change.var(ddof=1))
        if variance == 0:
            return change
        return change * math.sqrt(self.variance_parts().items / variance)

    @property
    def _defined(self) -> Floats:
        """The resamples on which every seed has a score."""
        return np.asarray(self.resampled[np.isfinite(self.resampled).all(axis=1)])

    def _interaction(self) -> float:
        """Return the variance that resampling gives to one seed beyond what all seeds share."""
        own = self._defined - self._defined.mean(axis=1, keepdims=True)
        return float(own.var(axis=0, ddof=1).sum() / (self.num_seeds - 1))


def resample_scores(
    labels: Labels,
    probabilities: Probabilities,
    score: Score,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int,
) -> ResampledScores:
    """Score all seeds on the items and on ``num_resamples`` resamples of them.

    ``labels`` have shape [n], ``probabilities`` [s, n]. Items are drawn with replacement from all
    of them, not within each label: a split is a sample of functions, and the share of vulnerable
    ones in it is as random as the rest. A resample without any item of one label has no ROC-AUC
    or average precision, and is left out.

    Raises InputError for input that does not fit, fewer than 2 resamples, or items on which
    ``score`` has no value.
    """
    if num_resamples < 2:
        raise InputError(f"num_resamples: {num_resamples} give no interval. Use e.g. 2000.")
    observed = score(labels, probabilities)[0]
    if not np.isfinite(observed).all():
        raise InputError(
            f"labels: {score.objective} has no value on {len(labels)} items of one label. Use "
            "val_loss, or items of both."
        )
    blocks = _item_weights(len(labels), num_resamples, np.random.default_rng(seed))
    resampled = np.concatenate([score(labels, probabilities, weights) for weights in blocks])
    return ResampledScores(observed, resampled)


def _item_weights(num_items: int, num_resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield blocks [b, n] that say how often each resample holds each item."""
    most_at_once = max(1, _WEIGHTS_AT_ONCE // num_items)
    for start in range(0, num_resamples, most_at_once):
        num_rows = min(most_at_once, num_resamples - start)
        drawn = rng.integers(num_items, size=(num_rows, num_items))
        cells = (drawn + num_items * np.arange(num_rows)[:, None]).ravel()
        counts = np.bincount(cells, minlength=num_rows * num_items)
        yield counts.reshape(num_rows, num_items).astype(np.float64)
