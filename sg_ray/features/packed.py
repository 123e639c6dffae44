"""Packed features: concatenated values plus offsets instead of one small array per sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ragged:
    """``n`` arrays of different length: item i is ``values[offsets[i]:offsets[i + 1]]``.

    ``values`` may have trailing dimensions; ``offsets`` is int64 of shape [n + 1].
    """

    values: NDArray[Any]
    offsets: NDArray[np.int64]

    @staticmethod
    def pack(items: Sequence[NDArray[Any]]) -> "Ragged":
        """Concatenate ``items``, which share their data type and trailing dimensions."""
        offsets = np.zeros(len(items) + 1, dtype=np.int64)
        np.cumsum([len(item) for item in items], out=offsets[1:])
        return Ragged(np.concatenate(items), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[Any]:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of every item, shape [n]."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class FeatureKind:
    """One kind of feature (one spec) over all splits.

    ``meta`` holds what a model needs to size itself (vocabulary size, number of edge types, ...).
    ``splits[split][array_name]`` is a Ragged with one item per sample of that split.
    """

    meta: Mapping[str, Any]
    splits: Mapping[str, Mapping[str, Ragged]]


@dataclass(frozen=True)
class Features:
    """Everything the trials of a sweep read: labels, and feature kinds keyed by ``spec.key``.

    Plain numpy throughout, so that one ``ray.put`` shares it with every trial without a copy.
    ``packed_ids`` are the samples' ids by split, as UTF-8 (see ``sample_ids``). They are taken from
    the data at every start, not from the store: equal features may have other ids.
    """

    data_fingerprint: str
    labels: Mapping[str, NDArray[np.int8]]
    kinds: Mapping[str, FeatureKind]
    packed_ids: Mapping[str, Ragged] = field(default_factory=dict)

    def split(self, key: str, split: str) -> Mapping[str, Ragged]:
        """Return the arrays of one split of the kind called ``key``."""
        return self.kinds[key].splits[split]

    def sample_ids(self, split: str) -> NDArray[np.str_] | None:
        """Return the ids of a split's samples, shape [n]; None if they have none."""
        packed = self.packed_ids.get(split)
        if packed is None:
            return None
        each = (packed[index].tobytes() for index in range(len(packed)))
        return np.array([text.decode("utf-8", "surrogatepass") for text in each], dtype=np.str_)


def pack_texts(texts: Sequence[str]) -> Ragged:
    """Return texts as UTF-8, one after the other: a long one makes no room for all the others."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    return Ragged(np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets)
