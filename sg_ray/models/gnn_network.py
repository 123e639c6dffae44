"""Graph layers on plain PyTorch, and the classifier made of them.

Shape legend: B graphs with N nodes and E edges in a batch, D hidden width.

Each edge type is two relations: along its edges and against them. Node i receives the sum over
relations r of ``W_r mean(x_j for j in N_r(i))``, as in R-GCN (Schlichtkrull et al., 2018);
``typed_graph`` says in which order that is computed.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sg_ray.models.family import Batch, Classifier
from sg_ray.models.graph_functions import attention_pool, messages, of_its_graph, relational
from sg_ray.models.seeded_dropout import SeededDropout, masks
from sg_ray.models.typed_graph import TypedGraph

LayerKind = Literal["gated", "relational"]


def _in_one_type(x: Tensor, *others: Tensor) -> Iterator[Tensor]:
    """Yield the tensors in the type that a matrix product would have here: autocast's, if on."""
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    return (tensor.to(dtype) for tensor in (x, *others))


class TypedMessagePassing(nn.Module):
    """Messages typed by relation, each with a matrix of its own: see the head of this module."""

    def __init__(self, hidden_dim: int, num_relations: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_relations, hidden_dim, hidden_dim))
        for matrix in self.weight:
            nn.init.xavier_uniform_(matrix)

    def forward(self, x: Tensor, graph: TypedGraph) -> Tensor:
        """Return what reaches each node, shape [N, D]."""
        x, weight = _in_one_type(x, self.weight)
        return messages(x, weight, graph)[0]


class GraphDropout(nn.Module):
    """Dropout of the same features in all nodes of a graph.

    Variational dropout (Gal and Ghahramani, 2016), with the graph in the place of the sequence. It
    needs B x D random numbers instead of N x D.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.dropout = SeededDropout(probability)

    def forward(self, x: Tensor, graph: TypedGraph) -> Tensor:
        """Return node states [N, D] with features dropped if training."""
        (mask,) = graph_masks([self], x, graph)
        return _masked(x, mask, graph)


def graph_masks(
    dropouts: Sequence[GraphDropout], x: Tensor, graph: TypedGraph
) -> Sequence[Tensor | None]:
    """Return what each multiplies the states ``x`` of a graph's nodes by, [B, D]; None for 1."""
    if not dropouts[0].dropout.is_active:
        return [None] * len(dropouts)
    like = x.new_empty(graph.graph_offsets.shape[0] - 1, x.shape[1])
    return masks([each.dropout for each in dropouts], like).unbind(0)


def _masked(x: Tensor, mask: Tensor | None, graph: TypedGraph) -> Tensor:
    """Return node states [N, D] times the row of their graph in ``mask`` [B, D], in their type."""
    return x if mask is None else x * of_its_graph(mask.to(x.dtype), graph.node_graph)


class RelationalLayer(nn.Module):
    """Pre-norm residual R-GCN layer: ``x + relu(W LayerNorm(x) + messages)``."""

    def __init__(self, hidden_dim: int, num_relations: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_dim)
        self.messages = TypedMessagePassing(hidden_dim, num_relations)
        self.root = nn.Linear(hidden_dim, hidden_dim)
        self.dropout = GraphDropout(dropout)

    def forward(self, x: Tensor, graph: TypedGraph, mask: Tensor | None) -> Tensor:
        """Return the next node states, shape [N, D]; ``mask`` [B, D] is that of its dropout."""
        h, weight, root = _in_one_type(self.norm(x), self.messages.weight, self.root.weight)
        if mask is not None:
            mask = mask.to(h.dtype)
        return relational(x, h, weight, root, self.root.bias, mask, graph)[0]


class GatedLayer(nn.Module):
    """Gated graph layer (Li et al., 2016): a GRU takes the messages as input, the node as state."""

    def __init__(self, hidden_dim: int, num_relations: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_dim)
        self.messages = TypedMessagePassing(hidden_dim, num_relations)
        self.update = nn.GRUCell(hidden_dim, hidden_dim)
        self.dropout = GraphDropout(dropout)

    def forward(self, x: Tensor, graph: TypedGraph, mask: Tensor | None) -> Tensor:
        """Return the next node states, shape [N, D]; ``mask`` [B, D] is that of its dropout."""
        reached = _masked(self.messages(self.norm(x), graph), mask, graph)
        return _gru_step(self.update, reached, x)


def _gru_step(cell: nn.GRUCell, x: Tensor, state: Tensor) -> Tensor:
    """Return what ``cell`` does, in operations that ``vmap`` can batch, which its own cannot be."""
    from_x = functional.linear(x, cell.weight_ih, cell.bias_ih).chunk(3, dim=-1)
    from_state = functional.linear(state, cell.weight_hh, cell.bias_hh).chunk(3, dim=-1)
    reset, update = (torch.sigmoid(from_x[gate] + from_state[gate]) for gate in (0, 1))
    new = torch.tanh(torch.addcmul(from_x[2], reset, from_state[2]))
    return torch.lerp(new, state.to(new.dtype), update)


LAYERS: dict[str, type[RelationalLayer] | type[GatedLayer]] = {
    "gated": GatedLayer,
    "relational": RelationalLayer,
}


class AttentionReadout(nn.Module):
    """Attention over the nodes of each graph (Li et al., 2016), one for each feature."""

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        # No bias in the score: a softmax does not see it.
        self.score = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.value = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, x: Tensor, graph: TypedGraph) -> Tensor:
        """Return one vector per graph, shape [B, D]; in float32 at least, which a softmax needs."""
        score, value = (of_node(x) for of_node in (self.score, self.value))
        dtype = torch.promote_types(score.dtype, torch.float32)
        score, value = score.to(dtype), value.to(dtype)
        return attention_pool(score, value, graph.graph_offsets, graph.node_graph)[0]


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
        self.readout = AttentionReadout(hidden_dim)
        self.head = nn.Sequential(nn.ReLU(), SeededDropout(dropout), nn.Linear(hidden_dim, 1))

    def embed(self, batch: Batch) -> Tensor:
        """Return one vector per graph, shape [B, D]."""
        graph = TypedGraph.of(batch)
        x = self.node_kind(batch["node_kind"]) + self.node_token(batch["node_token"])
        dropouts = [each.dropout for each in (self, *self.layers)]
        mask, *masks_of_layers = graph_masks(dropouts, x, graph)
        x = _masked(self.norm(x), mask, graph)
        for layer, mask_of_layer in zip(self.layers, masks_of_layers, strict=True):
            x = layer(x, graph, mask_of_layer)
        return cast(Tensor, self.readout(self.readout_norm(x), graph))

    def classify(self, embedding: Tensor) -> Tensor:
        """Return one logit per graph, shape [B]."""
        logits: Tensor = self.head(embedding)
        return logits.squeeze(-1)
