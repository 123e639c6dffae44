"""A family that the project does not know, through a whole sweep: one class, one row."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from ray import cloudpickle
from tiny_sweep import MODELS, read_json_records, tiny_experiment
from torch import Tensor, nn

from sg_ray.features.packed import Ragged
from sg_ray.features.spec import FeatureSpec, TextSpec
from sg_ray.models.families import FAMILIES
from sg_ray.models.family import Batch, Classifier, Inputs, NeuralConfig, NeuralFamily
from sg_ray.sweep.run import run_sweep


class ByteCountConfig(NeuralConfig):
    hidden_dim: int = 8


@dataclass(frozen=True)
class ByteCounts:
    """How often each byte occurs in each function, as frequencies."""

    frequencies: NDArray[np.float32]
    labels: NDArray[np.int8]
    padded: bool = False

    @property
    def units(self) -> NDArray[np.int64]:
        return np.ones(len(self.labels), dtype=np.int64)

    def collate(self, indices: NDArray[np.int64]) -> Batch:
        return {"frequencies": torch.from_numpy(self.frequencies[indices])}


class ByteCountModel(Classifier):
    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.embedding_dim = hidden_dim
        self.encoder = nn.Linear(256, hidden_dim)
        self.head = nn.Linear(hidden_dim, 1)

    def embed(self, batch: Batch) -> Tensor:
        return torch.tanh(self.encoder(batch["frequencies"]))

    def classify(self, embedding: Tensor) -> Tensor:
        logits: Tensor = self.head(embedding).squeeze(-1)
        return logits


class ByteCountFamily(NeuralFamily[ByteCountConfig]):
    name = "byte_count"
    Config = ByteCountConfig

    def feature_specs(self, config: ByteCountConfig) -> Sequence[FeatureSpec]:
        return (TextSpec(),)

    def split_data(self, config: ByteCountConfig, inputs: Inputs, split: str) -> ByteCounts:
        text: Ragged = inputs.features.split(TextSpec().key, split)["bytes"]
        counts = np.stack([np.bincount(text[i], minlength=256) for i in range(len(text))])
        frequencies = (counts / text.lengths[:, None]).astype(np.float32)
        return ByteCounts(frequencies, inputs.features.labels[split])

    def build(self, config: ByteCountConfig, inputs: Inputs) -> ByteCountModel:
        return ByteCountModel(config.hidden_dim)


def test_a_fourth_family_needs_one_class_and_one_row(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A family in an installed module needs no help; this one lives in a test file.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setitem(FAMILIES, "byte_count", ByteCountFamily())
    experiment = tiny_experiment(
        tmp_path,
        families=["byte_count"],
        models={
            **MODELS,
            "byte_count": {
                "config": {"epochs": 2},
                "space": {"hidden_dim": {"choice": [4, 8, 16]}},
            },
        },
        lr_range={"enabled": True, "num_steps": 20, "cache_dir": str(tmp_path / "lr")},
    )
    outcome = run_sweep(experiment)
    assert outcome.problems == []
    assert {row.family for row in outcome.rows} == {"byte_count", "lexical"}
    records = [
        r
        for r in read_json_records(experiment.folder.path)
        if r["configuration"]["model"] == "byte_count"
    ]
    assert [r["status"] for r in records] == ["completed"] * 3
    assert (experiment.folder.path / "lr_range" / "byte_count.json").exists()
    assert (experiment.folder.path / "best" / "byte_count" / "best_model.pt").exists()
