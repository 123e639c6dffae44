"""Subsets and splits that keep the share of each label, drawn by seed."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeVar

from sg_ray.data.samples import Sample
from sg_ray.errors import InputError

TRAIN_SHARE = 0.8
VALID_SHARE = 0.1

_Key = TypeVar("_Key", str, int)


def stratified_subset(samples: Sequence[Sample], num_samples: int, seed: int) -> list[Sample]:
    """Return ``num_samples`` samples in their order, with the labels in their proportion.

    Every label present keeps at least one sample. All samples are returned if there are fewer.
    Raises InputError if ``num_samples`` is below the number of labels.
    """
    if num_samples >= len(samples):
        return list(samples)
    chosen = _stratified_indices(samples, num_samples, seed)
    return [samples[index] for index in sorted(chosen)]


def stratified_sample(
    splits: Mapping[str, Sequence[Sample]], num_samples: int, seed: int
) -> dict[str, list[Sample]]:
    """Return ``num_samples`` in all: splits and their labels in proportion, rows in their order.

    Every split keeps at least two samples, if it has two, and every label that it has. Raises
    InputError if ``num_samples`` is too small for that, or larger than the data set.
    """
    sizes = {split: len(samples) for split, samples in splits.items()}
    fewest = {split: min(2, size) for split, size in sizes.items()}
    if not sum(fewest.values()) <= num_samples <= sum(sizes.values()):
        held = ", ".join(f"{split} {size}" for split, size in sizes.items())
        raise InputError(
            f"cannot sample {num_samples} of {sum(sizes.values())} functions ({held}). Ask for "
            f"{sum(fewest.values())} to {sum(sizes.values())}."
        )
    quotas = _shares(sizes, num_samples, fewest)
    return {
        split: stratified_subset(samples, quotas[split], seed) for split, samples in splits.items()
    }


def split_pairs(samples: Sequence[Sample], seed: int) -> dict[str, list[Sample]]:
    """Split 80/10/10 into train, valid and test; the two samples of a pair stay together.

    A pair is two neighbours, vulnerable and fixed, as ``synthetic.generate`` returns them. Needs
    at least 20 samples for each split to hold a pair.
    """
    pairs = [samples[start : start + 2] for start in range(0, len(samples), 2)]
    random.Random(seed).shuffle(pairs)
    end_train = round(TRAIN_SHARE * len(pairs))
    end_valid = round((TRAIN_SHARE + VALID_SHARE) * len(pairs))
    parts = {
        "train": pairs[:end_train],
        "valid": pairs[end_train:end_valid],
        "test": pairs[end_valid:],
    }
    return {split: [sample for pair in part for sample in pair] for split, part in parts.items()}


def _stratified_indices(samples: Sequence[Sample], num_samples: int, seed: int) -> set[int]:
    rng = random.Random(seed)
    by_label: defaultdict[int, list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        by_label[sample.label].append(index)
    sizes = {label: len(by_label[label]) for label in sorted(by_label)}
    chosen: set[int] = set()
    for label, quota in _quotas(sizes, num_samples).items():
        rng.shuffle(by_label[label])
        chosen.update(by_label[label][:quota])
    return chosen


def _quotas(sizes: Mapping[int, int], num_samples: int) -> dict[int, int]:
    """Share ``num_samples`` out in proportion to ``sizes``, at least 1 each."""
    if num_samples < len(sizes):
        raise InputError(
            f"{num_samples} samples cannot hold {len(sizes)} labels. Ask for {len(sizes)} or more."
        )
    return _shares(sizes, num_samples, dict.fromkeys(sizes, 1))


def _shares(sizes: Mapping[_Key, int], total: int, fewest: Mapping[_Key, int]) -> dict[_Key, int]:
    """Share ``total`` out in proportion to ``sizes``; whose share is below ``fewest`` gets that."""
    raised: dict[_Key, int] = {}
    while True:
        others = {key: size for key, size in sizes.items() if key not in raised}
        shares = _largest_remainder(others, total - sum(raised.values()))
        short = {key: fewest[key] for key, share in shares.items() if share < fewest[key]}
        if not short:
            return {key: raised.get(key, shares.get(key, 0)) for key in sizes}
        raised |= short


def _largest_remainder(sizes: Mapping[_Key, int], total: int) -> dict[_Key, int]:
    """Share ``total`` out in proportion: rounded down, then one more by size of what was lost."""
    exact = {key: divmod(total * size, sum(sizes.values())) for key, size in sizes.items()}
    shares = {key: whole for key, (whole, _) in exact.items()}
    by_remainder = sorted(sizes, key=lambda key: -exact[key][1])
    for key in by_remainder[: total - sum(shares.values())]:
        shares[key] += 1
    return shares
