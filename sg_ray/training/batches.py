"""Which samples go through the model together: optimisation batches and their micro-batches."""

import heapq

import numpy as np
from numpy.typing import NDArray

from sg_ray.errors import InputError
from sg_ray.models.family import NeuralConfig, SplitData
from sg_ray.training.seeding import numpy_stream

Indices = NDArray[np.int64]

POOL_BATCHES = 32
"""Batches cut by length together: wide enough to remove padding, narrow enough to mix."""

CLASS_NAMES = ("not vulnerable", "vulnerable")


def epoch_batches(split: SplitData, config: NeuralConfig, seed: int, epoch: int) -> list[Indices]:
    """Return the optimisation batches of an epoch (from 1), the same on every rank.

    Raises InputError if weighted sampling is on and a class has no samples.
    """
    rng = numpy_stream(seed, "order", epoch)
    order = epoch_order(split.labels, rng, weighted=config.weighted_sampling)
    return optimisation_batches(order, split.units, config.batch_size, rng, padded=split.padded)


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
    order: Indices,
    units: NDArray[np.int64],
    batch_size: int,
    rng: np.random.Generator,
    *,
    padded: bool,
) -> list[Indices]:
    """Cut ``order`` into batches of exactly ``batch_size`` samples, in mixed order.

    Pools of POOL_BATCHES batches are cut by ``units``: if ``padded`` into batches of similar
    length, since a batch costs its longest sample; else into batches that all cost nearly the same.
    The samples left over form one smaller batch; they are the last of ``order``, hence drawn
    without regard to length.
    """
    cut = _of_similar_length if padded else _of_equal_cost
    num_full = len(order) // batch_size
    batches = []
    for first in range(0, num_full, POOL_BATCHES):
        last = min(first + POOL_BATCHES, num_full)
        pool = order[first * batch_size : last * batch_size]
        batches.extend(cut(pool, units, last - first))
    if num_full * batch_size < len(order):
        batches.append(order[num_full * batch_size :])
    return [batches[position] for position in rng.permutation(len(batches))]


def _of_similar_length(pool: Indices, units: NDArray[np.int64], num: int) -> list[Indices]:
    return np.split(pool[np.argsort(units[pool], kind="stable")], num)


def _of_equal_cost(pool: Indices, units: NDArray[np.int64], num: int) -> list[Indices]:
    """Deal ``pool`` in rounds, longest samples first, each round's longest to the least so far."""
    rounds = pool[np.argsort(-units[pool], kind="stable")].reshape(-1, num)
    cost = np.zeros(num, dtype=np.int64)
    for dealt in rounds:
        least_first = np.argsort(cost, kind="stable")
        dealt[least_first] = dealt.copy()
        cost += units[dealt]
    return list(rounds.T.copy())


def micro_batches(
    indices: Indices,
    units: NDArray[np.int64],
    max_units: int,
    *,
    padded: bool,
    at_least: int = 1,
) -> list[Indices]:
    """Cut ``indices`` into pieces that cost at most ``max_units`` each, longest samples first.

    A piece costs count x longest if ``padded``, else the sum of its ``units``; then all pieces cost
    nearly the same, and there are ``at_least`` so many, unless there are fewer samples. A sample
    that alone costs more is a piece of its own. No indices give no pieces.
    """
    by_length = indices[np.argsort(-units[indices], kind="stable")]
    sizes = units[by_length]
    if padded:
        return _rectangles(by_length, sizes, max_units)
    num_large = int((sizes > max_units).sum())
    alone = np.split(by_length[:num_large], num_large) if num_large else []
    others, sizes = by_length[num_large:], sizes[num_large:]
    num = min(len(others), max(at_least - num_large, -(-int(sizes.sum()) // max_units)))
    while True:
        pieces = _dealt(others, sizes, num)
        if all(units[piece].sum() <= max_units for piece in pieces):
            return alone + pieces
        num += 1


def _rectangles(by_length: Indices, sizes: NDArray[np.int64], max_units: int) -> list[Indices]:
    pieces = []
    start = 0
    while start < len(by_length):
        stop = start + max(1, int(max_units // sizes[start]))
        pieces.append(by_length[start:stop])
        start = stop
    return pieces


def _dealt(by_length: Indices, sizes: NDArray[np.int64], num: int) -> list[Indices]:
    """Give each sample, longest first, to the piece that costs least so far.

    That is within a third of the best there is (Graham 1969, doi 10.1137/0117039).
    """
    pieces: list[list[int]] = [[] for _ in range(num)]
    least = [(0, piece) for piece in range(num)]
    for place, size in enumerate(sizes.tolist()):
        cost, piece = least[0]
        pieces[piece].append(place)
        heapq.heapreplace(least, (cost + size, piece))
    return [by_length[places] for places in pieces]
