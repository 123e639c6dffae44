"""One set of shapes for all steps of a training, known before its first.

Then the work of a step no longer depends on which samples it takes: it can be recorded once and
replayed. Batches of packed splits cost nearly the same, so little is left to fill up.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from sg_ray.models.family import Batch, Capacity, FixedSplit, SplitData
from sg_ray.training.batches import Indices, micro_batches

Wish = Literal["auto", "on", "off"]

_NOTHING: Indices = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class FixedShapes:
    """So many micro-batches of so much room a step; ``max_units`` is the budget they were cut by.

    Legend: S samples that a micro-batch has room for.
    """

    split: FixedSplit
    labels: NDArray[np.float32]
    max_units: int
    num_pieces: int
    capacity: Capacity

    @classmethod
    def of(cls, split: FixedSplit, batches: Iterable[Indices], max_units: int) -> Self:
        """Return the shapes that hold each of ``batches``."""
        units = split.units
        cuts = [micro_batches(batch, units, max_units, padded=False) for batch in batches]
        num_pieces = max(len(cut) for cut in cuts)
        labels = split.labels.astype(np.float32)
        shapes = cls(split, labels, max_units, num_pieces, {})
        pieces = {piece.tobytes(): piece for cut in cuts for piece in shapes._filled(cut)}
        capacity = split.capacity(list(pieces.values()))
        return cls(split, labels, max_units, num_pieces, capacity)

    @property
    def units(self) -> NDArray[np.int64]:
        """What the samples of a micro-batch cost, [S], as far as its memory is concerned."""
        num_samples = self.capacity["samples"]
        return np.full(num_samples, -(-self.max_units // num_samples), dtype=np.int64)

    def pieces(self, batch: Indices) -> list[Indices]:
        """Cut a batch into ``num_pieces``; some are empty if it has fewer samples."""
        return self._filled(micro_batches(batch, self.split.units, self.max_units, padded=False))

    def collate(self, piece: Indices) -> tuple[Batch, torch.Tensor, torch.Tensor]:
        """Return a micro-batch's CPU tensors, its labels and what each sample counts, both [S]."""
        labels, counts = np.zeros((2, self.capacity["samples"]), dtype=np.float32)
        labels[: len(piece)] = self.labels[piece]
        counts[: len(piece)] = 1
        batch = self.split.collate_fixed(piece, self.capacity)
        return batch, torch.from_numpy(labels), torch.from_numpy(counts)

    def _filled(self, cut: list[Indices]) -> list[Indices]:
        if 0 < len(cut) < self.num_pieces:
            batch = np.concatenate(cut)
            cut = micro_batches(
                batch, self.split.units, self.max_units, padded=False, at_least=self.num_pieces
            )
        return cut + [_NOTHING] * (self.num_pieces - len(cut))


def fixed_split(split: SplitData) -> FixedSplit | None:
    """Return ``split`` if its batches have fixed shapes."""
    return split if isinstance(split, FixedSplit) and not split.padded else None
