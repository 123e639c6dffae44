"""Transformer encoders over code tokens: a small RoBERTa from scratch, or a pretrained encoder.

RoBERTa: Liu et al. 2019, https://arxiv.org/abs/1907.11692. The readout is its classification head
(dropout, dense, tanh, dropout, projection), as in CodeXGLUE's defect detection.

Shape legend: B samples, T tokens with padding, D hidden width.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from sg_ray.errors import InputError
from sg_ray.features.packed import FeatureKind, Ragged
from sg_ray.features.spec import FeatureSpec, TokenSpec
from sg_ray.models.family import (
    Batch,
    Classifier,
    Inputs,
    NeuralConfig,
    NeuralFamily,
    SplitData,
)

NUM_SPECIAL_TOKENS = 2
"""One token before the function (bos, or cls) and one after it (eos, or sep)."""

Pooling = Literal["cls", "mean", "max"]


class TransformerConfig(NeuralConfig):
    """Architecture and features. ``pretrained`` brings its own architecture and tokenizer."""

    learning_rate: float = Field(default=2e-5, gt=0, le=10)
    tokens: TokenSpec = TokenSpec()
    pretrained: str | None = None
    """Hub name or folder of a Hugging Face encoder; None trains a small RoBERTa from scratch."""
    num_layers: int = Field(default=2, ge=1, le=48)
    hidden_dim: int = Field(default=128, ge=8, le=4096)
    num_heads: int = Field(default=4, ge=1, le=64)
    feed_forward_dim: int | None = Field(default=None, ge=8, le=16_384)
    """None means 4 x hidden_dim."""
    max_tokens: int = Field(default=400, ge=8, le=16_384)
    """Longer functions are cut at the end; counts the two special tokens."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Of the readout, and of the hidden layers of an encoder from scratch."""
    pooling: Pooling = "cls"

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


@dataclass(frozen=True)
class TokenSplit:
    """Truncated token sequences of one split, with special tokens added when collated."""

    labels: NDArray[np.int8]
    ids: Ragged
    max_tokens: int
    bos_id: int
    eos_id: int
    pad_id: int
    padded: bool = True

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """Tokens of each sample after truncation, special tokens included, shape [n]."""
        return np.minimum(self.ids.lengths + NUM_SPECIAL_TOKENS, self.max_tokens)

    def collate(self, indices: NDArray[np.int64]) -> Batch:
        """Return ``ids`` int64 [B, T], and ``mask`` bool [B, T] only where there is padding."""
        starts = self.ids.offsets[indices]
        lengths = np.minimum(
            self.ids.offsets[indices + 1] - starts, self.max_tokens - NUM_SPECIAL_TOKENS
        )
        columns = np.arange(lengths.max())
        is_token = columns < lengths[:, None]
        padded = np.full((len(indices), len(columns) + NUM_SPECIAL_TOKENS), self.pad_id, np.int64)
        padded[:, 1:-1][is_token] = self.ids.values[(starts[:, None] + columns)[is_token]]
        padded[:, 0] = self.bos_id
        padded[np.arange(len(indices)), lengths + 1] = self.eos_id
        batch = {"ids": torch.from_numpy(padded)}
        if not is_token.all():
            sizes = torch.from_numpy(lengths + NUM_SPECIAL_TOKENS)
            batch["mask"] = torch.arange(padded.shape[1]) < sizes[:, None]
        return batch


class TransformerClassifier(Classifier):
    """A Hugging Face encoder, pooled to one vector, with RoBERTa's classification head."""

    def __init__(self, encoder: nn.Module, hidden_dim: int, dropout: float, pooling: Pooling):
        super().__init__()
        self.encoder = encoder
        self.embedding_dim = hidden_dim
        self.pooling = pooling
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, 1),
        )

    def embed(self, batch: Batch) -> Tensor:
        """Return the pooled last hidden states, shape [B, D]."""
        mask = batch.get("mask")
        encoded = self.encoder(input_ids=batch["ids"], attention_mask=mask)
        return _pool(encoded.last_hidden_state, mask, self.pooling)

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
        return TokenSplit(
            labels=inputs.features.labels[split],
            ids=kind.splits[split]["ids"],
            max_tokens=config.max_tokens,
            bos_id=kind.meta["bos_id"],
            eos_id=kind.meta["eos_id"],
            pad_id=kind.meta["pad_id"],
        )

    def build(self, config: TransformerConfig, inputs: Inputs) -> Classifier:
        """Return a new model. Raises InputError if ``pretrained`` cannot be used."""
        kind = inputs.features.kinds[config.tokens.key]
        if config.pretrained is None:
            encoder = _small_roberta(config, kind)
        else:
            encoder = _load_pretrained(config.pretrained)
            _check_pretrained(encoder, config, kind)
        hidden_dim = encoder.config.hidden_size
        return TransformerClassifier(encoder, hidden_dim, config.dropout, config.pooling)


def _pool(hidden: Tensor, mask: Tensor | None, pooling: Pooling) -> Tensor:
    """Reduce [B, T, D] to [B, D], without the padding."""
    if pooling == "cls":
        return hidden[:, 0]
    if mask is None:
        return hidden.mean(1) if pooling == "mean" else hidden.amax(1)
    is_padding = ~mask.unsqueeze(-1)
    if pooling == "mean":
        return hidden.masked_fill(is_padding, 0.0).sum(1) / mask.sum(1, keepdim=True)
    return hidden.masked_fill(is_padding, -torch.inf).amax(1)


def _small_roberta(config: TransformerConfig, kind: FeatureKind) -> Any:
    from transformers.models.roberta.configuration_roberta import RobertaConfig
    from transformers.models.roberta.modeling_roberta import RobertaModel

    pad_id = kind.meta["pad_id"]
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


def _load_pretrained(name: str) -> Any:
    from safetensors import SafetensorError

    try:
        with _quiet_hugging_face():
            encoder = _local_or_downloaded(name)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"pretrained: {name!r} could not be loaded ({reason}). Give a folder with config.json "
            "and weights, or a hub name that is in the local cache or can be downloaded, "
            "or leave pretrained out to train from scratch."
        ) from error
    if encoder.config.is_encoder_decoder:
        raise InputError(
            f"pretrained: {name!r} is an encoder-decoder. Give an encoder such as a RoBERTa."
        )
    if getattr(encoder, "pooler", None) is not None:
        # Not used by the readout; parameters without a gradient stop distributed training.
        encoder.pooler = None
    return encoder


def _local_or_downloaded(name: str) -> Any:
    """Ask the network last: a trial must not depend on it, nor wait for its retries."""
    from transformers import AutoModel

    try:
        return AutoModel.from_pretrained(name, dtype=torch.float32, local_files_only=True)
    except OSError:
        if Path(name).is_dir():
            raise
        return AutoModel.from_pretrained(name, dtype=torch.float32)


@contextmanager
def _quiet_hugging_face() -> Iterator[None]:
    """Keep download bars, retries and loading reports off the console."""
    from transformers.utils import logging as hf_logging

    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    had_bars = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if had_bars:
            hf_logging.enable_progress_bar()


def _check_pretrained(encoder: Any, config: TransformerConfig, kind: FeatureKind) -> None:
    name, tokenizer = config.pretrained, config.tokens.tokenizer
    vocab_size, pad_id = kind.meta["vocab_size"], kind.meta["pad_id"]
    if vocab_size > encoder.config.vocab_size:
        raise InputError(
            f"tokens.tokenizer {tokenizer!r} has {vocab_size} tokens, pretrained {name!r} knows "
            f"{encoder.config.vocab_size}. Set tokens.tokenizer to the encoder's own tokenizer."
        )
    if encoder.config.pad_token_id not in (None, pad_id):
        raise InputError(
            f"tokens.tokenizer {tokenizer!r} pads with id {pad_id}, pretrained {name!r} with "
            f"{encoder.config.pad_token_id}. Set tokens.tokenizer to the encoder's own tokenizer."
        )
    max_positions = _max_positions(encoder)
    if max_positions is not None and config.max_tokens > max_positions:
        raise InputError(
            f"max_tokens {config.max_tokens} is above the {max_positions} positions of pretrained "
            f"{name!r}. Set max_tokens to at most {max_positions}."
        )


def _max_positions(encoder: Any) -> int | None:
    """Return how many tokens ``encoder`` can place; None if its configuration has no limit."""
    limit: int | None = getattr(encoder.config, "max_position_embeddings", None)
    positions = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    # RoBERTa's tables count positions from padding_idx + 1.
    first = getattr(positions, "padding_idx", None)
    return limit if limit is None or first is None else limit - first - 1
