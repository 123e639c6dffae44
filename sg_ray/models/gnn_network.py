"""Graph layers on PyTorch Geometric, and the classifier made of them.

Apart from ``gnn`` because importing PyTorch Geometric takes seconds, which only a trial should pay.

Shape legend: B graphs with N nodes and E edges (both directions) in a batch, R relations, S slots,
D hidden width. A slot is a pair (relation, target node) that at least one edge reaches.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sg_ray.models.family import Batch, Classifier
from sg_ray.models.seeded_dropout import SeededDropout

with warnings.catch_warnings():
    # Importing it compiles a few classes with torch.jit, which PyTorch 2.13 deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from torch_geometric.nn.aggr.attention import AttentionalAggregation
    from torch_geometric.nn.conv.message_passing import MessagePassing

LayerKind = Literal["gated", "relational"]


@dataclass(frozen=True)
class SparseMatrix:
    """A constant sparse matrix by rows: row i holds ``columns[offsets[i]:offsets[i + 1]]``."""

    columns: Tensor
    offsets: Tensor
    values: Tensor | None = None

    def dot(self, dense: Tensor) -> Tensor:
        """Return this matrix times ``dense``; its gradient is not recorded.

        An embedding bag is the fastest deterministic kernel for it: on a CPU 25 times faster than
        selecting the rows and adding them up by index.
        """
        values = None if self.values is None else self.values.to(dense.dtype)
        return functional.embedding_bag(
            self.columns,
            dense,
            self.offsets,
            mode="sum",
            per_sample_weights=values,
            include_last_offset=True,
        )


class _SparseProduct(torch.autograd.Function):
    """``matrix`` times ``dense``, with the transposed matrix at hand for the gradient."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: SparseMatrix, transposed: SparseMatrix) -> Tensor:
        ctx.transposed = transposed
        return matrix.dot(dense)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transposed.dot(gradients[0].contiguous()), None, None


class _SlotSum(torch.autograd.Function):
    """Sum the slots [S, D] of each node into [N, D]; the gradient is a plain row selection."""

    @staticmethod
    def forward(ctx: Any, slots: Tensor, node_slots: SparseMatrix, slot_node: Tensor) -> Tensor:
        ctx.slot_node = slot_node
        return node_slots.dot(slots)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].index_select(0, ctx.slot_node), None, None


_sparse_product = cast(Callable[[Tensor, SparseMatrix, SparseMatrix], Tensor], _SparseProduct.apply)
_slot_sum = cast(Callable[[Tensor, SparseMatrix, Tensor], Tensor], _SlotSum.apply)


@dataclass(frozen=True)
class TypedGraph:
    """The edges of a batch in the orders that message passing and its gradient need.

    - ``slot_sources`` [S, N]: row s averages the sources of slot s, ``source_slots`` its transpose
    - ``node_slots`` [N, S]: row i adds up the slots whose target is i (``slot_node`` [S])
    - ``slots_per_relation``: slots are ordered by relation, so each relation is one block
    - ``node_graph`` [N]: number of each node's graph
    """

    edge_index: Tensor
    slot_sources: SparseMatrix
    source_slots: SparseMatrix
    node_slots: SparseMatrix
    slot_node: Tensor
    slots_per_relation: list[int]
    node_graph: Tensor
    num_graphs: int

    @staticmethod
    def of(batch: Batch) -> "TypedGraph":
        """Read the graph from a batch that ``gnn.GraphSplit.collate`` made."""
        return TypedGraph(
            batch["edge_index"],
            SparseMatrix(batch["edge_index"][0], batch["slot_offsets"], batch["edge_weight"]),
            SparseMatrix(batch["out_slots"], batch["out_offsets"], batch["out_weight"]),
            SparseMatrix(batch["node_slots"], batch["node_slot_offsets"]),
            batch["slot_node"],
            batch["slots_per_relation"].tolist(),
            batch["node_graph"],
            len(batch["graph_offsets"]) - 1,
        )


class TypedMessagePassing(MessagePassing):  # type: ignore[misc]
    """Messages typed by relation, as in R-GCN (Schlichtkrull et al., 2018).

    Node i receives the sum over relations r of ``W_r mean(x_j for j in N_r(i))``. Sources are
    averaged before they are transformed, and only for the slots that exist: a program graph's node
    takes part in about three of the relations, so this needs a third of the multiplications.
    """

    def __init__(self, hidden_dim: int, num_relations: int) -> None:
        super().__init__(aggr=None)
        self.weight = nn.Parameter(torch.empty(num_relations, hidden_dim, hidden_dim))
        for matrix in self.weight:
            nn.init.xavier_uniform_(matrix)

    def forward(self, x: Tensor, graph: TypedGraph) -> Tensor:
        """Return the messages that reach each node, shape [N, D]."""
        messages: Tensor = self.propagate(
            graph.edge_index, x=x, graph=graph, size=(x.shape[0], x.shape[0])
        )
        return messages

    def propagate(self, edge_index: Tensor, size: Any = None, **arguments: Any) -> Tensor:
        """Propagate as the base class does.

        A class with a ``propagate`` of its own is not compiled from a template, which would leave
        a source file in the temporary folder for every process.
        """
        messages: Tensor = super().propagate(edge_index, size=size, **arguments)
        return messages

    def message(self, x: Tensor) -> Tensor:
        """Return the node states as they are: they are gathered where they are added up."""
        return x

    def aggregate(self, inputs: Tensor, graph: TypedGraph) -> Tensor:
        """Average by slot, transform by relation, sum by node."""
        means = _sparse_product(inputs, graph.slot_sources, graph.source_slots)
        blocks = zip(torch.split(means, graph.slots_per_relation), self.weight, strict=True)
        slots = torch.cat([block @ weight for block, weight in blocks])
        return _slot_sum(slots, graph.node_slots, graph.slot_node)


class GraphDropout(nn.Module):
    """Dropout of the same features in all nodes of a graph.

    Variational dropout (Gal and Ghahramani, 2016), with the graph in the place of the sequence. It
    draws B x D random numbers instead of N x D, which take a fifth of a step's time on a CPU.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.dropout = SeededDropout(probability)

    def forward(self, x: Tensor, graph: TypedGraph) -> Tensor:
        """Return node states [N, D] with features dropped if training."""
        if not self.dropout.is_active:
            return x
        mask = self.dropout.mask(x.new_empty(graph.num_graphs, x.shape[1]))
        return x * mask.index_select(0, graph.node_graph)


class RelationalLayer(nn.Module):
    """Pre-norm residual R-GCN layer: ``x + relu(W LayerNorm(x) + messages)``."""

    def __init__(self, hidden_dim: int, num_relations: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_dim)
        self.messages = TypedMessagePassing(hidden_dim, num_relations)
        self.root = nn.Linear(hidden_dim, hidden_dim)
        self.dropout = GraphDropout(dropout)

    def forward(self, x: Tensor, graph: TypedGraph) -> Tensor:
        """Return the next node states, shape [N, D]."""
        normed = self.norm(x)
        update = functional.relu(self.root(normed) + self.messages(normed, graph))
        updated: Tensor = x + self.dropout(update, graph)
        return updated


class GatedLayer(nn.Module):
    """Gated graph layer (Li et al., 2016): a GRU takes the messages as input, the node as state."""

    def __init__(self, hidden_dim: int, num_relations: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_dim)
        self.messages = TypedMessagePassing(hidden_dim, num_relations)
        self.update = nn.GRUCell(hidden_dim, hidden_dim)
        self.dropout = GraphDropout(dropout)

    def forward(self, x: Tensor, graph: TypedGraph) -> Tensor:
        """Return the next node states, shape [N, D]."""
        messages = self.dropout(self.messages(self.norm(x), graph), graph)
        updated: Tensor = self.update(messages, x)
        return updated


LAYERS: dict[str, type[RelationalLayer] | type[GatedLayer]] = {
    "gated": GatedLayer,
    "relational": RelationalLayer,
}


class GraphClassifier(Classifier):
    """Embedded nodes, typed message passing, attention over the nodes of each graph, a logit."""

    reaches_every_parameter = True  # also those of relations that a batch has none of

    def __init__(
        self,
        *,
        layer: LayerKind,
        num_node_kinds: int,
        vocab_size: int,
        num_relations: int,
        hidden_dim: int,
        num_layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding_dim = hidden_dim
        self.node_kind = nn.Embedding(num_node_kinds, hidden_dim)
        self.node_token = nn.Embedding(vocab_size, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)
        self.dropout = GraphDropout(dropout)
        self.layers = nn.ModuleList(
            LAYERS[layer](hidden_dim, num_relations, dropout) for _ in range(num_layers)
        )
        self.readout_norm = nn.LayerNorm(hidden_dim)
        # One attention per feature. No bias in the gate: a softmax does not see it.
        self.readout = AttentionalAggregation(
            gate_nn=nn.Linear(hidden_dim, hidden_dim, bias=False),
            nn=nn.Linear(hidden_dim, hidden_dim),
        )
        self.head = nn.Sequential(nn.ReLU(), SeededDropout(dropout), nn.Linear(hidden_dim, 1))

    def embed(self, batch: Batch) -> Tensor:
        """Return one vector per graph, shape [B, D]."""
        graph = TypedGraph.of(batch)
        x = self.node_kind(batch["node_kind"]) + self.node_token(batch["node_token"])
        x = self.dropout(self.norm(x), graph)
        for layer in self.layers:
            x = layer(x, graph)
        embedding: Tensor = self.readout(self.readout_norm(x), ptr=batch["graph_offsets"])
        return embedding

    def classify(self, embedding: Tensor) -> Tensor:
        """Return one logit per graph, shape [B]."""
        logits: Tensor = self.head(embedding)
        return logits.squeeze(-1)
