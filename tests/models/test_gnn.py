import warnings

import numpy as np
import pytest
import torch
from torch import nn

from sg_ray.features.packed import FeatureKind, Features, Ragged
from sg_ray.models.family import Inputs
from sg_ray.models.gnn import Gnn, GnnConfig
from sg_ray.models.gnn_network import GraphDropout, TypedMessagePassing
from sg_ray.models.graph_split import GraphSplit
from sg_ray.models.seeded_dropout import set_dropout_seed
from sg_ray.models.typed_graph import TypedGraph

NUM_EDGE_TYPES = 3
LAYERS = ("relational", "gated")


def random_graphs(num_nodes: list[int], seed: int = 0) -> dict[str, Ragged]:
    """Graphs with about two edges a node, each sorted by (type, target) and without repeats."""
    rng = np.random.default_rng(seed)
    edges, types, kinds, tokens = [], [], [], []
    for n in num_nodes:
        rows = np.unique(
            np.stack([rng.integers(0, high, 2 * n) for high in (NUM_EDGE_TYPES, n, n)]), axis=1
        )
        types.append(rows[0].astype(np.uint8))
        edges.append(rows[[2, 1]].T.astype(np.int32))
        kinds.append(rng.integers(0, 5, n, dtype=np.int16))
        tokens.append(rng.integers(0, 16, n, dtype=np.int32))
    arrays = {"node_kind": kinds, "node_token": tokens, "edges": edges, "edge_type": types}
    return {name: Ragged.pack(items) for name, items in arrays.items()}


def split_of(arrays: dict[str, Ragged]) -> GraphSplit:
    num_samples = len(arrays["node_kind"])
    return GraphSplit(np.arange(num_samples, dtype=np.int8) % 2, arrays, NUM_EDGE_TYPES)


def inputs_of(arrays: dict[str, Ragged], config: GnnConfig) -> Inputs:
    meta = {"num_node_kinds": 5, "vocab_size": 16, "num_edge_types": NUM_EDGE_TYPES}
    kind = FeatureKind(meta, {"train": arrays})
    labels = np.arange(len(arrays["node_kind"]), dtype=np.int8) % 2
    return Inputs(Features("data", {"train": labels}, {config.graphs.key: kind}))


def both_directions(split: GraphSplit, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Edge index [2, E] and relation [E] of a batch, made sample by sample."""
    index, relation, shift = [], [], 0
    for i in indices:
        edges = split.arrays["edges"][i].astype(np.int64) + shift
        types = split.arrays["edge_type"][i].astype(np.int64)
        index += [edges.T, edges.T[::-1]]
        relation += [types, types + NUM_EDGE_TYPES]
        shift += len(split.arrays["node_kind"][i])
    return torch.from_numpy(np.hstack(index)), torch.from_numpy(np.hstack(relation))


def test_messages_and_their_gradients_equal_pyg_rgcn() -> None:
    with warnings.catch_warnings():
        # Importing it compiles a few classes with torch.jit, which PyTorch 2.13 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch_geometric.nn.conv.rgcn_conv import RGCNConv

    split = split_of(random_graphs([7, 1, 12, 30]))
    indices = [2, 0, 3, 1]
    torch.manual_seed(0)
    ours = TypedMessagePassing(8, 2 * NUM_EDGE_TYPES).double()
    theirs = RGCNConv(8, 8, 2 * NUM_EDGE_TYPES, root_weight=False, bias=False).double()
    theirs.weight = nn.Parameter(ours.weight.detach().clone())
    x = torch.randn(50, 8, dtype=torch.double, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    batch = split.collate(np.array(indices))

    got = ours(x, TypedGraph.of(batch))
    expected = theirs(y, *both_directions(split, indices))
    got.square().sum().backward()
    expected.square().sum().backward()

    assert expected.abs().sum() > 1
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_collate_keeps_the_order_of_the_samples() -> None:
    arrays = random_graphs([4, 9, 2])
    batch = split_of(arrays).collate(np.array([2, 0]))
    expected = np.concatenate([arrays["node_token"][2], arrays["node_token"][0]])
    assert batch["node_token"].tolist() == expected.tolist()
    assert batch["graph_offsets"].tolist() == [0, 2, 6]


@pytest.mark.parametrize("layer", LAYERS)
def test_graphs_without_edges_train(layer: str) -> None:
    arrays = random_graphs([1, 3])
    arrays["edges"] = Ragged.pack([np.zeros((0, 2), np.int32)] * 2)
    arrays["edge_type"] = Ragged.pack([np.zeros(0, np.uint8)] * 2)
    config = GnnConfig(layer=layer, hidden_dim=8, num_layers=2)
    model = Gnn().build(config, inputs_of(arrays, config))
    logits = model(split_of(arrays).collate(np.array([0, 1])))
    logits.sum().backward()
    assert logits.shape == (2,)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("layer", LAYERS)
def test_logits_depend_on_edge_types(layer: str) -> None:
    arrays = random_graphs([20])
    config = GnnConfig(layer=layer, hidden_dim=8, num_layers=2, dropout=0)
    torch.manual_seed(0)
    model = Gnn().build(config, inputs_of(arrays, config)).eval()
    before = model(split_of(arrays).collate(np.array([0])))
    arrays["edge_type"] = Ragged.pack([(arrays["edge_type"][0] + 1) % NUM_EDGE_TYPES])
    after = model(split_of(arrays).collate(np.array([0])))
    assert abs(before - after).item() > 1e-4


def test_dropout_takes_the_same_features_from_all_nodes_of_a_graph() -> None:
    batch = split_of(random_graphs([4, 9])).collate(np.array([0, 1]))
    dropout = GraphDropout(0.5)
    set_dropout_seed(dropout, 0)
    dropped = dropout(torch.ones(13, 64), TypedGraph.of(batch))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert (dropped[:4] == dropped[0]).all()
    assert (dropped[4:] == dropped[4]).all()
    assert not torch.equal(dropped[0], dropped[4])
    assert torch.equal(dropout.eval()(dropped, TypedGraph.of(batch)), dropped)


@pytest.mark.parametrize("layer", LAYERS)
def test_mixed_precision_gives_nearly_the_same_gradients(layer: str) -> None:
    arrays = random_graphs([20, 30])
    config = GnnConfig(layer=layer, hidden_dim=16, num_layers=2, dropout=0)
    torch.manual_seed(0)
    model = Gnn().build(config, inputs_of(arrays, config))
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            logits = model(split_of(arrays).collate(np.array([0, 1])))
        logits.float().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99


def test_units_are_nodes_and_labels_come_from_the_features() -> None:
    arrays = random_graphs([4, 9])
    config = GnnConfig()
    split = Gnn().split_data(config, inputs_of(arrays, config), "train")
    assert split.units.tolist() == [4, 9]
    assert split.labels.tolist() == [0, 1]
    assert split.padded is False
