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

import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sg_ray.models.family import Batch, Classifier
from sg_ray.models.seeded_dropout import SeededDropout, masks

LayerKind = Literal["gated", "relational"]

_ONE_MODEL = 3
"""Dimensions of the matrices of all relations, if they are not those of several models."""


class TypedGraph(NamedTuple):
    """The edges of a batch, in the orders that messages and their gradients need.

    Slots are ordered by edge type. There are ``2 S`` rows by relation, in each of them by slot:
    first those of the relations along the edges, then of those against them. What a relation that
    leads to slots transforms is the mean of the nodes around each; one that leads away, the slot's
    own node.

    - ``row_nodes`` [S + E]: the nodes of which each row is a sum, ``row_weight`` [S + E] what each
      counts, ``row_offsets`` [2 S + 1] where each row's begin
    - ``node_offsets`` [N + 1]: where the rows begin that reach a node; ``node_rows`` [S + E]: those
      rows, ``node_weight`` [S + E] what each counts
    - ``back_...``: the same for gradients, with ``node_offsets`` in common
    - ``node_graph`` [N]: number of each node's graph; ``graph_offsets`` [B + 1]: its first node
    - ``num_slots``: those of each type
    """

    row_nodes: Tensor
    row_offsets: Tensor
    row_weight: Tensor
    back_nodes: Tensor
    back_offsets: Tensor
    back_node_weight: Tensor
    node_offsets: Tensor
    node_rows: Tensor
    node_weight: Tensor
    back_rows: Tensor
    back_row_weight: Tensor
    node_graph: Tensor
    graph_offsets: Tensor
    num_slots: tuple[int, ...]

    @staticmethod
    def of(batch: Batch) -> "TypedGraph":
        """Read the graph from a batch that ``gnn.GraphSplit`` made; waits for no device."""
        tensors = [batch[name] for name in TypedGraph._fields if name != "num_slots"]
        return TypedGraph._make([*tensors, tuple(_num_slots(batch))])

    def merged(self) -> "TypedGraph":
        """Return the block-diagonal graph of the K in the first dimension of each tensor.

        ``num_slots`` stay those of one of them: rows are looked at model by model.
        """
        num_nodes, num_graphs = self.node_graph.shape[1], self.graph_offsets.shape[1] - 1
        num_rows, num_entries = self.row_offsets.shape[1] - 1, self.row_nodes.shape[1]
        return TypedGraph(
            _renumbered(self.row_nodes, num_nodes),
            _joined_offsets(self.row_offsets, num_entries),
            self.row_weight.flatten(),
            _renumbered(self.back_nodes, num_nodes),
            _joined_offsets(self.back_offsets, num_entries),
            self.back_node_weight.flatten(),
            _joined_offsets(self.node_offsets, num_entries),
            _renumbered(self.node_rows, num_rows),
            self.node_weight.flatten(),
            _renumbered(self.back_rows, num_rows),
            self.back_row_weight.flatten(),
            _renumbered(self.node_graph, num_graphs),
            _joined_offsets(self.graph_offsets, num_nodes),
            self.num_slots,
        )


def size_key(edge_type: int) -> str:
    """Return the name, in a batch, of an empty tensor whose length is a type's number of slots.

    Shapes are known without asking the device, and stay in place when a batch is stacked.
    """
    return f"slots/{edge_type}"


def _num_slots(batch: Batch) -> Iterator[int]:
    for edge_type in itertools.count():
        if (name := size_key(edge_type)) not in batch:
            return
        yield batch[name].shape[0]


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
        return TypedGraph._make([*tensors, value.num_slots])
    if not isinstance(value, Tensor):
        return value
    if dim is None:
        return value.expand(num_models, *value.shape)
    return value.movedim(dim, 0)


def _all_stacked(info: Any, in_dims: Any, inputs: Any) -> list[Any]:
    """Return the inputs of a ``vmap`` rule, each ``_stacked``."""
    pairs = zip(inputs, in_dims, strict=True)
    return [_stacked(value, dim, info.batch_size) for value, dim in pairs]


def _signed(forward: Any) -> Any:
    """Have a function know its signature: ``apply`` asks each time, and finding it is slow."""
    forward.__signature__ = inspect.signature(forward)
    return forward


def _keep(ctx: Any, output: Any, *inputs: Tensor | None) -> None:
    """Save these inputs and all outputs but the first, which alone has a gradient."""
    _, *needed = output
    ctx.mark_non_differentiable(*needed)
    ctx.set_materialize_grads(False)  # else each call fills zeros in the shape of every output
    ctx.save_for_backward(*inputs, *needed)


def _reach(x: Tensor, weight: Tensor, graph: TypedGraph) -> tuple[Tensor, Tensor]:
    """Return the messages that reach each node, summed, [K N, D], and the rows before their matrix.

    ``x`` [K N, D]; ``weight`` [2 T, D, D], or [K, 2 T, D, D] if the graph is that of K models. The
    rows, [K 2 S, D], are what the gradient needs. Records no gradient itself.
    """
    rows = _sums(x, graph.row_nodes, graph.row_offsets, graph.row_weight)
    transformed = _transformed(rows, weight, graph)
    return _sums(transformed, graph.node_rows, graph.node_offsets, graph.node_weight), rows


def _reach_backward(
    gradient: Tensor, rows: Tensor, weight: Tensor, graph: TypedGraph
) -> tuple[Tensor, Tensor]:
    """Return the gradients of ``_reach`` by x and weight from that by its messages."""
    row_gradient = _sums(gradient, graph.back_nodes, graph.back_offsets, graph.back_node_weight)
    weight_gradient = torch.empty_like(weight)
    blocks = (
        (block.transpose(-1, -2) for block in _by_relation(rows, weight, graph)),
        _by_relation(row_gradient, weight, graph),
        weight_gradient.unbind(-3),
    )
    multiply = _product(weight)
    for row, of_row, of_matrix in zip(*blocks, strict=True):
        multiply(row, of_row, out=of_matrix)
    transformed = _transformed(row_gradient, weight.transpose(-1, -2), graph)
    x_gradient = _sums(transformed, graph.back_rows, graph.node_offsets, graph.back_row_weight)
    return x_gradient, weight_gradient


def _product(weight: Tensor) -> Callable[..., Tensor]:
    """Return the product for matrices of one model or of several.

    Of small matrices a plain product takes half the time of a batch of one.
    """
    return torch.mm if weight.dim() == _ONE_MODEL else torch.bmm


def _by_model(flat: Tensor, weight: Tensor) -> Tensor:
    """Return ``flat`` [K n, D] as [K, n, D] if ``weight`` is that of K models, else as it is."""
    return flat if weight.dim() == _ONE_MODEL else _apart(flat, weight.shape[0])


def _apart(flat: Tensor, num_models: int) -> Tensor:
    return flat.view(num_models, -1, flat.shape[-1])


def _by_relation(rows: Tensor, weight: Tensor, graph: TypedGraph) -> Sequence[Tensor]:
    """Return the rows of each relation: [its slots, D], or [K, its slots, D] of K models."""
    return _by_model(rows, weight).split_with_sizes([*graph.num_slots, *graph.num_slots], -2)


def _transformed(rows: Tensor, weight: Tensor, graph: TypedGraph) -> Tensor:
    """Return each relation's rows times its matrix, [K 2 S, D]."""
    products = torch.empty_like(rows)
    blocks = (
        _by_relation(rows, weight, graph),
        weight.unbind(-3),
        _by_relation(products, weight, graph),
    )
    multiply = _product(weight)
    for block, matrix, product in zip(*blocks, strict=True):
        multiply(block, matrix, out=product)
    return products


class _Messages(torch.autograd.Function):
    """``_reach`` with its gradient."""

    @staticmethod
    @_signed
    def forward(x: Tensor, weight: Tensor, graph: TypedGraph) -> tuple[Tensor, Tensor]:
        return _reach(x, weight, graph)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, weight, ctx.graph = inputs
        _keep(ctx, output, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, rows = ctx.saved_tensors
        return *_reach_backward(gradients[0].contiguous(), rows, weight, ctx.graph), None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        x, weight, graph = _all_stacked(info, in_dims, inputs)
        outputs = _messages(x.flatten(0, 1), weight, graph.merged())
        return tuple(_apart(one, info.batch_size) for one in outputs), (0, 0)


_messages = cast(Callable[[Tensor, Tensor, TypedGraph], tuple[Tensor, Tensor]], _Messages.apply)


class _Relational(torch.autograd.Function):
    """``x + mask * relu(messages of h + root h + bias)``, [K N, D], in one step.

    ``x`` and ``h`` [K N, D]; ``weight`` as in ``_reach``; ``root`` [D, D], ``bias`` [D], those of K
    models with a first dimension K; ``mask`` [K B, D] is what the graph's nodes are multiplied by,
    None for ones. Also returns what the gradient needs.
    """

    @staticmethod
    @_signed
    def forward(
        x: Tensor,
        h: Tensor,
        weight: Tensor,
        root: Tensor,
        bias: Tensor,
        mask: Tensor | None,
        graph: TypedGraph,
    ) -> tuple[Tensor, Tensor, Tensor]:
        update, rows = _reach(h, weight, graph)
        by_model = _by_model(update, weight)
        multiply_onto = by_model.addmm_ if weight.dim() == _ONE_MODEL else by_model.baddbmm_
        multiply_onto(_by_model(h, weight), root.transpose(-1, -2))
        torch.relu_(by_model.add_(bias.unsqueeze(-2)))
        if mask is None:
            return x + update, update, rows
        of_nodes = mask.index_select(0, graph.node_graph)
        return torch.addcmul(x, update, of_nodes), update, rows

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, h, weight, root, _, mask, ctx.graph = inputs
        _keep(ctx, output, h, weight, root, mask)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        h, weight, root, mask, update, rows = ctx.saved_tensors
        graph, gradient = ctx.graph, gradients[0].contiguous()
        of_update = gradient.to(update.dtype)
        if mask is not None:
            of_update = mask.index_select(0, graph.node_graph).mul_(of_update)
        of_update = torch.ops.aten.threshold_backward(of_update, update, 0)
        h_gradient, weight_gradient = _reach_backward(of_update, rows, weight, graph)
        by_model, h_by_model = _by_model(of_update, weight), _by_model(h_gradient, weight)
        if weight.dim() == _ONE_MODEL:
            h_by_model.addmm_(by_model, root)
        else:
            h_by_model.baddbmm_(by_model, root)
        root_gradient = by_model.transpose(-1, -2) @ _by_model(h, weight)
        bias_gradient = by_model.sum(-2)
        return gradient, h_gradient, weight_gradient, root_gradient, bias_gradient, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        x, h, weight, root, bias, mask, graph = _all_stacked(info, in_dims, inputs)
        x, h = x.flatten(0, 1), h.flatten(0, 1)
        mask = None if mask is None else mask.flatten(0, 1)
        outputs = _relational(x, h, weight, root, bias, mask, graph.merged())
        return tuple(_apart(one, info.batch_size) for one in outputs), (0, 0, 0)


_relational = cast(
    Callable[
        [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, TypedGraph],
        tuple[Tensor, Tensor, Tensor],
    ],
    _Relational.apply,
)


class _OfItsGraph(torch.autograd.Function):
    """Give each node the row of its graph: [B, D] to [N, D]. Not for what needs a gradient."""

    @staticmethod
    @_signed
    def forward(rows: Tensor, node_graph: Tensor) -> Tensor:
        return rows.index_select(0, node_graph)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        rows, node_graph = _all_stacked(info, in_dims, inputs)
        numbers = _renumbered(node_graph, rows.shape[1])
        return _apart(_of_its_graph(rows.flatten(0, 1), numbers), info.batch_size), 0


_of_its_graph = cast(Callable[[Tensor, Tensor], Tensor], _OfItsGraph.apply)


class _AttentionPool(torch.autograd.Function):
    """Sum of the ``value`` [N, D] of a graph's nodes, weighted by a softmax of their ``score``.

    One softmax per graph and feature. Returns [B, D], and what the gradient needs: the unnormalised
    weights [N, D] and their sums [B, D].
    """

    @staticmethod
    @_signed
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
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(value, node_graph, pooled, share, total)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradients[0] is None:
            return None, None, None, None
        value, node_graph, pooled, share, total = ctx.saved_tensors
        of_value = (gradients[0] / total).index_select(0, node_graph).mul_(share)
        of_score = torch.sub(value, pooled.index_select(0, node_graph)).mul_(of_value)
        return of_score, of_value, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        score, value, graph_offsets, node_graph = _all_stacked(info, in_dims, inputs)
        outputs = _attention_pool(
            score.flatten(0, 1),
            value.flatten(0, 1),
            _joined_offsets(graph_offsets, score.shape[1]),
            _renumbered(node_graph, graph_offsets.shape[1] - 1),
        )
        return tuple(_apart(one, info.batch_size) for one in outputs), (0, 0, 0)


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

    def forward(self, x: Tensor, graph: TypedGraph) -> Tensor:
        """Return what reaches each node, shape [N, D]."""
        x, weight = _in_one_type(x, self.weight)
        return _messages(x, weight, graph)[0]


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
    return x if mask is None else x * _of_its_graph(mask.to(x.dtype), graph.node_graph)


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
        return _relational(x, h, weight, root, self.root.bias, mask, graph)[0]


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
        messages = _masked(self.messages(self.norm(x), graph), mask, graph)
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
