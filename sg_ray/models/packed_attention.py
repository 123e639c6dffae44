"""Attention over sequences that lie one behind the other, without padding between them.

Shape legend: T tokens of all sequences together, N sequences, H heads, K heads of keys and values
(H is a multiple), D width of a head, L tokens of the longest sequence.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

MAX_FLASH_WIDTH = 256
"""Of a head, in the kernel for CUDA, which wants a multiple of 8 as well."""

_flash_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_cpu_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True)
class Sequences:
    """Where sequences lie: ``offsets`` int32 [N + 1] of their first tokens, and the end.

    ``longest`` is how many tokens a sequence has at most, which a device need not be asked for.
    """

    offsets: Tensor
    longest: int


@dataclass(frozen=True)
class Form:
    """How tokens attend: the scores' factor, and which tokens of their sequence they see.

    ``window``: those at most so many places away. ``dropout`` is of the attention weights.
    """

    scale: float | None = None
    is_causal: bool = False
    window: int | None = None
    dropout: float = 0.0


def attend(
    query: Tensor, key: Tensor, value: Tensor, queries: Sequences, keys: Sequences, form: Form
) -> Tensor:
    """Return softmax(scale x query key^T) value within each sequence, shape [T, H, D].

    ``query`` is [T, H, D]; ``key`` and ``value`` [T', K, D] may have other lengths of sequences,
    unless a token sees only some of the others.

    On CUDA in half precision it is FlashAttention-2 (Dao 2023, arXiv 2307.08691), with the
    deterministic backward pass where torch is asked to be deterministic; on a CPU torch's own
    flash kernel, sequence by sequence; for all else the sequences are padded here.
    """
    query, key, value = _as_autocast(query, key, value)
    if query.device.type == "cuda" and _suits_flash(query):
        return _flash_cuda(query, key, value, queries, keys, form)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    if query.device.type == "cpu" and form.dropout == 0 and form.window is None:
        runs = tuple(_runs(queries.offsets, keys.offsets))
        return cast(Tensor, _FlashCpu.apply(query, key, value, runs, form))  # type: ignore[no-untyped-call]
    return _padded(query, key, value, queries, keys, form)


def _as_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors as autocast would have them: rotated queries and keys may be float32."""
    device_type = tensors[0].device.type
    if not torch.is_autocast_enabled(device_type):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device_type)) for tensor in tensors)


def _suits_flash(query: Tensor) -> bool:
    width = query.shape[-1]
    is_half = query.dtype in (torch.float16, torch.bfloat16)
    return is_half and width % 8 == 0 and width <= MAX_FLASH_WIDTH


def _flash_cuda(
    query: Tensor, key: Tensor, value: Tensor, queries: Sequences, keys: Sequences, form: Form
) -> Tensor:
    """Call the kernel of ``torch.nn.attention.varlen``, which itself offers no dropout."""
    output: Tensor = torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        queries.offsets,
        keys.offsets,
        queries.longest,
        keys.longest,
        form.dropout,
        form.is_causal,
        False,
        scale=form.scale,
        window_size_left=form.window,
        window_size_right=0 if form.window and form.is_causal else form.window,
    )[0]
    return output


class _Run(NamedTuple):
    """Sequences of equal length that lie side by side: one batch for a kernel."""

    num: int
    query_start: int
    query_length: int
    key_start: int
    key_length: int


def _runs(query_offsets: Tensor, key_offsets: Tensor) -> Iterator[_Run]:
    places = list(zip(query_offsets.tolist(), key_offsets.tolist(), strict=True))
    first = 0
    lengths = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(places)]
    for at in range(1, len(lengths) + 1):
        if at == len(lengths) or lengths[at] != lengths[first]:
            (query_start, key_start), (num_queries, num_keys) = places[first], lengths[first]
            yield _Run(at - first, query_start, num_queries, key_start, num_keys)
            first = at


class _FlashCpu(torch.autograd.Function):
    """The CPU's flash kernel on each run of sequences.

    Written as one function, since autograd would add up a gradient of all T tokens for each slice.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, runs: tuple[_Run, ...], form: Form
    ) -> Tensor:
        output = torch.empty_like(query)
        log_sums = []
        for run in runs:
            each, log_sum = _flash_cpu(
                _queries_of(query, run),
                _keys_of(key, run),
                _keys_of(value, run),
                0.0,
                form.is_causal,
                scale=form.scale,
            )
            _queries_of(output, run).copy_(each)
            log_sums.append(log_sum)
        ctx.save_for_backward(query, key, value, output, *log_sums)
        ctx.runs, ctx.form = runs, form
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, *log_sums = ctx.saved_tensors
        (gradient,) = gradients
        by_query, by_key, by_value = (torch.empty_like(tensor) for tensor in (query, key, value))
        for run, log_sum in zip(ctx.runs, log_sums, strict=True):
            each = _flash_cpu_backward(
                _queries_of(gradient, run),
                _queries_of(query, run),
                _keys_of(key, run),
                _keys_of(value, run),
                _queries_of(output, run),
                log_sum,
                0.0,
                ctx.form.is_causal,
                scale=ctx.form.scale,
            )
            _queries_of(by_query, run).copy_(each[0])
            _keys_of(by_key, run).copy_(each[1])
            _keys_of(by_value, run).copy_(each[2])
        return by_query, by_key, by_value, None, None


def _queries_of(tensor: Tensor, run: _Run) -> Tensor:
    """Return the view [num, H, length, D] of [T, H, D]."""
    return _part(tensor, run.num, run.query_start, run.query_length)


def _keys_of(tensor: Tensor, run: _Run) -> Tensor:
    return _part(tensor, run.num, run.key_start, run.key_length)


def _part(tensor: Tensor, num: int, start: int, length: int) -> Tensor:
    part = tensor[start : start + num * length]
    return part.view(num, length, *part.shape[1:]).transpose(1, 2)


def _padded(
    query: Tensor, key: Tensor, value: Tensor, queries: Sequences, keys: Sequences, form: Form
) -> Tensor:
    """Attend in a rectangle of N x L, where no kernel reads packed sequences."""
    query_slots, key_slots = _slots(queries, len(query)), _slots(keys, len(key))
    output = scaled_dot_product_attention(
        _spread(query, query_slots, queries),
        _spread(key, key_slots, keys),
        _spread(value, key_slots, keys),
        attn_mask=_mask(queries, keys, form),
        dropout_p=form.dropout,
        scale=form.scale,
    )
    return output.transpose(1, 2).flatten(0, 1).index_select(0, query_slots)


def _slots(sequences: Sequences, num_tokens: int) -> Tensor:
    """Return each token's place in the rectangle, row by row, shape [T]."""
    offsets = sequences.offsets.long()
    tokens = torch.arange(num_tokens, device=offsets.device)
    row = torch.bucketize(tokens, offsets[1:], right=True)
    return row * sequences.longest + tokens - offsets[row]


def _spread(tensor: Tensor, slots: Tensor, sequences: Sequences) -> Tensor:
    """Return [T, H, D] as [N, H, L, D], with zeros for padding."""
    num, width = len(sequences.offsets) - 1, tensor.shape[1:]
    spread = tensor.new_zeros(num * sequences.longest, *width).index_copy(0, slots, tensor)
    return spread.view(num, sequences.longest, *width).transpose(1, 2)


def _mask(queries: Sequences, keys: Sequences, form: Form) -> Tensor:
    """Return which keys a query sees, bool [N, 1, L, L']; padding sees the first key."""
    device = queries.offsets.device
    rows = torch.arange(queries.longest, device=device)[:, None]
    columns = torch.arange(keys.longest, device=device)
    lengths = keys.offsets.diff()
    mask = columns < lengths[:, None, None, None]
    if form.is_causal:
        mask = mask & (columns <= rows)
    if form.window is not None:
        mask = mask & ((rows - columns).abs() <= form.window)
    is_padding = rows >= queries.offsets.diff()[:, None, None, None]
    return mask | (is_padding & (columns == 0))
