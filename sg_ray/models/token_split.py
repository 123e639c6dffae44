"""Sequences of code tokens as batches, for every family that reads tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from sg_ray.features.packed import FeatureKind, Ragged
from sg_ray.models.family import Batch, Capacity

TOKEN_STEP = 64
"""Tokens by which a capacity grows: kernels like whole tiles."""


@dataclass(frozen=True)
class TokenSplit:
    """Truncated token sequences of one split, with special tokens added when collated.

    One before the function (bos, or cls) and one after it (eos, or sep); None: there is none, but
    not of both. If ``padded`` a batch is a rectangle, padding last; else its sequences lie one
    behind the other.
    """

    labels: NDArray[np.int8]
    ids: Ragged
    max_tokens: int
    bos_id: int | None
    eos_id: int | None
    pad_id: int
    padded: bool = True

    @classmethod
    def of(
        cls,
        kind: FeatureKind,
        labels: NDArray[np.int8],
        ids: Ragged,
        max_tokens: int,
        *,
        padded: bool = True,
    ) -> Self:
        """Return the split of a ``TokenSpec``'s features with the special tokens it has."""
        bos_id, eos_id, pad_id = (kind.meta[name] for name in ("bos_id", "eos_id", "pad_id"))
        if pad_id is None:  # what pads is masked, so that any token will do
            pad_id = bos_id if eos_id is None else eos_id
        return cls(labels, ids, max_tokens, bos_id, eos_id, pad_id, padded)

    @property
    def num_special(self) -> int:
        """Special tokens in a sequence, 1 or 2."""
        return (self.bos_id is not None) + (self.eos_id is not None)

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """Tokens of each sample after truncation, special tokens included, shape [n]."""
        return np.minimum(self.ids.lengths + self.num_special, self.max_tokens)

    def collate(self, indices: NDArray[np.int64]) -> Batch:
        """Return the batch, of B samples.

        Padded: ``ids`` int64 [B, T], and ``mask`` bool [B, T] only where there is padding. Packed:
        ``ids`` and ``positions`` (from 0) int64 [T], ``offsets`` int32 [B + 1] of the sequences.
        """
        return self._rectangle(indices) if self.padded else self._row(indices, self.units[indices])

    def capacity(self, pieces: Sequence[NDArray[np.int64]]) -> Capacity:
        """Return the samples and tokens that hold each packed piece and at least one dummy.

        No dummy is longer than ``max_tokens``, none is empty.
        """
        counts = np.array([len(piece) for piece in pieces], dtype=np.int64)
        used = np.array([self.units[piece].sum() for piece in pieces], dtype=np.int64)
        samples, tokens = 0, 0
        while True:
            fewest = int((used + np.maximum(samples - counts, 1)).max())
            tokens = max(tokens, -(-fewest // TOKEN_STEP) * TOKEN_STEP)
            most = int((counts + -(-(tokens - used) // self.max_tokens)).max())
            if most <= samples:
                return {"samples": samples, "tokens": tokens}
            samples = most

    def collate_fixed(self, indices: NDArray[np.int64], capacity: Capacity) -> Batch:
        """Return ``collate`` with the tokens left over dealt to dummies of padding."""
        tail = capacity["tokens"] - int(self.units[indices].sum())
        num_dummies = capacity["samples"] - len(indices)
        bounds = np.arange(num_dummies + 1) * tail // num_dummies
        return self._row(indices, np.concatenate([self.units[indices], np.diff(bounds)]))

    def _row(self, indices: NDArray[np.int64], lengths: NDArray[np.int64]) -> Batch:
        """Return sequences of ``lengths``, the samples first, then dummies."""
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        positions = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        ids = np.full(offsets[-1], self.pad_id, dtype=np.int64)
        starts, ends = offsets[: len(indices)], offsets[1 : len(indices) + 1]
        first = int(self.bos_id is not None)
        num_own = self.units[indices] - self.num_special
        own_starts = np.cumsum(num_own) - num_own
        own = np.arange(num_own.sum())
        places = own + np.repeat(starts + first - own_starts, num_own)
        ids[places] = self.ids.values[
            own + np.repeat(self.ids.offsets[indices] - own_starts, num_own)
        ]
        if self.bos_id is not None:
            ids[starts] = self.bos_id
        if self.eos_id is not None:
            ids[ends - 1] = self.eos_id
        return {
            "ids": torch.from_numpy(ids),
            "positions": torch.from_numpy(positions),
            "offsets": torch.from_numpy(offsets.astype(np.int32)),
        }

    def _rectangle(self, indices: NDArray[np.int64]) -> Batch:
        starts = self.ids.offsets[indices]
        lengths = np.minimum(
            self.ids.offsets[indices + 1] - starts, self.max_tokens - self.num_special
        )
        columns = np.arange(lengths.max())
        is_token = columns < lengths[:, None]
        padded = np.full((len(indices), len(columns) + self.num_special), self.pad_id, np.int64)
        first = int(self.bos_id is not None)
        own = padded[:, first : first + len(columns)]
        own[is_token] = self.ids.values[(starts[:, None] + columns)[is_token]]
        if self.bos_id is not None:
            padded[:, 0] = self.bos_id
        if self.eos_id is not None:
            padded[np.arange(len(indices)), lengths + first] = self.eos_id
        batch = {"ids": torch.from_numpy(padded)}
        if not is_token.all():
            sizes = torch.from_numpy(lengths + self.num_special)
            batch["mask"] = torch.arange(padded.shape[1]) < sizes[:, None]
        return batch
