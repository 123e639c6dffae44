"""Graph layers on plain PyTorch, and the classifier made of them.

Shape legend: B graphs with N nodes and E edges in a batch, T edge types, S slots, D hidden width,
K models that are stacked under ``torch.func.vmap``.

Each edge type is two relations: along its edges and against them. Node i receives the sum over
relations r of ``W_r mean(x_j for j in N_r(i))``, as in R-GCN (Schlichtkrull et al., 2018). What is
multiplied by a ``W_r`` is one row for each *slot*: a node at the narrower end of an edge type (in a
tree the parents, which are fewer than the children). Where the receivers are the narrower end,
sources are averaged first and then transformed; where the senders are, they are transformed first.
A program graph's node takes part in few relations, so there are 2.5 rows a node, where one row for
each node and relation makes 10, and one for each receiver in each relation 3.2.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from sg_ray.models.family import Batch, Classifier
from sg_ray.models.seeded_dropout import SeededDropout

LayerKind = Literal["gated", "relational"]
End = Literal["source", "target"]


class TypedGraph(NamedTuple):
    """The edges of a batch, in the orders that messages and their gradients need.

    Slots are ordered by edge type. Row s of ``2 S`` belongs to slot s and to the relation that
    leads to it, row S + s to slot s and the relation that leads away from it.

    - ``slot_node`` [S]: where each slot is
    - ``slot_offsets`` [S + 1]: where its edges begin; ``slot_others`` [E]: their other nodes
    - ``mean_weight`` [E]: 1 / edges of the slot; ``spread_weight`` [E]: 1 / edges of this type at
      the other node
    - ``node_offsets`` [N + 1]: where the rows begin that reach a node; ``node_rows`` [S + E]: those
      rows, ``node_weight`` [S + E] what each counts; ``back_rows`` and ``back_weight`` [S + E]: the
      same for gradients
    - ``node_graph`` [N]: number of each node's graph; ``graph_offsets`` [B + 1]: its first node
    - ``ends``: the narrower end of each type, and its number of slots
    """

    slot_node: Tensor
    slot_offsets: Tensor
    slot_others: Tensor
    mean_weight: Tensor
    spread_weight: Tensor
    node_offsets: Tensor
    node_rows: Tensor
    node_weight: Tensor
    back_rows: Tensor
    back_weight: Tensor
    node_graph: Tensor
    graph_offsets: Tensor
    ends: tuple[tuple[End, int], ...]

    @staticmethod
    def of(batch: Batch) -> "TypedGraph":
        """Read the graph from a batch that ``gnn.GraphSplit`` made; waits for no device."""
        tensors = [batch[name] for name in TypedGraph._fields if name != "ends"]
        return TypedGraph._make([*tensors, tuple(_ends(batch))])

    def merged(self) -> "TypedGraph":
        """Return the block-diagonal graph of the K in the first dimension of each tensor.

        ``ends`` stay those of one of them: rows are looked at model by model.
        """
        num_nodes, num_slots = self.node_graph.shape[1], self.slot_node.shape[1]
        num_graphs = self.graph_offsets.shape[1] - 1
        return TypedGraph(
            _renumbered(self.slot_node, num_nodes),
            _joined_offsets(self.slot_offsets, self.slot_others.shape[1]),
            _renumbered(self.slot_others, num_nodes),
            self.mean_weight.flatten(),
            self.spread_weight.flatten(),
            _joined_offsets(self.node_offsets, self.node_rows.shape[1]),
            _renumbered(self.node_rows, 2 * num_slots),
            self.node_weight.flatten(),
            _renumbered(self.back_rows, 2 * num_slots),
            self.back_weight.flatten(),
            _renumbered(self.node_graph, num_graphs),
            _joined_offsets(self.graph_offsets, num_nodes),
            self.ends,
        )


def size_key(end: End, edge_type: int) -> str:
    """Return the name, in a batch, of an empty tensor whose length is a type's number of slots.

    Shapes are known without asking the device, and stay in place when a batch is stacked.
    """
    return f"slots_at_{end}/{edge_type}"


def _ends(batch: Batch) -> Iterator[tuple[End, int]]:
    edge_type = 0
    while True:
        found = [end for end in get_args(End) if size_key(end, edge_type) in batch]
        if not found:
            return
        yield found[0], batch[size_key(found[0], edge_type)].shape[0]
        edge_type += 1


def _renumbered(numbers: Tensor, how_many: int) -> Tensor:
    """Number the things of K models [K, ...] on, ``how_many`` for each; return one row."""
    first = torch.arange(len(numbers), device=numbers.device, dtype=numbers.dtype) * how_many
    return (numbers + first[:, None]).flatten()


def _joined_offsets(offsets: Tensor, how_many: int) -> Tensor:
    """Return the offsets of K lists of ``how_many`` members as those of one, [K n + 1]."""
    end = offsets.new_full((1,), len(offsets) * how_many)
    return torch.cat([_renumbered(offsets[:, :-1], how_many), end])


def _sums(dense: Tensor, columns: Tensor, offsets: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return a sparse matrix, its rows by ``offsets``, times ``dense``; records no gradient.

    An embedding bag is the fastest deterministic kernel for it: on a CPU 25 times faster than
    selecting the rows and adding them up by index.
    """
    if weight is not None:
        weight = weight.to(dense.dtype)
    bags = torch.embedding_bag(
        dense.detach(), columns, offsets, False, 0, False, weight, include_last_offset=True
    )
    return bags[0]


def _stacked(value: Any, dim: Any, num_models: int) -> Any:
    """Return a tensor with the K models in its first dimension; anything else as it is."""
    if isinstance(value, TypedGraph):
        pairs = zip(value[:-1], dim[:-1], strict=True)
        tensors = [_stacked(tensor, one, num_models) for tensor, one in pairs]
        return TypedGraph._make([*tensors, value.ends])
    if not isinstance(value, Tensor):
        return value
    if dim is None:
        return value.expand(num_models, *value.shape)
    return value.movedim(dim, 0)


class _Messages(torch.autograd.Function):
    """Messages of each relation and, with ``root``, the transformed nodes themselves, [K N, D].

    ``x`` [K N, D], ``weight`` [K, 2 T, D, D], ``root`` [K, D, D]; the graph is the K graphs merged.
    ``means`` and ``heads``, [K S, D] both, are what the relations to and from the slots transform;
    they are returned because the gradient needs them.
    """

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, root: Tensor | None, graph: TypedGraph
    ) -> tuple[Tensor, Tensor, Tensor]:
        means = _sums(x, graph.slot_others, graph.slot_offsets, graph.mean_weight)
        heads = x.index_select(0, graph.slot_node)
        rows = _transformed(means, heads, weight, graph)
        messages = _sums(rows, graph.node_rows, graph.node_offsets, graph.node_weight)
        if root is not None:
            _by_model(messages, weight).baddbmm_(_by_model(x, weight), root)
        return messages, means, heads

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, weight, root, ctx.graph = inputs
        _, means, heads = output
        ctx.mark_non_differentiable(means, heads)
        ctx.save_for_backward(x, weight, root, means, heads)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        x, weight, root, means, heads = ctx.saved_tensors
        graph, gradient = ctx.graph, gradients[0].contiguous()
        of_means = gradient.index_select(0, graph.slot_node)
        of_heads = _sums(gradient, graph.slot_others, graph.slot_offsets, graph.spread_weight)
        weight_gradient = torch.empty_like(weight)
        pairs = ((means, of_means), (heads, of_heads))
        for relation, side, start, stop in _blocks(graph):
            row, row_gradient = (_by_model(one, weight)[:, start:stop] for one in pairs[side])
            torch.bmm(row.transpose(1, 2), row_gradient, out=weight_gradient[:, relation])
        rows = _transformed(of_means, of_heads, weight.transpose(2, 3), graph)
        x_gradient = _sums(rows, graph.back_rows, graph.node_offsets, graph.back_weight)
        if root is None:
            return x_gradient, weight_gradient, None, None
        by_model = _by_model(gradient, weight)
        _by_model(x_gradient, weight).baddbmm_(by_model, root.transpose(1, 2))
        root_gradient = _by_model(x, weight).transpose(1, 2) @ by_model
        return x_gradient, weight_gradient, root_gradient, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        x, weight, root, graph = (
            _stacked(value, dim, info.batch_size)
            for value, dim in zip(inputs, in_dims, strict=True)
        )
        if root is not None:
            root = root.flatten(0, 1)
        outputs = _messages(x.flatten(0, 1), weight.flatten(0, 1), root, graph.merged())
        return tuple(_by_model(one, x) for one in outputs), (0, 0, 0)


_messages = cast(
    Callable[[Tensor, Tensor, Tensor | None, TypedGraph], tuple[Tensor, Tensor, Tensor]],
    _Messages.apply,
)


def _by_model(flat: Tensor, models: Tensor) -> Tensor:
    """Return ``flat`` [K n, D] as [K, n, D], with the K of the first dimension of ``models``."""
    return flat.view(len(models), -1, flat.shape[-1])


def _blocks(graph: TypedGraph) -> Iterator[tuple[int, int, int, int]]:
    """Yield (relation, 0 if it leads to the slots else 1, first slot, end) for each relation."""
    num_types = len(graph.ends)
    start = 0
    for edge_type, (end, num_slots) in enumerate(graph.ends):
        forward, backward = edge_type, edge_type + num_types
        leading_to, leading_away = (forward, backward) if end == "target" else (backward, forward)
        yield leading_to, 0, start, start + num_slots
        yield leading_away, 1, start, start + num_slots
        start += num_slots


def _transformed(means: Tensor, heads: Tensor, weight: Tensor, graph: TypedGraph) -> Tensor:
    """Return each relation's rows times its matrix, [K 2 S, D]; written where they are read."""
    sides = (_by_model(means, weight), _by_model(heads, weight))
    num_models, num_slots, width = sides[0].shape
    rows = means.new_empty(num_models, 2, num_slots, width)
    for relation, side, start, stop in _blocks(graph):
        torch.bmm(sides[side][:, start:stop], weight[:, relation], out=rows[:, side, start:stop])
    return rows.view(-1, width)


class _OfItsGraph(torch.autograd.Function):
    """Give each node the row of its graph: [B, D] to [N, D]. Not for what needs a gradient."""

    @staticmethod
    def forward(rows: Tensor, node_graph: Tensor) -> Tensor:
        return rows.index_select(0, node_graph)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        rows, node_graph = (
            _stacked(value, dim, info.batch_size)
            for value, dim in zip(inputs, in_dims, strict=True)
        )
        numbers = _renumbered(node_graph, rows.shape[1])
        return _by_model(_of_its_graph(rows.flatten(0, 1), numbers), rows), 0


_of_its_graph = cast(Callable[[Tensor, Tensor], Tensor], _OfItsGraph.apply)


class _AttentionPool(torch.autograd.Function):
    """Sum of the ``value`` [N, D] of a graph's nodes, weighted by a softmax of their ``score``.

    One softmax per graph and feature. Returns [B, D], and what the gradient needs: the unnormalised
    weights [N, D] and their sums [B, D].
    """

    @staticmethod
    def forward(
        score: Tensor, value: Tensor, graph_offsets: Tensor, node_graph: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        of_score = node_graph.long()[:, None].expand_as(score)
        highest = score.new_zeros(graph_offsets.shape[0] - 1, score.shape[1])
        highest.scatter_reduce_(0, of_score, score.detach(), "amax", include_self=False)
        share = torch.sub(score, highest.index_select(0, node_graph)).exp_()
        nodes = torch.arange(len(node_graph), device=score.device, dtype=graph_offsets.dtype)
        # At least 1 where a graph has a node at all; one without nodes pools to zero.
        total = _sums(share, nodes, graph_offsets).clamp_min_(0.5)
        pooled = _sums(share * value, nodes, graph_offsets).div_(total)
        return pooled, share, total

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, value, _, node_graph = inputs
        pooled, share, total = output
        ctx.mark_non_differentiable(share, total)
        ctx.save_for_backward(value, node_graph, pooled, share, total)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        value, node_graph, pooled, share, total = ctx.saved_tensors
        of_value = (gradients[0] / total).index_select(0, node_graph).mul_(share)
        of_score = torch.sub(value, pooled.index_select(0, node_graph)).mul_(of_value)
        return of_score, of_value, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        score, value, graph_offsets, node_graph = (
            _stacked(one, dim, info.batch_size) for one, dim in zip(inputs, in_dims, strict=True)
        )
        outputs = _attention_pool(
            score.flatten(0, 1),
            value.flatten(0, 1),
            _joined_offsets(graph_offsets, score.shape[1]),
            _renumbered(node_graph, graph_offsets.shape[1] - 1),
        )
        return tuple(_by_model(one, score) for one in outputs), (0, 0, 0)


_attention_pool = cast(
    Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]], _AttentionPool.apply
)


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

    def forward(self, x: Tensor, graph: TypedGraph, root: Tensor | None = None) -> Tensor:
        """Return what reaches each node, shape [N, D]; plus ``x @ root``, if there is a root."""
        if root is None:
            x, weight = _in_one_type(x, self.weight)
        else:
            x, weight, root = _in_one_type(x, self.weight, root)
            root = root.unsqueeze(0)
        return _messages(x, weight.unsqueeze(0), root, graph)[0]


class GraphDropout(nn.Module):
    """Dropout of the same features in all nodes of a graph.

    Variational dropout (Gal and Ghahramani, 2016), with the graph in the place of the sequence. It
    needs B x D random numbers instead of N x D.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.dropout = SeededDropout(probability)

    def forward(self, x: Tensor, graph: TypedGraph, onto: Tensor | None = None) -> Tensor:
        """Return node states [N, D] with features dropped if training; plus ``onto``, if given."""
        if not self.dropout.is_active:
            return x if onto is None else onto + x
        mask = self.dropout.mask(x.new_empty(graph.graph_offsets.shape[0] - 1, x.shape[1]))
        of_nodes = _of_its_graph(mask, graph.node_graph)
        return x * of_nodes if onto is None else torch.addcmul(onto, x, of_nodes)


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
        reached = self.messages(self.norm(x), graph, self.root.weight.t())
        update = functional.relu_(reached.add_(self.root.bias))
        return cast(Tensor, self.dropout(update, graph, onto=x))


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
        return _gru_step(self.update, messages, x)


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
        return _attention_pool(score, value, graph.graph_offsets, graph.node_graph)[0]


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
        x = self.dropout(self.norm(x), graph)
        for layer in self.layers:
            x = layer(x, graph)
        return cast(Tensor, self.readout(self.readout_norm(x), graph))

    def classify(self, embedding: Tensor) -> Tensor:
        """Return one logit per graph, shape [B]."""
        logits: Tensor = self.head(embedding)
        return logits.squeeze(-1)
