"""The plain data that every layer above works on."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class Sample:
    """One C function with its label (1 = vulnerable, 0 = not)."""

    source: str
    label: int
    sample_id: str


def labels_of(samples: Sequence[Sample]) -> NDArray[np.int8]:
    """Return the labels, shape [n]."""
    return np.array([sample.label for sample in samples], dtype=np.int8)


@dataclass(frozen=True)
class DataSet:
    """Samples by split (``test`` may be absent), and the notes the checks left about them."""

    name: str
    splits: Mapping[str, Sequence[Sample]]
    notes: Sequence[str] = field(default=())

    @property
    def fingerprint(self) -> str:
        """Hash of every source and label in order: equal data, equal fingerprint."""
        digest = hashlib.sha256()
        for split in SPLITS:
            for sample in self.splits.get(split, ()):
                source = sample.source.encode("utf-8", "surrogatepass")
                digest.update(f"{split} {sample.label} {len(source)} ".encode())
                digest.update(source)
        return digest.hexdigest()[:16]
