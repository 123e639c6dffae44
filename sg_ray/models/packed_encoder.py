"""Hugging Face encoders on packed sequences: one row of all tokens, no padding.

An encoder takes part if its attention goes through the library's attention interface, which hands
on where the sequences lie, and if it takes positions as an argument. Whether it then says the same
as on padded batches is tried out.

Shape legend: T tokens of all sequences together, N sequences, D hidden width.
"""

import inspect
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sg_ray.models.packed_attention import Form, Sequences, attend
from sg_ray.models.pretrained import first_position

ATTENTION = "sg_ray_packed"
"""The name under which the library knows packed attention."""

_BERT_LAYERS = frozenset(
    f"{name}Layer" for name in ("Bert", "Camembert", "Electra", "Ernie", "Roberta", "XLMRoberta")
)
"""Classes that are copies of one another."""

_UNKNOWN_FORMS = ("softcap", "s_aux", "position_bias", "cache")
"""What some encoders want of attention, and packed attention does not do."""

_NUM_TOKENS = (2, 9)
"""Of the short sequences that are tried beside a long one."""

_TOLERANCE = 1e-4
"""Of the largest hidden value: an encoder computes alike in both forms, in another order."""

_LOG = logging.getLogger(__name__)


def encode(encoder: Any, ids: Tensor, positions: Tensor, sequences: Sequences) -> Tensor:
    """Return the last hidden states of packed sequences, shape [T, D].

    ``ids`` and ``positions`` (from 0) have shape [T]; ``encoder`` went through ``use_packed``. If
    it reads first tokens only, there is one row for each sequence, [N, D].
    """
    encoded = encoder(
        input_ids=ids[None],
        position_ids=positions[None] + first_position(encoder),
        cu_seq_lens_q=sequences.offsets,
        cu_seq_lens_k=sequences.offsets,
        max_length_q=sequences.longest,
        max_length_k=sequences.longest,
    )
    hidden: Tensor = encoded.last_hidden_state
    return hidden[0]


def use_packed(encoder: Any) -> None:
    """Let ``encoder`` read packed sequences, and those alone, from now on."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, _attention)
    encoder.set_attn_implementation(ATTENTION)


def reads_packed(encoder: Any, ids: Sequence[int], longest: int) -> bool:
    """Return whether ``encoder`` says the same of packed sequences as of padded ones; say if not.

    Sequences of ``ids`` are tried, one of them as long as any may be. ``encoder`` is of no use
    afterwards: it may read packed sequences only.
    """
    try:
        reason = _why_not(encoder.eval(), ids, longest)
    except Exception as error:  # whatever an architecture of anybody's making leads the library to
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if reason is not None:
        _LOG.info("%s reads padded batches: %s", type(encoder).__name__, reason)
    return reason is None


@torch.inference_mode()
def _why_not(encoder: Any, ids: Sequence[int], longest: int) -> str | None:
    if "position_ids" not in inspect.signature(encoder.forward).parameters:
        return "it takes no positions"
    lengths = torch.tensor([longest, *(min(num, longest) for num in _NUM_TOKENS)])
    each = [torch.tensor([ids[at % len(ids)] for at in range(num)]) for num in lengths.tolist()]
    alone = [encoder(input_ids=sequence[None]).last_hidden_state[0] for sequence in each]
    use_packed(encoder)
    if encoder.config._attn_implementation != ATTENTION:
        return "its attention is of its own making"
    offsets = torch.cat([torch.zeros(1), lengths.cumsum(0)]).int()
    positions = torch.cat([torch.arange(num) for num in lengths.tolist()])
    together = encode(encoder, torch.cat(each), positions, Sequences(offsets, longest))
    expected = torch.cat(alone)
    difference = float((together - expected).abs().max() / expected.abs().max())
    if not difference <= _TOLERANCE:
        return f"packed, its hidden states differ by {difference:.1e} of the largest"
    return None


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - the library makes none for what it does not know
    *,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attend as the library's interface asks for: heads first, [1, H, T, D]; tokens first after.

    Raises NotImplementedError for a form of attention that is not known here.
    """
    unknown = [name for name in _UNKNOWN_FORMS if more.get(name) is not None]
    if unknown:
        raise NotImplementedError(f"its attention wants {', '.join(unknown)}")
    form = Form(
        scale=scaling,
        is_causal=bool(getattr(module, "is_causal", True) if is_causal is None else is_causal),
        # The library counts a token among those it sees.
        window=None if sliding_window is None else sliding_window - 1,
        dropout=dropout,
    )
    sequences = Sequences(cu_seq_lens_q, max_length_q)
    query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    attended = attend(query, key, value, sequences, sequences, form)
    return attended[None], None


class FirstTokenLayer(nn.Module):
    """BERT's last layer for its first tokens alone, where nobody reads what it says of others.

    Keys and values still come from all tokens; queries and all that follows are those of one token
    a sequence. Takes the place of ``layer``, with the names of its parts.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.attention = layer.attention
        self.intermediate = layer.intermediate
        self.output = layer.output

    @staticmethod
    def fits(encoder: Any) -> bool:
        """Return whether the last layer of ``encoder`` is built as BERT's."""
        layers = getattr(getattr(encoder, "encoder", None), "layer", None)
        return (
            isinstance(layers, nn.ModuleList)
            and len(layers) > 0
            and type(layers[-1]).__name__ in _BERT_LAYERS
            and not getattr(encoder.config, "is_decoder", False)
        )

    @classmethod
    def put_into(cls, encoder: Any) -> None:
        """Put it in the place of the last layer of ``encoder``."""
        layers = encoder.encoder.layer
        layers[-1] = cls(layers[-1])

    def forward(
        self, hidden_states: Tensor, *_: Any, cu_seq_lens_q: Tensor, max_length_q: int, **__: Any
    ) -> Tensor:
        """Map all hidden states, [1, T, D], to those of the first tokens, [1, N, D]."""
        attention = self.attention.self
        hidden = hidden_states[0]
        first_tokens = hidden.index_select(0, cu_seq_lens_q[:-1])
        heads = (-1, attention.num_attention_heads, attention.attention_head_size)
        attended = attend(
            attention.query(first_tokens).view(heads),
            attention.key(hidden).view(heads),
            attention.value(hidden).view(heads),
            Sequences(torch.ones_like(cu_seq_lens_q).cumsum(0, dtype=torch.int32) - 1, 1),
            Sequences(cu_seq_lens_q, max_length_q),
            Form(dropout=attention.dropout.p if self.training else 0.0),
        )
        attended = self.attention.output(attended.flatten(1), first_tokens)
        output: Tensor = self.output(self.intermediate(attended), attended)
        return output[None]
