"""Attention over sequences that lie one behind the other, without padding between them.

Shape legend: T tokens of all sequences together, N sequences, H heads, K heads of keys and values
(H is a multiple), D width of a head, L tokens of the longest sequence.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

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
        lengths = queries.offsets.diff().tolist(), keys.offsets.diff().tolist()
        return cast(Tensor, _FlashCpu.apply(query, key, value, *lengths, form))  # type: ignore[no-untyped-call]
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


class _FlashCpu(torch.autograd.Function):
    """The CPU's flash kernel on each sequence: as many calls as there are, of whatever lengths.

    Written as one function, since autograd would add up a gradient of all T tokens for each slice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        num_queries: list[int],
        num_keys: list[int],
        form: Form,
    ) -> Tensor:
        parts = _parts((query, num_queries), (key, num_keys), (value, num_keys))
        done = [_flash_cpu(*each, 0.0, form.is_causal, scale=form.scale) for each in parts]
        output = _joined([attended for attended, _ in done])
        ctx.save_for_backward(query, key, value, output, *(log_sum for _, log_sum in done))
        ctx.num_queries, ctx.num_keys, ctx.form = num_queries, num_keys, form
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, *log_sums = ctx.saved_tensors
        num_queries, num_keys, form = ctx.num_queries, ctx.num_keys, ctx.form
        parts = _parts(
            (gradients[0], num_queries),
            (query, num_queries),
            (key, num_keys),
            (value, num_keys),
            (output, num_queries),
        )
        done = [
            _flash_cpu_backward(*each, log_sum, 0.0, form.is_causal, scale=form.scale)
            for each, log_sum in zip(parts, log_sums, strict=True)
        ]
        return (*(_joined(each) for each in zip(*done, strict=True)), None, None, None)


def _parts(*tensors: tuple[Tensor, list[int]]) -> Iterator[tuple[Tensor, ...]]:
    """Give the views [1, H, length, D] of each sequence in tensors [T, H, D]."""
    views = (
        torch.split(tensor.transpose(0, 1)[None], lengths, dim=2) for tensor, lengths in tensors
    )
    return zip(*views, strict=True)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Return [T, H, D] of parts [1, H, length, D], which lie in memory as they are joined."""
    return torch.cat([part[0].transpose(0, 1) for part in parts])


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
