"""Edges as numbers: they sort by target, then source, in a fraction of the time that pairs take.

The edge from node ``source`` to node ``target`` is ``target << TARGET_SHIFT | source``.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

TARGET_SHIFT = 31
"""Node numbers have fewer bits, so that an edge fits into an int64."""

_SOURCE_MASK = (1 << TARGET_SHIFT) - 1


def pairs(edges: Iterable[int]) -> list[tuple[int, int]]:
    """Return each edge as (source, target)."""
    return [(edge & _SOURCE_MASK, edge >> TARGET_SHIFT) for edge in edges]


def pair_array(edges: Sequence[int]) -> NDArray[np.int32]:
    """Return the source and target of each edge, shape [n, 2]."""
    numbers = np.array(edges, dtype=np.int64)
    return np.stack([numbers & _SOURCE_MASK, numbers >> TARGET_SHIFT], axis=1).astype(np.int32)
