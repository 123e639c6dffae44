"""What graph layers compute, with its gradient and its form for K models stacked under ``vmap``.

Shape legend: B graphs with N nodes and E edges in a batch, T edge types, S slots, D hidden width,
K models.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from sg_ray.models.typed_graph import TypedGraph, joined_offsets, renumbered

_ONE_MODEL = 3
"""Dimensions of the matrices of all relations, if they are not those of several models."""


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
        outputs = messages(x.flatten(0, 1), weight, graph.merged())
        return tuple(_apart(one, info.batch_size) for one in outputs), (0, 0)


messages = cast(Callable[[Tensor, Tensor, TypedGraph], tuple[Tensor, Tensor]], _Messages.apply)


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
        outputs = relational(x, h, weight, root, bias, mask, graph.merged())
        return tuple(_apart(one, info.batch_size) for one in outputs), (0, 0, 0)


relational = cast(
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
        numbers = renumbered(node_graph, rows.shape[1])
        return _apart(of_its_graph(rows.flatten(0, 1), numbers), info.batch_size), 0


of_its_graph = cast(Callable[[Tensor, Tensor], Tensor], _OfItsGraph.apply)


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
        outputs = attention_pool(
            score.flatten(0, 1),
            value.flatten(0, 1),
            joined_offsets(graph_offsets, score.shape[1]),
            renumbered(node_graph, graph_offsets.shape[1] - 1),
        )
        return tuple(_apart(one, info.batch_size) for one in outputs), (0, 0, 0)


attention_pool = cast(
    Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]], _AttentionPool.apply
)
