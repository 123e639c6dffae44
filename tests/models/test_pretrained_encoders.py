"""Fourteen architectures as encoders, and folders whose weights are not the ones meant."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoder_zoo import KINDS, MAX_TOKENS, MORE_KINDS, save_encoder
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from small_set import small_samples

from sg_ray.configuration import Configuration
from sg_ray.data.samples import DataSet
from sg_ray.detector import Detector
from sg_ray.errors import InputError
from sg_ray.export import export_model
from sg_ray.features.build import prepare_features
from sg_ray.features.packed import FeatureKind, Features, Ragged
from sg_ray.features.tokens import TokenFeaturiser
from sg_ray.models.family import Inputs
from sg_ray.models.pretrained import load_encoder
from sg_ray.models.token_split import TokenSplit
from sg_ray.models.transformer import Transformer, TransformerConfig
from sg_ray.prepare.pretrained_folders import Pretrained
from sg_ray.records.record import record_of
from sg_ray.trial.context import TrialContext
from sg_ray.trial.run import run_trial
from sg_ray.trial.spec import TrialSpec

SaveEncoder = Callable[[str], str]


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> SaveEncoder:
    """Folder of a kind of encoder, made once; not to be changed."""
    root = tmp_path_factory.mktemp("zoo")
    return cache(lambda name: save_encoder({**KINDS, **MORE_KINDS}[name], root / name))


def config_of(folder: str, **settings: Any) -> TransformerConfig:
    return TransformerConfig(pretrained=folder, max_tokens=MAX_TOKENS, **settings)


class Reader:
    """An encoder and sequences of tokens to read."""

    def __init__(self, config: TransformerConfig, *lengths: int) -> None:
        meta = TokenFeaturiser.fit(config.tokens, ()).meta
        rng = np.random.default_rng(1)
        items = [rng.integers(5, meta["vocab_size"], size=n) for n in lengths]
        self.ids = Ragged.pack(items) if items else Ragged.pack([np.zeros(0, dtype=np.int64)])
        self.config = config
        labels = {"train": np.zeros(len(self.ids), dtype=np.int8)}
        kind = FeatureKind(meta, {"train": {"ids": self.ids}})
        self.inputs = Inputs(Features("tokens", labels, {config.tokens.key: kind}))
        self.model: Any = Transformer().build(config, self.inputs).eval()
        split = Transformer().split_data(config, self.inputs, "train")
        assert isinstance(split, TokenSplit)
        self.split = split

    def embed(self, *indices: int) -> torch.Tensor:
        with torch.inference_mode():
            embedding: torch.Tensor = self.model.embed(self.split.collate(np.array(indices)))
        return embedding


class TestFourteenArchitectures:
    pytestmark = pytest.mark.parametrize("name", KINDS)

    @pytest.mark.parametrize("pooling", ["cls", "mean"])
    def test_the_check_at_start_is_passed(
        self, name: str, pooling: Any, encoder: SaveEncoder
    ) -> None:
        config = Transformer().pinned(config_of(encoder(name), pooling=pooling))
        before = torch.get_rng_state()
        Transformer().check(config)
        assert torch.equal(torch.get_rng_state(), before)

    def test_batches_and_padding_change_no_logit(self, name: str, encoder: SaveEncoder) -> None:
        reader = Reader(config_of(encoder(name)), 5, 70, 17, 0)
        together = reader.embed(0, 1, 2, 3)
        alone = torch.cat([reader.embed(index) for index in range(4)])
        torch.testing.assert_close(together, alone, atol=2e-4, rtol=0)
        assert reader.embed(2).equal(reader.embed(2))

    def test_every_token_and_their_order_count(self, name: str, encoder: SaveEncoder) -> None:
        reader = Reader(config_of(encoder(name)), 50)
        ids = reader.ids[0]
        for at in (0, 24, 49):
            other = ids.copy()
            other[at] = 5 + (ids[at] - 4) % 200
            self.differ(reader, ids, other)
        self.differ(reader, ids, ids[::-1].copy())
        swapped = ids.copy()
        swapped[[20, 30]] = ids[[30, 20]]
        self.differ(reader, ids, swapped)

    def differ(self, reader: Reader, one: Any, other: Any) -> None:
        split = replace(reader.split, ids=Ragged.pack([one, other]), labels=np.zeros(2, np.int8))
        reader.split = split
        first, second = reader.embed(0), reader.embed(1)
        assert float((first - second).abs().max()) > 1e-5 * float(first.abs().max())

    def test_every_weight_learns(self, name: str, encoder: SaveEncoder) -> None:
        reader = Reader(config_of(encoder(name)), 30, 60)
        model = reader.model.train()
        model(reader.split.collate(np.array([0, 1]))).sum().backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == []

    def test_what_was_learnt_is_predicted_without_the_folder(
        self, name: str, encoder: SaveEncoder, tmp_path: Path
    ) -> None:
        folder = tmp_path / "encoder"
        shutil.copytree(encoder(name), folder)
        spec = trial_of(Transformer().pinned(config_of(str(folder), epochs=1)))
        trained = train(spec, tmp_path)
        record = record_of(
            spec, "train", trained, status="completed", started_at_ms=0, environment={},
            failure=None,
        )  # fmt: skip
        export_model(record, {}, tmp_path / "trial", tmp_path / "cache", tmp_path / "model")
        shutil.rmtree(folder)
        detector = Detector.load(tmp_path / "model", torch.device("cpu"))
        samples = small_samples()["valid"]
        with np.load(tmp_path / "trial" / "valid_predictions.npz") as told:
            expected = told["probabilities"]
        found = detector.predict([sample.source for sample in samples])
        np.testing.assert_allclose(found, expected, atol=1e-6)


def data_set() -> DataSet:
    splits = small_samples()
    return DataSet("small", {"train": splits["train"][:16], "valid": splits["valid"]})


def trial_of(config: TransformerConfig) -> TrialSpec:
    return TrialSpec(
        configuration=Configuration.of("transformer", "transformer", config),
        seed=1,
        objective="val_roc_auc",
        data_fingerprint=data_set().fingerprint,
        code_version="test",
    )


def train(spec: TrialSpec, folder: Path) -> list[dict[str, Any]]:
    config = TransformerConfig.model_validate(spec.configuration.values)
    features = prepare_features(data_set(), [config.tokens], folder / "cache")
    context = TrialContext(features, folder / "cache", torch.device("cpu"))
    epochs = list(run_trial(spec, context, folder / "trial"))
    return [{"epoch": epoch.epoch, **epoch.metrics} for epoch in epochs]


PACKING = [
    *("bert", "roberta", "distilbert", "electra", "modernbert"),
    *("gpt2", "llama", "qwen2", "bert-decoder"),
]
"""Kinds whose attention goes through the library's interface."""


@pytest.mark.parametrize("name", PACKING)
@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_packed_functions_are_read_as_each_alone(
    name: str, pooling: str, encoder: SaveEncoder
) -> None:
    lengths = (9, MAX_TOKENS - 3, 20, 20)
    reader = Reader(config_of(encoder(name), pooling=pooling), *lengths)
    assert not reader.split.padded
    plain = load_encoder(encoder(name)).eval()
    ids = [reader.split.collate(np.array([index]))["ids"] for index in range(len(lengths))]
    with torch.inference_mode():
        hidden = [plain(input_ids=each[None]).last_hidden_state[0] for each in ids]
    place = -1 if reader.model.pools_last else 0
    pooled = {
        "cls": lambda each: each[place],
        "mean": lambda each: each.mean(0),
        "max": lambda each: each.amax(0),
    }[pooling]
    expected = torch.stack([pooled(each) for each in hidden])
    torch.testing.assert_close(reader.embed(0, 1, 2, 3), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(set(KINDS) - set(PACKING)))
def test_an_encoder_with_attention_of_its_own_reads_padded_batches_and_says_so(
    name: str, encoder: SaveEncoder, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    folder = shutil.copytree(encoder(name), tmp_path / "new")  # nobody has asked about this one
    with caplog.at_level(logging.INFO):
        reader = Reader(config_of(str(folder)), 9, 20)
    assert reader.split.padded
    assert "reads padded batches" in caplog.text


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen2", "bert-decoder"])
def test_case_04_a_causal_decoder_is_pooled_on_its_last_token(
    name: str, encoder: SaveEncoder
) -> None:
    reader = Reader(config_of(encoder(name)), 9, 20)
    assert reader.model.pools_last
    plain = load_encoder(encoder(name)).eval()  # one function at a time, as it comes from the files
    ids = [reader.split.collate(np.array([index]))["ids"] for index in (0, 1)]
    with torch.inference_mode():
        expected = [plain(input_ids=each[None]).last_hidden_state[0, -1] for each in ids]
    torch.testing.assert_close(reader.embed(0, 1), torch.stack(expected))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("mistral", "does not see the first tokens"),
        ("longt5", "does not see the last tokens"),
        ("fnet", "reads the padding"),
        ("vit", "does not read token ids alone"),
    ],
)
def test_case_04_an_encoder_that_does_not_read_whole_functions_is_refused(
    name: str, complaint: str, encoder: SaveEncoder
) -> None:
    with pytest.raises(InputError, match=complaint):
        Transformer().check(config_of(encoder(name)))


def test_case_04_a_causal_encoder_that_nobody_knows_is_found_by_what_it_does(
    encoder: SaveEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sg_ray.models.transformer.is_causal", lambda _: False)
    with pytest.raises(InputError, match=r"does not see the last tokens.*pooling=mean"):
        Transformer().check(config_of(encoder("gpt2")))
    Transformer().check(config_of(encoder("gpt2"), pooling="mean"))


def test_windows_are_no_hindrance_where_every_token_is_pooled(encoder: SaveEncoder) -> None:
    Transformer().check(config_of(encoder("mistral"), pooling="mean"))


class TestWeights:
    """case 05 and its kind: what config.json describes and what the file holds differ."""

    @pytest.fixture
    def folder(self, encoder: SaveEncoder, tmp_path: Path) -> Path:
        return Path(shutil.copytree(encoder("roberta"), tmp_path / "encoder"))

    def refused(self, folder: Path, complaint: str) -> None:
        for ask in (Transformer().check, lambda config: Reader(config, 5)):
            with pytest.raises(InputError, match=complaint):
                ask(config_of(str(folder)))

    def rewrite(self, folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        path = folder / "model.safetensors"
        weights = {name: tensor.clone() for name, tensor in load_file(path).items()}
        save_file(change(weights), path, metadata={"format": "pt"})

    def settings(self, folder: Path, **changes: Any) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    def test_case_05_weights_of_other_names(self, folder: Path) -> None:
        self.rewrite(folder, lambda w: {f"other.{name}": tensor for name, tensor in w.items()})
        self.refused(folder, r"encoder' lacks 37 of 37 weights of a RobertaModel \(first: emb")

    def test_case_05_a_layer_is_missing(self, folder: Path) -> None:
        self.rewrite(folder, lambda w: {k: v for k, v in w.items() if "layer.1." not in k})
        self.refused(folder, r"lacks 16 of 37 weights .*first: encoder\.layer\.1\.")

    def test_case_05_names_of_data_parallel(self, folder: Path) -> None:
        self.rewrite(folder, lambda w: {f"module.{name}": tensor for name, tensor in w.items()})
        self.refused(folder, r"lacks 37 of 37 .*first: module\..*as DataParallel saves")

    def test_more_layers_than_the_settings_say(self, folder: Path) -> None:
        self.settings(folder, num_hidden_layers=1)
        self.refused(folder, r"holds 16 weights that a RobertaModel .* has no place for")

    def test_more_layers_than_the_file_holds(self, folder: Path) -> None:
        self.settings(folder, num_hidden_layers=3)
        self.refused(folder, r"lacks 16 of 53 weights")

    def test_another_shape(self, folder: Path) -> None:
        self.settings(folder, vocab_size=400)
        self.refused(folder, r"1 of 37 weights .* in another shape .*\[300, 16\], not \[400, 16\]")

    def test_weights_that_are_not_finite(self, folder: Path) -> None:
        def spoil(weights: dict[str, Any]) -> dict[str, Any]:
            weights["roberta.encoder.layer.0.output.dense.weight"][0, 0] = float("nan")
            return weights

        self.rewrite(folder, spoil)
        self.refused(folder, r"1 of 37 weights that are not finite")

    @pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
    def test_weights_that_are_quantised_without_a_word_in_the_settings(
        self, dtype: torch.dtype, folder: Path
    ) -> None:
        name = "roberta.encoder.layer.0.output.dense.weight"
        self.rewrite(folder, lambda w: {**w, name: w[name].to(dtype)})
        with pytest.raises(InputError, match=rf"holds weights as \w+ \(first: {name}\)"):
            Transformer().check(config_of(str(folder)))
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        self.refused(folder, rf"holds weights as \w+ \(first: {name}\)")

    def test_weights_in_half_precision(self, folder: Path) -> None:
        self.rewrite(folder, lambda w: {name: tensor.half() for name, tensor in w.items()})
        Transformer().check(config_of(str(folder)))

    def test_weights_that_the_settings_keep_elsewhere(self, folder: Path) -> None:
        shutil.copy(folder / "model.safetensors", folder / "other.safetensors")
        self.settings(folder, transformers_weights="other.safetensors")
        self.refused(folder, "has its weights in a file of another name")

    def test_a_part_of_several_files_is_missing(self, folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        index = {"weight_map": dict.fromkeys(weights, "model-00001-of-00002.safetensors")}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        (folder / "model.safetensors").unlink()
        self.refused(folder, "lacks weights, whole in")

    def test_an_index_of_no_files(self, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')
        self.refused(folder, r"index\.json names no files")

    @pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
    def test_a_pointer_of_git_lfs_is_told_from_the_file(self, file: str, folder: Path) -> None:
        (folder / file).write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n")
        self.refused(folder, rf"{file} holds no data.*git lfs pull")

    def test_an_adapter_is_not_left_out(self, folder: Path) -> None:
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
        self.refused(folder, r"holds an adapter \(adapter_config\.json\).*merge_and_unload")

    def test_settings_that_ask_for_tuples(self, folder: Path) -> None:
        expected = Reader(config_of(str(folder)), 9).embed(0)
        self.settings(folder, return_dict=False)
        assert torch.equal(Reader(config_of(str(folder)), 9).embed(0), expected)

    def test_weights_in_several_files(self, folder: Path) -> None:
        whole = folder / "model.safetensors"
        weights = load_file(whole)
        names = sorted(weights)
        index = {}
        for number, part in enumerate((names[::2], names[1::2]), start=1):
            file = f"model-0000{number}-of-00002.safetensors"
            save_file({n: weights[n] for n in part}, folder / file, metadata={"format": "pt"})
            index |= dict.fromkeys(part, file)
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": index})
        )
        expected = Reader(config_of(str(folder)), 9).embed(0)
        whole.unlink()
        assert torch.equal(Reader(config_of(str(folder)), 9).embed(0), expected)

    def test_pickled_weights(self, folder: Path) -> None:
        expected = Reader(config_of(str(folder)), 9).embed(0)
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        assert torch.equal(Reader(config_of(str(folder)), 9).embed(0), expected)

    def test_heads_and_poolers_do_not_count(self, folder: Path) -> None:
        def without_head(weights: dict[str, Any]) -> dict[str, Any]:
            kept = {k: v for k, v in weights.items() if not k.startswith("lm_head")}
            return {**kept, "classifier.weight": torch.zeros(2, 16)}

        expected = Reader(config_of(str(folder)), 9).embed(0)
        self.rewrite(folder, without_head)
        assert torch.equal(Reader(config_of(str(folder)), 9).embed(0), expected)

    def test_a_tokenizer_of_more_ids_is_refused(self, folder: Path, encoder: SaveEncoder) -> None:
        path = folder / "tokenizer.json"
        content = json.loads(path.read_text())
        content["model"]["vocab"]["a-new-one"] = 1000
        path.write_text(json.dumps(content))
        self.refused(folder, r"has 1001 tokens, pretrained .* knows 300")

    @pytest.mark.parametrize("content", ["", "[]", "{", '{"model_type": "no-such-type"}'])
    def test_damaged_settings_are_named(self, folder: Path, content: str) -> None:
        (folder / "config.json").write_text(content)
        self.refused(folder, "encoder")


def test_case_07_code_of_its_own_is_refused_and_not_run(
    encoder: SaveEncoder, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(encoder("bert"), tmp_path / "remote"))
    path = folder / "config.json"
    settings = {**json.loads(path.read_text()), "model_type": "mine"}
    path.write_text(json.dumps({**settings, "auto_map": {"AutoModel": "conf.M"}}))
    (folder / "conf.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    config = config_of(str(folder))
    for ask in (Transformer().pinned, Transformer().check):
        with pytest.raises(InputError, match=r"needs code of its own \(auto_map\); sg-ray runs no"):
            ask(config)
    assert not (tmp_path / "ran").exists()


def test_case_07_a_tokenizer_with_code_of_its_own_is_not_read_as_another(
    encoder: SaveEncoder, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(encoder("bert"), tmp_path / "remote"))
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    (folder / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["x.Y", null]}}')
    with pytest.raises(InputError, match=r"tokenizer: .*needs code of its own"):
        Transformer().check(config_of(str(folder)))


def test_an_encoder_that_pools_whether_asked_or_not_is_read(tmp_path: Path) -> None:
    kind = replace(KINDS["bert"], config="LayoutLMConfig", model="LayoutLMModel")
    config = config_of(save_encoder(kind, tmp_path))
    Transformer().check(config)
    assert not any("pooler" in name for name in Reader(config, 5).model.state_dict())


class TestNames:
    """What is given for ``pretrained``: the same place for a sweep's start and for training."""

    def refused(self, name: str, complaint: str) -> None:
        for ask in (lambda: Transformer().pinned(config_of(name)), lambda: self.look(name)):
            with pytest.raises(InputError, match=complaint):
                ask()

    def look(self, name: str) -> None:
        wanted = Pretrained("pretrained", name, (("config.json", "model.safetensors"),))
        assert wanted.is_folder
        wanted.check_folder()

    def test_the_home_folder(
        self, encoder: SaveEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "here").symlink_to(encoder("bert"))
        monkeypatch.setenv("HOME", str(tmp_path))
        Transformer().pinned(config_of("~/here"))
        self.look("~/here")
        self.refused("~/nowhere", "does not exist")

    def test_the_home_folder_of_nobody(self) -> None:
        self.refused("~no-such-user/encoder", "does not exist")

    def test_a_name_that_no_path_can_be(self) -> None:
        with pytest.raises(ValidationError, match="too long a name"):
            config_of("x" * 5000)


class TestContent:
    """B13: what lies at a place decides, not the place."""

    def pinned(self, folder: Path) -> TransformerConfig:
        return Transformer().pinned(config_of(str(folder)))

    def test_b13_a_copy_elsewhere_is_the_same_trial(
        self, encoder: SaveEncoder, tmp_path: Path
    ) -> None:
        copy = Path(shutil.copytree(encoder("bert"), tmp_path / "copy"))
        (copy / "README.md").write_text("of no importance")
        here, there = trial_of(self.pinned(Path(encoder("bert")))), trial_of(self.pinned(copy))
        assert here.configuration.values != there.configuration.values
        assert (here.trial_key, here.config_hash) == (there.trial_key, there.config_hash)

    @pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
    def test_b13_other_files_under_the_same_name_are_another_trial(
        self, file: str, encoder: SaveEncoder, tmp_path: Path
    ) -> None:
        folder = Path(shutil.copytree(encoder("bert"), tmp_path / "encoder"))
        config = self.pinned(folder)
        with (folder / file).open("ab") as content:
            content.write(b"\n")
        other = self.pinned(folder)
        assert trial_of(other).trial_key != trial_of(config).trial_key
        assert (other.tokens.key != config.tokens.key) == (file == "tokenizer.json")
        with pytest.raises(InputError, match="holds other files now"):
            Transformer().pinned(config)
        with pytest.raises(InputError, match="holds other files now"):
            Reader(config, 5)

    def test_b13_without_pretrained_files_keys_stay(self) -> None:
        """A setting that is added changes them, and nothing else should."""
        config = TransformerConfig()
        assert Transformer().pinned(config) == config
        assert trial_of(config).config_hash.startswith("2f6414ee")
