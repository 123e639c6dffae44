"""Tiny random encoders of many architectures, each a folder as a release of it would look."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from sg_ray.data.synthetic.generator import generate

NUM_IDS = 300
MAX_TOKENS = 64

_SIZES = {
    "vocab_size": NUM_IDS,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
_BERT = {**_SIZES, "max_position_embeddings": MAX_TOKENS, "pad_token_id": 0}
_ROBERTA = {
    **_SIZES,
    "max_position_embeddings": MAX_TOKENS + 2,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
_LLAMA = {
    **_SIZES,
    "num_key_value_heads": 1,
    "max_position_embeddings": MAX_TOKENS,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
_T5 = {
    "vocab_size": NUM_IDS,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 2,
}
_BART = {
    "vocab_size": NUM_IDS,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": MAX_TOKENS,
}
_WINDOW = 8
"""Of sparse attention: far from the 64 tokens of a function, two layers deep."""


@dataclass(frozen=True)
class Special:
    """A tokenizer's special tokens in the order of their ids, and what its settings call them."""

    tokens: tuple[str, ...]
    names: Mapping[str, str]


_AS_ROBERTA = Special(
    ("<s>", "<pad>", "</s>", "<unk>"),
    {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
)
_AS_BERT = Special(
    ("[PAD]", "[UNK]", "[CLS]", "[SEP]"),
    {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"},
)
_AS_GPT2 = Special(("<|endoftext|>",), {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"})
_AS_LLAMA = Special(
    ("<unk>", "<s>", "</s>"), {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
)
_AS_QWEN2 = Special(
    ("<|endoftext|>",), {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
)
_AS_T5 = Special(
    ("<pad>", "</s>", "<unk>"), {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
)


@dataclass(frozen=True)
class Kind:
    """An architecture: the classes that make it, by the names that transformers has for them."""

    config: str
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    special: Special = _AS_BERT


KINDS: Mapping[str, Kind] = {
    "bert": Kind("BertConfig", "BertModel", _BERT),
    "roberta": Kind("RobertaConfig", "RobertaForMaskedLM", _ROBERTA, _AS_ROBERTA),
    "distilbert": Kind(
        "DistilBertConfig",
        "DistilBertModel",
        {
            "vocab_size": NUM_IDS,
            "dim": 16,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 24,
            "max_position_embeddings": MAX_TOKENS,
        },
    ),
    "electra": Kind("ElectraConfig", "ElectraForPreTraining", {**_BERT, "embedding_size": 8}),
    "deberta-v2": Kind(
        "DebertaV2Config",
        "DebertaV2Model",
        {
            **_BERT,
            "relative_attention": True,
            "position_buckets": 16,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
    ),
    "modernbert": Kind(
        "ModernBertConfig",
        "ModernBertModel",
        {
            **_BERT,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "local_attention": _WINDOW,
            "global_attn_every_n_layers": 2,
        },
    ),
    "longformer": Kind(
        "LongformerConfig",
        "LongformerModel",
        {**_ROBERTA, "attention_window": _WINDOW},
        _AS_ROBERTA,
    ),
    "bigbird": Kind(
        "BigBirdConfig", "BigBirdModel", {**_BERT, "block_size": 4, "num_random_blocks": 1}
    ),
    "gpt2": Kind(
        "GPT2Config",
        "GPT2LMHeadModel",
        {
            "vocab_size": NUM_IDS,
            "n_embd": 16,
            "n_layer": 2,
            "n_head": 2,
            "n_positions": MAX_TOKENS,
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
        _AS_GPT2,
    ),
    "llama": Kind("LlamaConfig", "LlamaModel", _LLAMA, _AS_LLAMA),
    "qwen2": Kind(
        "Qwen2Config",
        "Qwen2ForCausalLM",
        {**_LLAMA, "bos_token_id": None, "eos_token_id": 0},
        _AS_QWEN2,
    ),
    "t5-encoder": Kind("T5Config", "T5EncoderModel", _T5, _AS_T5),
    "t5": Kind("T5Config", "T5ForConditionalGeneration", _T5, _AS_T5),
    "bart": Kind("BartConfig", "BartModel", _BART, _AS_ROBERTA),
}

MORE_KINDS: Mapping[str, Kind] = {
    "mistral": Kind("MistralConfig", "MistralModel", {**_LLAMA, "sliding_window": 8}, _AS_LLAMA),
    "bert-decoder": Kind("BertConfig", "BertModel", {**_BERT, "is_decoder": True}),
    "fnet": Kind("FNetConfig", "FNetModel", _BERT),
    "longt5": Kind("LongT5Config", "LongT5Model", {**_T5, "local_radius": 4}, _AS_T5),
    "vit": Kind("ViTConfig", "ViTModel", {"hidden_size": 16, "num_attention_heads": 2}),
}
"""Those that are refused, or read in another way than their name says."""


def save_encoder(kind: Kind, folder: Path, **changes: Any) -> str:
    """Save a random encoder with its tokenizer; return the folder's name."""
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    settings = getattr(transformers, kind.config)(**{**kind.settings, **changes})
    model = getattr(transformers, kind.model)(settings)
    if kind.config != "T5Config":  # it begins with large ones
        enlarge(model)
    model.save_pretrained(folder)
    save_tokenizer(kind.special, folder)
    return str(folder)


@torch.no_grad()
def enlarge(model: torch.nn.Module) -> None:
    """Make tokens count for something, as in a trained encoder."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.mul_(5.0)


def save_tokenizer(special: Special, folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_IDS,
        special_tokens=list(special.tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([sample.source for sample in generate(20, seed=3)], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special.names).save_pretrained(folder)
