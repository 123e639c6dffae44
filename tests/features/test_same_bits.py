"""Graphs of many functions, whole and broken, stay what they were, bit by bit.

What makes them faster must not change them: trainings on record would not be repeatable. If they
are meant to change, raise ``GraphSpec.version`` and write the new digests down.
"""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version

import pytest
from test_devign import read_devign

from sg_ray.data.synthetic import generate
from sg_ray.features.program_graphs import GraphFeaturiser
from sg_ray.features.spec import GraphSpec

GRAMMAR = "0.24.2"
"""The version of tree-sitter-c that the digests are of: another may parse broken code otherwise."""


@pytest.fixture(autouse=True)
def same_grammar() -> None:
    if version("tree-sitter-c") != GRAMMAR:
        pytest.skip(f"the digests are of tree-sitter-c {GRAMMAR}")


def with_broken(sources: Sequence[str]) -> list[str]:
    """Functions, their first and last halves, and their lines in another order."""
    halves = [half for s in sources for half in (s[: len(s) // 2], s[len(s) // 2 :])]
    return [*sources, *halves, *("\n".join(s.splitlines()[::-1]) for s in sources)]


def digest_of(sources: Sequence[str], spec: GraphSpec) -> str:
    digest = hashlib.sha256()
    for name, ragged in sorted(GraphFeaturiser.fit(spec, sources).encode(sources).items()):
        digest.update(f"{name} {ragged.values.dtype.str} {ragged.values.shape}".encode())
        digest.update(ragged.values.tobytes() + ragged.offsets.tobytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (GraphSpec(vocab_size=256), "cc5375045c61361d"),
        (GraphSpec(vocab_size=256, max_nodes=40), "c072e468ea7ac47d"),
        (GraphSpec(vocab_size=256, graph="sequential"), "5de463ba4211d4cd"),
    ],
    ids=["program", "cut off", "sequential"],
)
def test_graphs_of_synthetic_functions(spec: GraphSpec, expected: str) -> None:
    sources = [sample.source for sample in generate(200, 0)]
    assert digest_of(with_broken(sources), spec) == expected


@pytest.mark.slow
def test_graphs_of_real_functions() -> None:
    train = read_devign().splits["train"]
    sources = [sample.source for sample in train[:: len(train) // 300]]
    assert digest_of(with_broken(sources), GraphSpec()) == "a0857c716162cc4b"
