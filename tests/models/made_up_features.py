"""Features of functions that nobody wrote: for a machine with a GPU and without a parser."""

import numpy as np

from sg_ray.features.packed import FeatureKind, Features, Ragged
from sg_ray.features.spec import FeatureSpec, GraphSpec, TokenSpec

NUM_EDGE_TYPES = 4
NUM_NODE_KINDS = 30


def made_up_features(num_samples: dict[str, int], *specs: FeatureSpec) -> Features:
    """Return random tokens and graphs of the forms that featurisers give, the same each time."""
    rng = np.random.default_rng(0)
    labels = {
        split: rng.permutation(np.arange(n) % 2).astype(np.int8) for split, n in num_samples.items()
    }
    kinds = {spec.key: _kind(spec, num_samples, rng) for spec in specs}
    return Features("made-up", labels, kinds)


def _kind(spec: FeatureSpec, num_samples: dict[str, int], rng: np.random.Generator) -> FeatureKind:
    if isinstance(spec, TokenSpec):
        meta = {"vocab_size": spec.vocab_size, "bos_id": 0, "pad_id": 1, "eos_id": 2, "unk_id": 3}
        return FeatureKind(
            meta, {split: _tokens(n, spec.vocab_size, rng) for split, n in num_samples.items()}
        )
    assert isinstance(spec, GraphSpec)
    meta = {
        "num_node_kinds": NUM_NODE_KINDS,
        "vocab_size": spec.vocab_size,
        "num_edge_types": NUM_EDGE_TYPES,
    }
    return FeatureKind(
        meta, {split: _graphs(n, spec.vocab_size, rng) for split, n in num_samples.items()}
    )


def _tokens(num_samples: int, vocab_size: int, rng: np.random.Generator) -> dict[str, Ragged]:
    lengths = rng.integers(5, 80, num_samples)
    return {"ids": Ragged.pack([rng.integers(4, vocab_size, n).astype(np.uint16) for n in lengths])}


def _graphs(num_samples: int, vocab_size: int, rng: np.random.Generator) -> dict[str, Ragged]:
    nodes = rng.integers(6, 40, num_samples)
    edges = [rng.integers(0, n, (2 * n, 2)).astype(np.int32) for n in nodes]
    types = [np.sort(np.arange(len(pairs)) % NUM_EDGE_TYPES).astype(np.uint8) for pairs in edges]
    return {
        "node_kind": Ragged.pack(
            [rng.integers(0, NUM_NODE_KINDS, n).astype(np.int16) for n in nodes]
        ),
        "node_token": Ragged.pack([rng.integers(0, vocab_size, n).astype(np.int32) for n in nodes]),
        "edges": Ragged.pack(edges),
        "edge_type": Ragged.pack(types),
    }
