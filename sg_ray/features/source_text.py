"""The source itself as UTF-8 bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from sg_ray.features.featuriser import Map, to_utf8
from sg_ray.features.packed import Ragged
from sg_ray.features.spec import TextSpec


class TextFeaturiser:
    """Packs sources as they are. Arrays: ``bytes`` uint8. Nothing is fitted."""

    def __init__(self, spec: TextSpec) -> None:
        self.spec = spec

    @property
    def meta(self) -> dict[str, Any]:
        """Nothing to size."""
        return {}

    @classmethod
    def inputs(cls, spec: TextSpec) -> Mapping[str, str]:  # noqa: ARG003
        """Return nothing: the arrays depend on the data alone."""
        return {}

    @classmethod
    def fit(cls, spec: TextSpec, sources: Sequence[str], run: Map = map) -> Self:  # noqa: ARG003
        """Return the featuriser; there is nothing to fit."""
        return cls(spec)

    @classmethod
    def load(cls, spec: TextSpec, folder: Path) -> Self:  # noqa: ARG003
        """Return the featuriser; nothing was saved."""
        return cls(spec)

    def save(self, folder: Path) -> None:
        """Write nothing."""

    def encode(self, sources: Sequence[str]) -> dict[str, Ragged]:
        """Return the UTF-8 bytes of each source."""
        texts = [to_utf8(source) for source in sources]
        lengths = np.array([0, *map(len, texts)], dtype=np.int64)
        values = np.frombuffer(b"".join(texts), dtype=np.uint8)
        return {"bytes": Ragged(values, np.cumsum(lengths))}
