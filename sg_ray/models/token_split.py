"""Sequences of code tokens as batches, for every family that reads tokens."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from sg_ray.features.packed import FeatureKind, Ragged
from sg_ray.models.family import Batch


@dataclass(frozen=True)
class TokenSplit:
    """Truncated token sequences of one split, with special tokens added when collated.

    One before the function (bos, or cls) and one after it (eos, or sep); None: there is none, but
    not of both. Padding comes last.
    """

    labels: NDArray[np.int8]
    ids: Ragged
    max_tokens: int
    bos_id: int | None
    eos_id: int | None
    pad_id: int
    padded: bool = True

    @classmethod
    def of(cls, kind: FeatureKind, labels: NDArray[np.int8], ids: Ragged, max_tokens: int) -> Self:
        """Return the split of a ``TokenSpec``'s features with the special tokens it has."""
        bos_id, eos_id, pad_id = (kind.meta[name] for name in ("bos_id", "eos_id", "pad_id"))
        if pad_id is None:  # what pads is masked, so that any token will do
            pad_id = bos_id if eos_id is None else eos_id
        return cls(labels, ids, max_tokens, bos_id, eos_id, pad_id)

    @property
    def num_special(self) -> int:
        """Special tokens in a sequence, 1 or 2."""
        return (self.bos_id is not None) + (self.eos_id is not None)

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """Tokens of each sample after truncation, special tokens included, shape [n]."""
        return np.minimum(self.ids.lengths + self.num_special, self.max_tokens)

    def collate(self, indices: NDArray[np.int64]) -> Batch:
        """Return ``ids`` int64 [B, T], and ``mask`` bool [B, T] only where there is padding."""
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
