"""Transformer encoders over code tokens: a small RoBERTa from scratch, or a pretrained encoder.

RoBERTa: Liu et al. 2019, https://arxiv.org/abs/1907.11692. The readout is its classification head
(dropout, dense, tanh, dropout, projection), as in CodeXGLUE's defect detection.

Shape legend: B samples, T tokens with padding, D hidden width.
"""

import inspect
from collections.abc import Sequence
from functools import cache, partial
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from sg_ray.errors import InputError
from sg_ray.features.packed import FeatureKind, Features, Ragged
from sg_ray.features.pretrained_files import (
    check_content,
    encoder_content,
    quiet_hugging_face,
    tokenizer_content,
)
from sg_ray.features.spec import FeatureSpec, TokenSpec
from sg_ray.models.encoder_check import check_encoder, probes
from sg_ray.models.family import (
    Batch,
    Classifier,
    Inputs,
    NeuralConfig,
    NeuralFamily,
    SplitData,
)
from sg_ray.models.packed_attention import Sequences
from sg_ray.models.packed_encoder import FirstTokenLayer, encode, reads_packed, use_packed
from sg_ray.models.pretrained import (
    encoder_without_weights,
    is_causal,
    load_encoder,
    max_positions,
    num_embeddings,
)
from sg_ray.models.quick_dropout import quicken_dropout
from sg_ray.models.token_split import TokenSplit
from sg_ray.setting_types import HubNameOrFolder

_NUM_PROBE_IDS = 50
"""Different tokens with which an encoder is asked whether it reads packed sequences."""

Pooling = Literal["cls", "mean", "max"]
"""cls: the token that stands for the whole, the first one, or the last one of a causal decoder."""


class TransformerConfig(NeuralConfig):
    """Architecture and features. ``pretrained`` brings its own architecture and tokenizer."""

    learning_rate: float = Field(default=2e-5, gt=0, le=10)
    """As of every neural family. 2e-5 suits pretrained encoders; one from scratch wants more."""
    tokens: TokenSpec = TokenSpec()
    """How source becomes tokens."""
    pretrained: HubNameOrFolder | None = None
    """Hub name or folder of a Hugging Face encoder; None trains a small RoBERTa from scratch.

    Of an encoder-decoder the encoder; a causal decoder serves as one too."""
    pretrained_content: str | None = None
    """Hash of its config.json and weights. None: whatever is there; a sweep fills it in."""
    num_layers: int = Field(default=2, ge=1, le=48)
    """Layers of an encoder from scratch; a pretrained one brings its own."""
    hidden_dim: int = Field(default=128, ge=8, le=4096)
    """Width of a token's vector in an encoder from scratch; a multiple of ``num_heads``."""
    num_heads: int = Field(default=4, ge=1, le=64)
    """Attention heads of an encoder from scratch."""
    feed_forward_dim: int | None = Field(default=None, ge=8, le=16_384)
    """Width inside the feed-forward layers of an encoder from scratch. None means 4 x
    hidden_dim."""
    max_tokens: int = Field(default=400, ge=8, le=16_384)
    """Longer functions are cut at the end; counts the two special tokens. More costs time and
    memory."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Of the readout, and of the hidden layers of an encoder from scratch."""
    pooling: Pooling = "cls"
    """What stands for the whole function. ``cls``: the token made for it (the last one of a
    causal decoder); ``mean`` and ``max`` are over all tokens."""

    FIXED: ClassVar[frozenset[str]] = frozenset({"pretrained", "pretrained_content"})
    ARCHITECTURE: ClassVar[tuple[str, ...]] = (
        "num_layers",
        "hidden_dim",
        "num_heads",
        "feed_forward_dim",
    )

    @model_validator(mode="before")
    @classmethod
    def _tokenizer_of_pretrained(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("pretrained"), str):
            return values
        tokens = values.get("tokens", {})
        if isinstance(tokens, TokenSpec):
            tokens = tokens.model_dump(exclude_unset=True)
        if not isinstance(tokens, dict):
            return values
        return {**values, "tokens": {"tokenizer": values["pretrained"], **tokens}}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.pretrained is None:
            if self.hidden_dim % self.num_heads:
                raise ValueError(
                    f"hidden_dim {self.hidden_dim} must be a multiple of num_heads {self.num_heads}"
                )
            return self
        if self.tokens.tokenizer == "train":
            raise ValueError(
                f"pretrained {self.pretrained!r} needs its own tokenizer: leave tokens.tokenizer "
                "out, or set it to the encoder's tokenizer"
            )
        defaults = type(self).model_fields
        changed = [n for n in self.ARCHITECTURE if getattr(self, n) != defaults[n].default]
        if changed:
            raise ValueError(
                f"pretrained {self.pretrained!r} fixes {', '.join(changed)}: leave them out"
            )
        return self


class TransformerClassifier(Classifier):
    """A Hugging Face encoder, pooled to one vector, with RoBERTa's classification head.

    ``pools_last``: the token that stands for the whole is the last one. ``widens_attention``: where
    tokens attend to a window only, the token that stands for the whole attends to all. ``packs``:
    batches are packed, with sequences of so many tokens at most.
    """

    def __init__(
        self,
        encoder: nn.Module,
        hidden_dim: int,
        dropout: float,
        pooling: Pooling,
        *,
        pools_last: bool = False,
        widens_attention: bool = False,
        packs: int | None = None,
    ):
        super().__init__()
        self.encoder = encoder
        self.embedding_dim = hidden_dim
        self.pooling = pooling
        self.pools_last = pools_last
        self.widens_attention = widens_attention and pooling == "cls"
        # Others may have parts for tasks that are not this one.
        self.reaches_every_parameter = getattr(encoder.config, "model_type", None) == "roberta"
        self.longest = packs
        self.reads_first_tokens = packs is not None and pooling == "cls" and not pools_last
        self.reads_first_tokens &= FirstTokenLayer.fits(encoder)
        if packs is not None:
            use_packed(encoder)
        if self.reads_first_tokens:
            FirstTokenLayer.put_into(encoder)
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, 1),
        )
        quicken_dropout(self)

    def embed(self, batch: Batch) -> Tensor:
        """Return the pooled last hidden states, shape [B, D]."""
        if self.longest is not None:
            sequences = Sequences(batch["offsets"], self.longest)
            hidden = encode(self.encoder, batch["ids"], batch["positions"], sequences)
            if self.reads_first_tokens:
                return hidden
            return _pool_packed(hidden, sequences.offsets, self.pooling, last=self.pools_last)
        ids, mask = batch["ids"], batch.get("mask")
        more = {"global_attention_mask": _first_token(ids)} if self.widens_attention else {}
        attention = None if mask is None else mask.to(ids.dtype)
        encoded = self.encoder(input_ids=ids, attention_mask=attention, **more)
        return _pool(encoded.last_hidden_state, mask, self.pooling, last=self.pools_last)

    def classify(self, embedding: Tensor) -> Tensor:
        """Return one logit per sample, shape [B]."""
        return cast(Tensor, self.head(embedding)).squeeze(-1)


class Transformer(NeuralFamily[TransformerConfig]):
    """The transformer family."""

    name = "transformer"
    Config = TransformerConfig
    lr_range = (1e-6, 1e-2)

    def feature_specs(self, config: TransformerConfig) -> Sequence[FeatureSpec]:
        """Return the tokens this configuration reads."""
        return (config.tokens,)

    def split_data(self, config: TransformerConfig, inputs: Inputs, split: str) -> SplitData:
        """Return a split's sequences, cut to ``max_tokens``."""
        kind = inputs.features.kinds[config.tokens.key]
        labels, ids = inputs.features.labels[split], kind.splits[split]["ids"]
        padded = not _packs(config, kind)
        return TokenSplit.of(kind, labels, ids, config.max_tokens, padded=padded)

    def build(self, config: TransformerConfig, inputs: Inputs) -> Classifier:
        """Return a new model. Raises InputError if ``pretrained`` cannot be used."""
        kind = inputs.features.kinds[config.tokens.key]
        if config.pretrained is None:
            hidden_dim, roberta = config.hidden_dim, _small_roberta(config, kind)
            return TransformerClassifier(
                roberta, hidden_dim, config.dropout, config.pooling, packs=config.max_tokens
            )
        encoder = _pretrained(config.pretrained, config, is_restoring=inputs.is_restoring)
        hidden_dim = _width(config.pretrained, encoder)
        _check_pretrained(encoder, config, kind)
        return TransformerClassifier(
            encoder,
            hidden_dim,
            config.dropout,
            config.pooling,
            pools_last=is_causal(encoder),
            widens_attention="global_attention_mask"
            in inspect.signature(encoder.forward).parameters,
            packs=config.max_tokens if _packs(config, kind) else None,
        )

    def pinned(self, config: TransformerConfig) -> TransformerConfig:
        """Return ``config`` with the content of its encoder and tokenizer.

        Raises InputError if one is not there, or is not the one that ``config`` already means.
        """
        tokens, name = config.tokens, config.pretrained
        changes: dict[str, Any] = {}
        if tokens.tokenizer != "train":
            content = tokenizer_content(tokens.tokenizer)
            check_content("tokenizer", tokens.tokenizer, content, tokens.tokenizer_content)
            changes["tokens"] = tokens.model_copy(update={"tokenizer_content": content})
        if name is not None:
            changes["pretrained_content"] = _content_meant(name, config)
        return config.model_copy(update=changes)

    def check(self, config: TransformerConfig) -> None:
        """Raise InputError if the pretrained encoder does not read whole functions."""
        if config.pretrained is None:
            return
        from sg_ray.features.tokens import TokenFeaturiser

        kind = FeatureKind(TokenFeaturiser.fit(config.tokens, ()).meta, {})
        inputs = Inputs(Features("probes", {}, {config.tokens.key: kind}))
        with quiet_hugging_face(), torch.random.fork_rng(devices=[]):
            check_encoder(
                f"pretrained: {config.pretrained!r} with pooling={config.pooling}",
                partial(self.build, config, inputs),
                _probe_split(config, kind),
            )


def _packs(config: TransformerConfig, kind: FeatureKind) -> bool:
    """Return whether the encoder reads packed sequences; a RoBERTa from scratch does."""
    name = config.pretrained
    if name is None:
        return True
    ids = _ordinary_tokens(config, kind)[:_NUM_PROBE_IDS]
    return _pretrained_packs(name, config.pretrained_content, tuple(ids), config.max_tokens)


@cache
def _pretrained_packs(
    name: str,
    content: str | None,  # noqa: ARG001 - other files under the same name are tried anew
    ids: tuple[int, ...],
    longest: int,
) -> bool:
    with quiet_hugging_face(), torch.random.fork_rng(devices=[]):
        return reads_packed(encoder_without_weights(name), ids, longest)


def _ordinary_tokens(config: TransformerConfig, kind: FeatureKind) -> list[int]:
    """Return the ids that are not special. Raises InputError if there are none."""
    special = {kind.meta[name] for name in ("bos_id", "eos_id", "pad_id", "unk_id")}
    ordinary = [number for number in range(kind.meta["vocab_size"]) if number not in special]
    if not ordinary:
        raise InputError(
            f"tokenizer {config.tokens.tokenizer!r} has no tokens but special ones. Use another."
        )
    return ordinary


def _probe_split(config: TransformerConfig, kind: FeatureKind) -> TokenSplit:
    num_special = sum(kind.meta[name] is not None for name in ("bos_id", "eos_id"))
    ids = Ragged.pack(probes(config.max_tokens - num_special, _ordinary_tokens(config, kind)))
    labels, padded = np.zeros(len(ids), dtype=np.int8), not _packs(config, kind)
    return TokenSplit.of(kind, labels, ids, config.max_tokens, padded=padded)


def _first_token(ids: Tensor) -> Tensor:
    """Return 1 at the first token of each sequence and 0 elsewhere, shape [B, T]."""
    chosen = torch.zeros_like(ids)
    chosen[:, 0] = 1
    return chosen


def _pool(hidden: Tensor, mask: Tensor | None, pooling: Pooling, *, last: bool) -> Tensor:
    """Reduce [B, T, D] to [B, D], without the padding."""
    if pooling == "cls":
        return _last_token(hidden, mask) if last else hidden[:, 0]
    if mask is None:
        return hidden.mean(1) if pooling == "mean" else hidden.amax(1)
    is_padding = ~mask.unsqueeze(-1)
    if pooling == "mean":
        return hidden.masked_fill(is_padding, 0.0).sum(1) / mask.sum(1, keepdim=True)
    return hidden.masked_fill(is_padding, -torch.inf).amax(1)


def _pool_packed(hidden: Tensor, offsets: Tensor, pooling: Pooling, *, last: bool) -> Tensor:
    """Reduce [T, D] to [B, D]: sequence by sequence."""
    if pooling == "cls":
        return hidden.index_select(0, offsets[1:] - 1 if last else offsets[:-1])
    return torch.segment_reduce(hidden.float(), pooling, offsets=offsets)


def _last_token(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Return the last of each sequence that is no padding."""
    if mask is None:
        return hidden[:, -1]
    rows = torch.arange(len(hidden), device=hidden.device)
    return hidden[rows, mask.sum(1) - 1]


def _small_roberta(config: TransformerConfig, kind: FeatureKind) -> Any:
    from transformers.models.roberta.configuration_roberta import RobertaConfig
    from transformers.models.roberta.modeling_roberta import RobertaModel

    pad_id = kind.meta["pad_id"]
    if pad_id is None:
        raise InputError(
            f"tokenizer {config.tokens.tokenizer!r} has no token for padding, which a transformer "
            "from scratch needs. Use another, or `tokenizer: train`."
        )
    settings = RobertaConfig(
        vocab_size=kind.meta["vocab_size"],
        hidden_size=config.hidden_dim,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.feed_forward_dim or 4 * config.hidden_dim,
        # RoBERTa counts positions from pad_id + 1.
        max_position_embeddings=config.max_tokens + pad_id + 1,
        type_vocab_size=1,
        hidden_dropout_prob=config.dropout,
        # Dropout inside attention rules out the fused CPU kernel: a training step 1.5 x as long.
        attention_probs_dropout_prob=0.0,
        pad_token_id=pad_id,
        bos_token_id=kind.meta["bos_id"],
        eos_token_id=kind.meta["eos_id"],
    )
    return RobertaModel(settings, add_pooling_layer=False)


def _pretrained(name: str, config: TransformerConfig, *, is_restoring: bool) -> Any:
    if is_restoring:
        return encoder_without_weights(name)
    _content_meant(name, config)
    return load_encoder(name)


def _content_meant(name: str, config: TransformerConfig) -> str:
    """Return the content of the encoder. Raises InputError if it is not the one meant."""
    content = encoder_content(name)
    check_content("pretrained", name, content, config.pretrained_content)
    return content


def _check_pretrained(encoder: Any, config: TransformerConfig, kind: FeatureKind) -> None:
    name, tokenizer = config.pretrained, config.tokens.tokenizer
    num_ids, pad_id = kind.meta["vocab_size"], kind.meta["pad_id"]
    if num_ids > num_embeddings(encoder):
        raise InputError(
            f"tokens.tokenizer {tokenizer!r} has {num_ids} tokens, pretrained {name!r} knows "
            f"{num_embeddings(encoder)}. Set tokens.tokenizer to the encoder's own tokenizer."
        )
    own_pad_id = getattr(encoder.config, "pad_token_id", None)
    if None not in (own_pad_id, pad_id) and own_pad_id != pad_id:
        raise InputError(
            f"tokens.tokenizer {tokenizer!r} pads with id {pad_id}, pretrained {name!r} with "
            f"{own_pad_id}. Set tokens.tokenizer to the encoder's own tokenizer."
        )
    limit = max_positions(encoder)
    if limit is not None and config.max_tokens > limit:
        raise InputError(
            f"max_tokens {config.max_tokens} is above the {limit} positions of pretrained "
            f"{name!r}. Set max_tokens to at most {limit}."
        )


@torch.no_grad()
def _width(name: str, encoder: Any) -> int:
    """Return how many numbers ``encoder`` gives for each token: not all configurations say."""
    was_training = encoder.training
    encoder.eval()
    try:
        with quiet_hugging_face():
            hidden = encoder(input_ids=torch.zeros((1, 2), dtype=torch.int64)).last_hidden_state
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"pretrained: {name!r} is a {type(encoder).__name__}, which does not read token ids "
            f"alone ({reason}). Use an encoder of text."
        ) from error
    encoder.train(was_training)
    return int(hidden.shape[-1])
