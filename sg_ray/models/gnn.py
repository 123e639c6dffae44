"""The graph family: typed message passing over program graphs, on PyTorch Geometric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from sg_ray.features.packed import Ragged
from sg_ray.features.spec import FeatureSpec, GraphSpec
from sg_ray.models.family import Batch, Classifier, Inputs, NeuralConfig, NeuralFamily


class GnnConfig(NeuralConfig):
    """Hyperparameters of the graph family."""

    learning_rate: float = Field(default=5e-4, gt=0, le=10)
    """As of every neural family. Graph networks train at higher rates than transformers."""
    graphs: GraphSpec = GraphSpec()
    """What the graphs hold."""
    layer: Literal["gated", "relational"] = "relational"
    """``relational``: R-GCN with residuals; ``gated``: GGNN, a GRU update, about twice the time."""
    hidden_dim: int = Field(default=64, ge=4, le=4096)
    """Width of a node's vector. Wider takes more time and memory."""
    num_layers: int = Field(default=4, ge=1, le=64)
    """Rounds of messages: how many edges apart two nodes may be to hear of each other."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of a node's vector that is left out at random in training. Raise it if the model
    learns the train split by heart."""


@dataclass(frozen=True)
class GraphSplit:
    """One split of packed graphs. A batch is one large graph without edges between samples."""

    labels: NDArray[np.int8]
    arrays: Mapping[str, Ragged]
    num_edge_types: int
    padded: bool = False

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """Nodes of each graph, shape [n]."""
        return np.maximum(self.arrays["node_kind"].lengths, 1)

    def collate(self, indices: NDArray[np.int64]) -> Batch:
        """Return the batch: ``node_kind``, ``node_token`` [N], ``graph_offsets`` [B + 1], edges.

        Edges run both ways: type t forward is relation t, backward t + ``num_edge_types``. They
        come in the orders that ``gnn_network.TypedGraph`` describes.
        """
        num_nodes = self.arrays["node_kind"].lengths[indices]
        graph_offsets = _offsets(num_nodes)
        edges = _take(self.arrays["edges"], indices).astype(np.int64)
        edges += np.repeat(graph_offsets[:-1], self.arrays["edges"].lengths[indices])[:, None]
        edge_type = _take(self.arrays["edge_type"], indices).astype(np.int64)
        graph = _typed_graph(edges, edge_type, int(graph_offsets[-1]), self.num_edge_types)
        nodes = {
            name: _take(self.arrays[name], indices).astype(np.int32)
            for name in ("node_kind", "node_token")
        }
        node_graph = np.repeat(np.arange(len(indices), dtype=np.int32), num_nodes)
        arrays = {**nodes, **graph, "graph_offsets": graph_offsets, "node_graph": node_graph}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


class Gnn(NeuralFamily[GnnConfig]):
    """Graph networks over the ``graphs`` features."""

    name: ClassVar[str] = "gnn"
    Config = GnnConfig
    lr_range: ClassVar[tuple[float, float]] = (1e-5, 1e-1)

    def feature_specs(self, config: GnnConfig) -> Sequence[FeatureSpec]:
        """Return the program graphs."""
        return (config.graphs,)

    def split_data(self, config: GnnConfig, inputs: Inputs, split: str) -> GraphSplit:
        """Return one split's graphs."""
        kind = inputs.features.kinds[config.graphs.key]
        labels = inputs.features.labels[split]
        return GraphSplit(labels, kind.splits[split], kind.meta["num_edge_types"])

    def build(self, config: GnnConfig, inputs: Inputs) -> Classifier:
        """Return a new model, sized by the features' vocabularies."""
        from sg_ray.models.gnn_network import GraphClassifier

        meta = inputs.features.kinds[config.graphs.key].meta
        return GraphClassifier(
            layer=config.layer,
            num_node_kinds=meta["num_node_kinds"],
            vocab_size=meta["vocab_size"],
            num_relations=2 * meta["num_edge_types"],
            hidden_dim=config.hidden_dim,
            num_layers=config.num_layers,
            dropout=config.dropout,
        )


def _typed_graph(
    edges: NDArray[np.int64], edge_type: NDArray[np.int64], num_nodes: int, num_edge_types: int
) -> dict[str, NDArray[Any]]:
    """Return the arrays of ``gnn_network.TypedGraph``; ``edges`` is [E, 2] of (source, target)."""
    forward, backward = edges, edges[:, ::-1]
    relation = np.concatenate([edge_type, edge_type + num_edge_types])
    source, target = np.concatenate([forward, backward]).T
    num_slot_keys = 2 * num_edge_types * num_nodes
    source, key_offsets = _group(source, relation * num_nodes + target, num_nodes, num_slot_keys)
    edges_per_key = np.diff(key_offsets)
    slot_keys = np.flatnonzero(edges_per_key)
    edges_per_slot = edges_per_key[slot_keys]
    slots = np.arange(len(slot_keys))
    slot_relation, slot_node = np.divmod(slot_keys, num_nodes)
    slot = np.repeat(slots, edges_per_slot)
    weight = (1 / edges_per_slot).astype(np.float32)
    node_slots, node_slot_offsets = _group(slots, slot_node, len(slots), num_nodes)
    out_slots, out_offsets = _group(slot, source, len(slots), num_nodes)
    return {
        "edge_index": np.stack([source, slot_node[slot]]).astype(np.int32),
        "edge_weight": weight[slot],
        "slot_offsets": _offsets(edges_per_slot).astype(np.int32),
        "slot_node": slot_node.astype(np.int32),
        "slots_per_relation": np.bincount(slot_relation, minlength=2 * num_edge_types),
        "node_slots": node_slots.astype(np.int32),
        "node_slot_offsets": node_slot_offsets.astype(np.int32),
        "out_slots": out_slots.astype(np.int32),
        "out_weight": weight[out_slots],
        "out_offsets": out_offsets.astype(np.int32),
    }


def _group(
    members: NDArray[np.int64], groups: NDArray[np.int64], num_members: int, num_groups: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ``members`` ordered by group, then value, and where each group starts.

    Each pair is packed into one integer, so that sorting needs no permutation. The pairs come in
    runs (by sample, by edge type), which a stable sort merges instead of starting afresh.
    """
    packed = np.sort(groups * num_members + members, kind="stable")
    return packed % max(num_members, 1), _offsets(np.bincount(groups, minlength=num_groups))


def _take(ragged: Ragged, indices: NDArray[np.int64]) -> NDArray[Any]:
    """Return the items at ``indices``, concatenated in that order."""
    lengths = ragged.lengths[indices]
    shift = ragged.offsets[indices] - _offsets(lengths)[:-1]
    taken: NDArray[Any] = ragged.values[np.repeat(shift, lengths) + np.arange(lengths.sum())]
    return taken


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each of the concatenated items starts, and the end, shape [n + 1]."""
    return np.concatenate([[0], np.cumsum(lengths)])
