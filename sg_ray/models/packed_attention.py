"""Attention over sequences that lie one behind the other, without padding between them.

Shape legend: T tokens of all sequences together, N sequences, H heads, K heads of keys and values
(H is a multiple), D width of a head, L tokens of the longest sequence.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, starmap
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
        pairs = tuple(_pairs(queries.offsets, keys.offsets))
        return cast(Tensor, _FlashCpu.apply(query, key, value, pairs, form))  # type: ignore[no-untyped-call]
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


class _Pair(NamedTuple):
    """The queries and the keys of one sequence."""

    queries: slice
    keys: slice


def _pairs(query_offsets: Tensor, key_offsets: Tensor) -> Iterator[_Pair]:
    slices = (starmap(slice, pairwise(each.tolist())) for each in (query_offsets, key_offsets))
    return starmap(_Pair, zip(*slices, strict=True))


class _FlashCpu(torch.autograd.Function):
    """The CPU's flash kernel on each sequence: as many calls as there are, of whatever lengths.

    Written as one function, since autograd would add up a gradient of all T tokens for each slice.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, pairs: tuple[_Pair, ...], form: Form
    ) -> Tensor:
        output = torch.empty_like(query)
        log_sums = []
        for pair in pairs:
            each, log_sum = _flash_cpu(
                _heads_first(query[pair.queries]),
                _heads_first(key[pair.keys]),
                _heads_first(value[pair.keys]),
                0.0,
                form.is_causal,
                scale=form.scale,
            )
            _heads_first(output[pair.queries]).copy_(each)
            log_sums.append(log_sum)
        ctx.save_for_backward(query, key, value, output, *log_sums)
        ctx.pairs, ctx.form = pairs, form
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, *log_sums = ctx.saved_tensors
        (gradient,) = gradients
        by_query, by_key, by_value = (torch.empty_like(tensor) for tensor in (query, key, value))
        for pair, log_sum in zip(ctx.pairs, log_sums, strict=True):
            each = _flash_cpu_backward(
                _heads_first(gradient[pair.queries]),
                _heads_first(query[pair.queries]),
                _heads_first(key[pair.keys]),
                _heads_first(value[pair.keys]),
                _heads_first(output[pair.queries]),
                log_sum,
                0.0,
                ctx.form.is_causal,
                scale=ctx.form.scale,
            )
            _heads_first(by_query[pair.queries]).copy_(each[0])
            _heads_first(by_key[pair.keys]).copy_(each[1])
            _heads_first(by_value[pair.keys]).copy_(each[2])
        return by_query, by_key, by_value, None, None


def _heads_first(tensor: Tensor) -> Tensor:
    """Return the view [1, H, T, D] of [T, H, D]."""
    return tensor.transpose(0, 1)[None]


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
