"""Where the variance of a score comes from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sg_ray.statistics.resampling import ResampledScores
from sg_ray.statistics.seed_summaries import sample_sd


@dataclass(frozen=True)
class VarianceSplit:
    """The SD that seeds and that items give to one trial's score, and their shares of variance.

    The shares add up to 1.
    """

    seed_sd: float
    sampling_sd: float
    seed_share: float
    sampling_share: float


@dataclass(frozen=True)
class SeedVarianceSplit:
    """How initialisation and data order share the variance over seeds; they add up to 1."""

    init_share: float
    data_order_share: float


def split_variance(scores: ResampledScores) -> VarianceSplit | None:
    """Split the variance of one trial's score on one sample of items.

    Of the model in ``resampling``, the seed part is the variance of seeds on the same items,
    SD^2 with s - 1: what training again changes, the seeds' own errors on these items included.
    The sampling part is what another sample of items would change for all seeds alike: the
    bootstrap variance of the mean over seeds, less the 1 / s of the seeds' own that is left in
    it, and not below 0. The sum is the variance of one trial's score on a sample of items, both
    drawn anew.

    None for fewer than 2 seeds, and if nothing varies.
    """
    if scores.num_seeds < 2:
        return None
    parts = scores.variance_parts()
    total = parts.over_seeds + parts.items
    if total == 0:
        return None
    return VarianceSplit(
        seed_sd=float(np.sqrt(parts.over_seeds)),
        sampling_sd=float(np.sqrt(parts.items)),
        seed_share=parts.over_seeds / total,
        sampling_share=parts.items / total,
    )


def split_seed_variance(
    init_only_values: Sequence[float], order_only_values: Sequence[float]
) -> SeedVarianceSplit | None:
    """Split the variance over seeds by trials of which each set varies one stream only.

    ``init_only_values`` are scores of trials that differ in initialisation alone,
    ``order_only_values`` in data order alone (Bouthillier et al. 2021, "Accounting for Variance in
    Machine Learning Benchmarks", MLSys). What the two do only together shows in
    neither. None if a set has fewer than 2 values, or nothing varies.
    """
    init, order = (sample_sd(values) ** 2 for values in (init_only_values, order_only_values))
    if not init + order > 0:
        return None
    return SeedVarianceSplit(init / (init + order), order / (init + order))
