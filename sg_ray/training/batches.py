"""Which samples go through the model together: optimisation batches and their micro-batches."""

import numpy as np
from numpy.typing import NDArray

from sg_ray.errors import InputError
from sg_ray.models.family import NeuralConfig, SplitData
from sg_ray.training.seeding import numpy_stream

Indices = NDArray[np.int64]

POOL_BATCHES = 32
"""Batches sorted by length together: wide enough to remove padding, narrow enough to mix."""

CLASS_NAMES = ("not vulnerable", "vulnerable")


def epoch_batches(split: SplitData, config: NeuralConfig, seed: int, epoch: int) -> list[Indices]:
    """Return the optimisation batches of an epoch (from 1), the same on every rank.

    Raises InputError if weighted sampling is on and a class has no samples.
    """
    rng = numpy_stream(seed, "order", epoch)
    order = epoch_order(split.labels, rng, weighted=config.weighted_sampling)
    return optimisation_batches(order, split.units, config.batch_size, rng)


def epoch_order(labels: NDArray[np.int8], rng: np.random.Generator, *, weighted: bool) -> Indices:
    """Return the samples of one epoch, shape [n]: a permutation, or a draw balanced by class.

    Weighted draws are with replacement, each class with probability one half. Raises InputError
    if a class to balance has no samples.
    """
    if not weighted:
        return rng.permutation(len(labels)).astype(np.int64)
    counts = np.bincount(labels, minlength=2)
    for label, name in enumerate(CLASS_NAMES):
        if counts[label] == 0:
            raise InputError(
                f"weighted_sampling: the train split has no sample of class {label} ({name}). "
                "Set weighted_sampling to false, or add samples of that class."
            )
    probabilities = 1.0 / (2.0 * counts[labels])
    return rng.choice(len(labels), size=len(labels), p=probabilities).astype(np.int64)


def num_batches(num_samples: int, batch_size: int) -> int:
    """Return the number of optimisation steps in an epoch."""
    return -(-num_samples // batch_size)


def optimisation_batches(
    order: Indices, units: NDArray[np.int64], batch_size: int, rng: np.random.Generator
) -> list[Indices]:
    """Cut ``order`` into batches of exactly ``batch_size`` samples of similar length, shuffled.

    Samples are sorted by ``units`` inside pools of POOL_BATCHES batches. The samples left over
    form one smaller batch; they are the last of ``order``, hence drawn without regard to length.
    """
    num_full = len(order) // batch_size
    batches = []
    for first in range(0, num_full, POOL_BATCHES):
        last = min(first + POOL_BATCHES, num_full)
        pool = order[first * batch_size : last * batch_size]
        by_length = pool[np.argsort(units[pool], kind="stable")]
        batches.extend(np.split(by_length, last - first))
    if num_full * batch_size < len(order):
        batches.append(order[num_full * batch_size :])
    return [batches[position] for position in rng.permutation(len(batches))]


def micro_batches(
    indices: Indices, units: NDArray[np.int64], max_units: int, *, padded: bool
) -> list[Indices]:
    """Cut ``indices`` into pieces that cost at most ``max_units`` each, longest samples first.

    A piece costs count x longest if ``padded``, else the sum of its ``units``. A sample that alone
    costs more is a piece of its own. No indices give no pieces.
    """
    by_length = indices[np.argsort(-units[indices], kind="stable")]
    sizes = units[by_length]
    ends = np.cumsum(sizes)
    pieces = []
    start = 0
    while start < len(by_length):
        if padded:
            stop = start + int(max_units // sizes[start])
        else:
            spent = ends[start] - sizes[start]
            stop = int(np.searchsorted(ends, spent + max_units, side="right"))
        stop = max(stop, start + 1)
        pieces.append(by_length[start:stop])
        start = stop
    return pieces
