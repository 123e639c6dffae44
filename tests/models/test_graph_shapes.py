"""Graphs filled up to fixed shapes, and stacked models: each equal to the plain path."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from sg_ray.features.packed import Ragged
from sg_ray.models.family import Batch, Classifier, FixedSplit
from sg_ray.models.gnn_network import GraphClassifier, LayerKind
from sg_ray.models.graph_functions import attention_pool
from sg_ray.models.graph_split import GraphSplit
from sg_ray.models.seeded_dropout import set_dropout_seed

NUM_EDGE_TYPES = 3
LAYERS = ("relational", "gated")


def split_of(num_graphs: int, seed: int = 0) -> GraphSplit:
    """Graphs of 1 to 30 nodes: a tree (type 0), a chain (type 1), and some edges, or none."""
    rng = np.random.default_rng(seed)
    items: dict[str, list[Any]] = {k: [] for k in ("node_kind", "node_token", "edges", "edge_type")}
    for n in rng.integers(1, 30, num_graphs).tolist():
        tree = [(int(rng.integers(0, child)), child) for child in range(1, n)]
        chain = [(i, i + 1) for i in range(n - 1)][:: 1 + n % 2]
        free = sorted({tuple(rng.integers(0, n, 2).tolist()) for _ in range(n % 7)})
        edges = [tree, chain, free]
        items["node_kind"].append(rng.integers(0, 5, n).astype(np.int16))
        items["node_token"].append(rng.integers(0, 16, n).astype(np.int32))
        items["edges"].append(np.array([*tree, *chain, *free], np.int32).reshape(-1, 2))
        items["edge_type"].append(np.repeat(np.arange(3, dtype=np.uint8), [*map(len, edges)]))
    arrays = {name: Ragged.pack(item) for name, item in items.items()}
    return GraphSplit(np.arange(num_graphs, dtype=np.int8) % 2, arrays, NUM_EDGE_TYPES)


def model_of(layer: LayerKind, seed: int = 0, dropout: float = 0.2) -> GraphClassifier:
    torch.manual_seed(seed)
    model = GraphClassifier(
        layer=layer,
        num_node_kinds=5,
        vocab_size=16,
        num_relations=2 * NUM_EDGE_TYPES,
        hidden_dim=8,
        num_layers=2,
        dropout=dropout,
    )
    set_dropout_seed(model, seed)
    return model


def gradients(model: Classifier, batch: Batch, num_samples: int) -> list[torch.Tensor]:
    """Backpropagate a loss of the first samples, as a step with dummies does."""
    model.zero_grad()
    logits = model(batch)
    weight = torch.zeros(len(logits))
    weight[:num_samples] = torch.linspace(1, 2, num_samples)
    (weight * logits.sigmoid()).sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def pieces_of(num_graphs: int, sizes: Sequence[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.permutation(num_graphs)[:size] for size in sizes]


def test_the_narrower_end_of_a_tree_is_its_parents() -> None:
    split = split_of(40)
    assert split.ends[0] == "source"
    one = split.arrays["edges"][3][split.arrays["edge_type"][3] == 0]
    assert split.num_slots[3, 0] == len(np.unique(one[:, 0]))
    assert split.num_slots.shape == (40, NUM_EDGE_TYPES)


def test_slots_are_counted_alike_however_many_graphs_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = split_of(40).num_slots
    monkeypatch.setattr("sg_ray.models.graph_split._NODES_AT_ONCE", 70)
    np.testing.assert_array_equal(split_of(40).num_slots, expected)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("size", [7, 3, 1, 0])
def test_a_filled_up_batch_gives_the_same_logits_and_gradients(layer: LayerKind, size: int) -> None:
    split = split_of(40)
    assert isinstance(split, FixedSplit)
    pieces = pieces_of(40, [7, 7, 3, 1, 0])
    capacity = split.capacity(pieces)
    indices = next(piece for piece in pieces if len(piece) == size)
    model = model_of(layer)
    plain = split.collate(indices)
    fixed = split.collate_fixed(indices, capacity)

    logits = model(fixed)
    assert logits.shape == (capacity["samples"],)
    assert torch.isfinite(logits).all()
    got = gradients(model, fixed, size)
    if size == 0:
        assert all((gradient == 0).all() for gradient in got)
        return
    torch.testing.assert_close(logits[:size], model(plain), atol=1e-6, rtol=1e-5)
    for one, other in zip(got, gradients(model, plain, size), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_dummies_reach_no_sample_and_no_weight() -> None:
    """Whatever the dummy nodes hold: what is not weighted away would show."""
    split = split_of(40)
    piece = pieces_of(40, [6])[0]
    batch = split.collate_fixed(piece, split.capacity([piece]))
    num_nodes = int(split.units[piece].sum())
    model = model_of("relational")
    before = gradients(model, batch, 6)
    batch["node_token"][num_nodes:] = 9
    batch["node_kind"][num_nodes:] = 3
    for one, other in zip(gradients(model, batch, 6), before, strict=True):
        assert torch.equal(one, other)


class Calls(TorchDispatchMode):
    """Counts the calls into torch by operator."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("layer", LAYERS)
def test_shapes_and_calls_are_the_same_in_200_steps(layer: LayerKind) -> None:
    split = split_of(60)
    rng = np.random.default_rng(2)
    pieces = [rng.permutation(60)[: rng.integers(0, 9)] for _ in range(200)]
    capacity = split.capacity(pieces)
    model = model_of(layer)
    shapes = set()
    counts = []
    for step, piece in enumerate(pieces):
        batch = split.collate_fixed(piece, capacity)
        shapes.add(tuple((key, tuple(t.shape), t.dtype) for key, t in batch.items()))
        if step % 20 == 0:
            with Calls() as calls:
                model(batch).sum().backward()
            counts.append(calls.counts)
            model.zero_grad()
    assert len(shapes) == 1
    assert all(count == counts[0] for count in counts)
    assert not any("item" in name or "nonzero" in name for name in counts[0])


@pytest.mark.parametrize("layer", LAYERS)
def test_stacked_models_equal_each_alone(layer: LayerKind) -> None:
    """Eight models, each with a batch of its own, under vmap: outputs and gradients."""
    split = split_of(60)
    num_models = 8
    pieces = pieces_of(60, [5] * num_models)
    capacity = split.capacity(pieces)
    batches = [split.collate_fixed(piece, capacity) for piece in pieces]
    models = [model_of(layer, seed) for seed in range(num_models)]
    parameters, buffers = stack_module_state(models)
    set_dropout_seed(buffers, range(num_models))
    stacked_batch = {key: torch.stack([b[key] for b in batches]) for key in batches[0]}

    def one(parameters: Any, buffers: Any, batch: Batch) -> torch.Tensor:
        return functional_call(models[0], (parameters, buffers), (batch,))

    logits = vmap(one)(parameters, buffers, stacked_batch)
    weight = torch.zeros(logits.shape[1])
    weight[:5] = torch.linspace(1, 2, 5)
    (weight * logits.sigmoid()).sum().backward()

    for number, (model, batch) in enumerate(zip(models, batches, strict=True)):
        torch.testing.assert_close(logits[number], model(batch), atol=1e-5, rtol=1e-5)
        expected = gradients(model, batch, 5)
        for (name, _), gradient in zip(model.named_parameters(), expected, strict=True):
            got = parameters[name].grad[number]
            torch.testing.assert_close(got, gradient, atol=1e-5, rtol=1e-5)


def test_the_gradient_of_attention_is_that_of_its_definition() -> None:
    offsets = torch.tensor([0, 2, 2, 7], dtype=torch.int32)
    node_graph = torch.tensor([0, 0, 2, 2, 2, 2, 2], dtype=torch.int32)
    score, value = torch.randn(2, 7, 3, dtype=torch.double, generator=torch.Generator())
    inputs = (score.requires_grad_(), value.requires_grad_())

    def pool(score: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return attention_pool(score, value, offsets, node_graph)[0]

    assert torch.autograd.gradcheck(pool, inputs)
    pooled = pool(*inputs)
    torch.testing.assert_close(pooled[2], (score[2:].softmax(0) * value[2:]).sum(0))
    assert (pooled[1] == 0).all()
