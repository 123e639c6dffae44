"""The contract of a feature kind: fitted on the train split, then a pure function of the source."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from sg_ray.features.packed import Ragged
from sg_ray.features.spec import FeatureSpec

SpecT = TypeVar("SpecT", bound=FeatureSpec)
T = TypeVar("T")
R = TypeVar("R")

CHUNK_SIZE = 256
"""Functions handled at a time."""


class Map(Protocol):
    """Calls a function with each item, here (``map`` itself) or on other processes."""

    def __call__(self, function: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]:
        """Yield ``function(item)`` for each item, in order."""
        ...


class Featuriser(Protocol, Generic[SpecT]):
    """Turns C functions into packed arrays.

    ``encode`` depends on nothing but the fitted state and each source by itself, so that sources
    may be encoded in any grouping, by any process, with the same result.
    """

    spec: SpecT

    @classmethod
    def fit(cls, spec: SpecT, sources: Sequence[str], run: Map = map) -> Self:
        """Fit on the sources of the train split. Equal sources in equal order, equal state.

        ``run`` may be used for work that can be done in parts; it changes no result.
        """
        ...

    @classmethod
    def load(cls, spec: SpecT, folder: Path) -> Self:
        """Restore what ``save`` wrote into ``folder``."""
        ...

    def save(self, folder: Path) -> None:
        """Write the fitted state as files into the existing ``folder``."""
        ...

    def encode(self, sources: Sequence[str]) -> dict[str, Ragged]:
        """Return the arrays of ``sources`` by name, each with one item per source. Never fails."""
        ...

    @property
    def meta(self) -> dict[str, Any]:
        """What a model needs to size itself, as plain JSON values."""
        ...

    @classmethod
    def inputs(cls, spec: SpecT) -> Mapping[str, str]:
        """What the arrays depend on besides spec and data, by name: versions, file hashes.

        A stored feature whose inputs differ from today's is built again.
        """
        ...


def in_chunks(items: Sequence[T]) -> list[Sequence[T]]:
    """Return ``items`` in pieces of CHUNK_SIZE."""
    return [items[i : i + CHUNK_SIZE] for i in range(0, len(items), CHUNK_SIZE)]


def to_utf8(source: str) -> bytes:
    """Encode ``source``; a lone surrogate, which UTF-8 cannot hold, becomes a question mark."""
    return source.encode("utf-8", "replace")
