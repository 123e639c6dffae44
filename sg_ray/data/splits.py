"""Stratified, seeded parts of a split: the share of each label stays what it was."""

import random
from collections.abc import Sequence

from sg_ray.data.samples import Sample


def stratified_subset(samples: Sequence[Sample], size: int, seed: int) -> list[Sample]:
    """Return exactly ``size`` of the samples, in their order; all of them if there are fewer.

    Labels keep their proportions to the nearest sample, and each keeps at least one sample
    where ``size`` is 2 or more.
    """
    chosen = _choose(samples, size, seed)
    return [sample for position, sample in enumerate(samples) if position in chosen]


def stratified_carve(
    samples: Sequence[Sample], size: int, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Return (what is left, ``size`` samples carved out), both stratified and in their order.

    Raises ValueError unless ``0 < size < len(samples)``.
    """
    if not 0 < size < len(samples):
        raise ValueError(f"cannot carve {size} out of {len(samples)} samples")
    chosen = _choose(samples, size, seed)
    left = [sample for position, sample in enumerate(samples) if position not in chosen]
    return left, [samples[position] for position in sorted(chosen)]


def _choose(samples: Sequence[Sample], size: int, seed: int) -> set[int]:
    """Return the positions of ``size`` samples, or of all where there are not as many."""
    if size >= len(samples):
        return set(range(len(samples)))
    negatives = [position for position, sample in enumerate(samples) if sample.label == 0]
    positives = [position for position, sample in enumerate(samples) if sample.label == 1]
    num_positives = _num_positives(len(negatives), len(positives), size)
    rng = random.Random(seed)
    return {*rng.sample(negatives, size - num_positives), *rng.sample(positives, num_positives)}


def _num_positives(num_negatives: int, num_positives: int, size: int) -> int:
    """Return the positives among ``size`` samples: their share, but neither label left out."""
    share = round(size * num_positives / (num_negatives + num_positives))
    if size < 2 or not num_negatives or not num_positives:
        return share
    return min(max(share, 1), size - 1)
