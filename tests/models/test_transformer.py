from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from sg_ray.errors import InputError
from sg_ray.features.packed import FeatureKind, Features, Ragged
from sg_ray.features.spec import TokenSpec
from sg_ray.models.family import Inputs
from sg_ray.models.packed_encoder import ATTENTION
from sg_ray.models.token_split import TokenSplit
from sg_ray.models.transformer import Transformer, TransformerConfig

BOS, PAD, EOS, UNK = 0, 1, 2, 3
VOCAB_SIZE = 50


def ragged(*lengths: int, dtype: Any = np.uint16) -> Ragged:
    """Sequences that together count from 10 to the end of the vocabulary, over and over."""
    values = np.arange(sum(lengths)) % (VOCAB_SIZE - 10) + 10
    return Ragged.pack([v.astype(dtype) for v in np.split(values, np.cumsum(lengths)[:-1])])


def split_of(ids: Ragged, max_tokens: int = 8) -> TokenSplit:
    labels = np.zeros(len(ids), dtype=np.int8)
    return TokenSplit(labels, ids, max_tokens, bos_id=BOS, eos_id=EOS, pad_id=PAD)


def inputs_of(config: TransformerConfig, ids: Ragged, **meta: int) -> Inputs:
    known = {"vocab_size": VOCAB_SIZE, "bos_id": BOS, "pad_id": PAD, "eos_id": EOS, "unk_id": UNK}
    kind = FeatureKind({**known, **meta}, {"train": {"ids": ids}})
    labels = {"train": np.zeros(len(ids), dtype=np.int8)}
    return Inputs(Features("tokens", labels, {config.tokens.key: kind}))


class TestBatches:
    def test_special_tokens_truncation_and_padding(self) -> None:
        split = split_of(ragged(3, 9, 0))
        batch = split.collate(np.array([1, 0, 2]))
        assert batch["ids"].tolist() == [
            [BOS, 13, 14, 15, 16, 17, 18, EOS],
            [BOS, 10, 11, 12, EOS, PAD, PAD, PAD],
            [BOS, EOS, PAD, PAD, PAD, PAD, PAD, PAD],
        ]
        assert batch["ids"].dtype == torch.int64
        assert batch["mask"].tolist() == (batch["ids"] != PAD).tolist()

    def test_no_mask_without_padding(self) -> None:
        assert "mask" not in split_of(ragged(3, 3)).collate(np.array([1, 0]))
        assert "mask" not in split_of(ragged(6, 99)).collate(np.array([1, 0]))
        assert "mask" not in split_of(ragged(0)).collate(np.array([0]))

    def test_packed_sequences_lie_one_behind_the_other(self) -> None:
        split = replace(split_of(ragged(3, 9, 0)), padded=False)
        batch = split.collate(np.array([1, 0, 2]))
        long, short, empty = [BOS, *range(13, 19), EOS], [BOS, 10, 11, 12, EOS], [BOS, EOS]
        assert batch["ids"].tolist() == long + short + empty
        assert batch["positions"].tolist() == [*range(8), *range(5), *range(2)]
        assert batch["offsets"].tolist() == [0, 8, 13, 15]
        assert batch["offsets"].dtype == torch.int32

    def test_a_capacity_holds_each_piece_in_one_set_of_shapes(self) -> None:
        rng = np.random.default_rng(4)
        split = replace(split_of(ragged(*rng.integers(0, 40, 60)), max_tokens=30), padded=False)
        pieces = [rng.choice(60, size=size, replace=False) for size in (0, 1, 7, 31, 12, 60)]
        capacity = split.capacity(pieces)
        for piece in pieces:
            batch = split.collate_fixed(piece, capacity)
            alone = split.collate(piece)["ids"]
            assert batch["ids"].shape == batch["positions"].shape == (capacity["tokens"],)
            assert torch.equal(batch["ids"][: len(alone)], alone)
            lengths = batch["offsets"].diff()
            assert len(lengths) == capacity["samples"]
            assert lengths[: len(piece)].tolist() == split.units[piece].tolist()
            assert 1 <= lengths.min() <= lengths.max() <= 30

    def test_units_are_the_tokens_a_batch_holds(self) -> None:
        split = split_of(ragged(3, 9, 0, 6))
        assert split.units.tolist() == [5, 8, 2, 8]
        for index, units in enumerate(split.units):
            assert split.collate(np.array([index]))["ids"].shape == (1, units)


class TestFromScratch:
    CONFIG = TransformerConfig(hidden_dim=16, num_heads=2, max_tokens=32, feed_forward_dim=24)

    def test_architecture_is_the_configured_roberta(self) -> None:
        model: Any = Transformer().build(self.CONFIG, inputs_of(self.CONFIG, ragged(4)))
        settings = model.encoder.config
        assert type(model.encoder).__name__ == "RobertaModel"
        assert settings.num_hidden_layers == 2
        assert settings.hidden_size == model.embedding_dim == 16
        assert settings.intermediate_size == 24
        assert settings.vocab_size == VOCAB_SIZE
        assert settings._attn_implementation == ATTENTION

    def test_reads_sequences_of_max_tokens(self) -> None:
        inputs = inputs_of(self.CONFIG, ragged(100))
        batch = Transformer().split_data(self.CONFIG, inputs, "train").collate(np.array([0]))
        assert batch["ids"].shape == (32,)
        assert Transformer().build(self.CONFIG, inputs)(batch).isfinite().all()

    @pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
    def test_pooling_leaves_padding_out(self, pooling: str) -> None:
        config = TransformerConfig.model_validate({**self.CONFIG.model_dump(), "pooling": pooling})
        inputs = inputs_of(config, ragged(3, 20))
        model = Transformer().build(config, inputs).eval()
        split = Transformer().split_data(config, inputs, "train")
        padded = model.embed(split.collate(np.array([0, 1])))[0]
        alone = model.embed(split.collate(np.array([0])))[0]
        torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)

    def test_heads_must_divide_the_width(self) -> None:
        with pytest.raises(ValidationError, match="hidden_dim 30 must be a multiple of num_heads"):
            TransformerConfig(hidden_dim=30)


def save_encoder(folder: Path, kind: str = "roberta", **settings: Any) -> str:
    """Save a tiny random encoder as a Hugging Face folder, as its own release would look."""
    from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel, T5Config, T5Model

    common = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 34,
        **settings,
    }
    torch.manual_seed(5)
    if kind == "roberta":
        model: Any = RobertaModel(RobertaConfig(**common))
    elif kind == "bert":
        model = BertModel(BertConfig(**{**common, "pad_token_id": PAD}))
    else:
        model = T5Model(T5Config(vocab_size=VOCAB_SIZE, d_model=8, d_kv=4, d_ff=8, num_layers=1))
    model.save_pretrained(folder)
    return str(folder)


class TestPretrained:
    def build(self, name: str, **meta: int) -> Any:
        config = TransformerConfig(pretrained=name, max_tokens=32)
        return Transformer().build(config, inputs_of(config, ragged(5, 60), **meta))

    def test_weights_are_the_saved_ones(self, tmp_path: Path) -> None:
        from transformers import RobertaModel

        name = save_encoder(tmp_path)
        saved = RobertaModel.from_pretrained(name, add_pooling_layer=False).state_dict()
        loaded = self.build(name).encoder.state_dict()
        assert loaded.keys() == saved.keys()
        assert all(torch.equal(loaded[key], saved[key]) for key in saved)

    @pytest.mark.parametrize("kind", ["roberta", "bert"])
    def test_every_parameter_trains(self, tmp_path: Path, kind: str) -> None:
        config = TransformerConfig(pretrained=save_encoder(tmp_path, kind), max_tokens=32)
        inputs = inputs_of(config, ragged(5, 60))
        model = Transformer().build(config, inputs)
        split = Transformer().split_data(config, inputs, "train")
        model(split.collate(np.array([0, 1]))).sum().backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == []
        assert model.training

    def test_half_precision_weights_are_loaded_in_full(self, tmp_path: Path) -> None:
        from transformers import AutoModel

        name = save_encoder(tmp_path / "full")
        AutoModel.from_pretrained(name).half().save_pretrained(tmp_path / "half")
        model = self.build(str(tmp_path / "half"))
        assert {p.dtype for p in model.parameters()} == {torch.float32}

    def test_nothing_is_printed(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        name = save_encoder(tmp_path)
        capfd.readouterr()
        self.build(name)
        assert capfd.readouterr() == ("", "")

    def test_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"no-such-folder.*Give a folder with config.json"):
            self.build(str(tmp_path / "no-such-folder"))

    def test_folder_without_weights_is_named(self, tmp_path: Path) -> None:
        name = save_encoder(tmp_path)
        (tmp_path / "model.safetensors").unlink()
        with pytest.raises(InputError, match=rf"pretrained: '{name}' could not be loaded"):
            self.build(name)

    def test_damaged_weights_are_named(self, tmp_path: Path) -> None:
        name = save_encoder(tmp_path)
        (tmp_path / "model.safetensors").write_bytes(b"\x00" * 100)
        with pytest.raises(InputError, match=rf"pretrained: '{name}' could not be loaded"):
            self.build(name)

    def test_larger_vocabulary_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"has 51 tokens.* knows 50"):
            self.build(save_encoder(tmp_path), vocab_size=51)

    def test_other_padding_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"pads with id 3.* with 1\."):
            self.build(save_encoder(tmp_path), pad_id=3)

    @pytest.mark.parametrize(("kind", "limit"), [("roberta", 32), ("bert", 34)])
    def test_max_tokens_above_the_positions_is_refused(
        self, tmp_path: Path, kind: str, limit: int
    ) -> None:
        name = save_encoder(tmp_path, kind)
        config = TransformerConfig(pretrained=name, max_tokens=limit + 1)
        with pytest.raises(InputError, match=f"at most {limit}"):
            Transformer().build(config, inputs_of(config, ragged(5)))
        fitting = TransformerConfig(pretrained=name, max_tokens=limit)
        inputs = inputs_of(fitting, ragged(100))
        batch = Transformer().split_data(fitting, inputs, "train").collate(np.array([0]))
        assert Transformer().build(fitting, inputs)(batch).shape == (1,)

    def test_tokenizer_follows_the_encoder(self) -> None:
        assert TransformerConfig(pretrained="some/encoder").tokens.tokenizer == "some/encoder"
        other = TransformerConfig.model_validate(
            {"pretrained": "some/encoder", "tokens": {"tokenizer": "its/tokenizer"}}
        )
        assert other.tokens.tokenizer == "its/tokenizer"
        assert TransformerConfig.model_validate(other.model_dump()) == other
        given = TransformerConfig(pretrained="some/encoder", tokens=TokenSpec(vocab_size=500))
        assert given.tokens == TokenSpec(tokenizer="some/encoder", vocab_size=500)

    def test_trained_tokenizer_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="needs its own tokenizer"):
            TransformerConfig(pretrained="some/encoder", tokens=TokenSpec(tokenizer="train"))

    def test_architecture_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="fixes num_layers, hidden_dim: leave them out"):
            TransformerConfig(pretrained="some/encoder", num_layers=3, hidden_dim=64)
