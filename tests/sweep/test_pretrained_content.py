"""B13: a sweep whose encoder's files have changed under their name starts anew, and says so."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_sweep import tiny_experiment

from sg_ray.code_version import code_version
from sg_ray.config import Experiment, Model
from sg_ray.data.sources import DataConfig, load_data
from sg_ray.features.spec import TokenSpec
from sg_ray.features.tokens import TokenFeaturiser
from sg_ray.models.transformer import TransformerConfig
from sg_ray.prepare.prepare import baselines, pinned
from sg_ray.records.changed import find_change, settle
from sg_ray.records.record import read_records, record_of, write_record
from sg_ray.sweep_folder import SweepFolder
from sg_ray.trial.spec import TrialSpec

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 66,
}


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    from transformers import RobertaConfig, RobertaModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = tmp_path / "encoder"
    sources = [sample.source for sample in load_data(DataConfig(num_samples=60)).splits["train"]]
    folder.mkdir()
    TokenFeaturiser.fit(TokenSpec(vocab_size=300), sources).save(folder)
    RobertaModel(RobertaConfig(vocab_size=300, **SIZES)).save_pretrained(folder)
    return folder


def experiment_with(encoder: Path, folder: Path) -> Experiment:
    config = {"pretrained": str(encoder), "max_tokens": 32}
    models: dict[str, Any] = {"transformer": {"config": config}}
    return tiny_experiment(folder, families=["transformer"], models=models)


def trial_of(models: list[Model]) -> TrialSpec:
    (model,) = (model for model in models if model.name == "transformer")
    return TrialSpec(
        configuration=model.baseline,
        seed=42,
        objective="val_roc_auc",
        data_fingerprint="data",
        code_version=code_version(),
    )


def aside(folder: SweepFolder, models: list[Model]) -> int:
    change = find_change(folder, "data", baselines(models))
    if change is None:
        return 0
    assert list(change.by_reason) == ["other pretrained files"]
    settle(change, "anew")
    return len(change.records)


def test_b13_records_of_other_weights_are_set_aside(encoder: Path, tmp_path: Path) -> None:
    experiment = experiment_with(encoder, tmp_path)
    assert experiment.model("transformer").baseline.values["pretrained_content"] is None
    folder, models = experiment.folder, experiment.all_models
    before = pinned(models)
    spec = trial_of(before)
    record = record_of(
        spec, "search", [], status="completed", started_at_ms=0, environment={}, failure=None
    )
    write_record(folder, record)
    content = TransformerConfig.model_validate(record.configuration.values)
    assert content.pretrained_content is not None
    assert content.tokens.tokenizer_content is not None
    assert aside(folder, pinned(models)) == 0

    path = encoder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "layer_norm_eps": 0.1}))
    after = pinned(models)
    assert trial_of(after).trial_key != spec.trial_key
    assert aside(folder, after) == 1
    assert read_records(folder) == {}
