import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sg_ray.errors import InputError
from sg_ray.features.packed import Features
from sg_ray.features.spec import FeatureSpec
from sg_ray.models.family import EstimatorFamily, FamilyConfig, Inputs
from sg_ray.sweep_folder import VALID_PREDICTIONS
from sg_ray.training.checkpoint import read_best
from sg_ray.training.estimator import fit_estimator
from sg_ray.training.metrics import OBJECTIVES
from sg_ray.training.predictions import read_predictions


@dataclass(frozen=True)
class Prior:
    """Gives every sample the share of positives in train."""

    share: float

    def predict_proba(self, inputs: Inputs, split: str) -> np.ndarray:
        return np.full(len(inputs.features.labels[split]), self.share)

    def state(self) -> dict[str, Any]:
        return {"share": torch.tensor(self.share)}


class PriorFamily(EstimatorFamily[FamilyConfig]):
    name = "prior"
    Config = FamilyConfig

    def feature_specs(self, config: FamilyConfig) -> Sequence[FeatureSpec]:
        return ()

    def fit(self, config: FamilyConfig, inputs: Inputs, seed: int) -> Prior:
        return Prior(float(inputs.features.labels["train"].mean()))

    def load(self, config: FamilyConfig, state: Mapping[str, Any]) -> Prior:
        return Prior(float(state["share"]))


def inputs(valid_labels: Sequence[int]) -> Inputs:
    labels = {"train": np.array([1, 1, 1, 0]), "valid": np.array(valid_labels)}
    return Inputs(Features("fingerprint", labels, {}))


def fit(folder: Path, valid_labels: Sequence[int]):
    return fit_estimator(
        PriorFamily(),
        FamilyConfig(),
        inputs(valid_labels),
        seed=1,
        objective="val_roc_auc",
        folder=folder,
        identity={"family": "prior"},
    )


def test_an_estimator_leaves_the_files_of_one_epoch(tmp_path):
    result = fit(tmp_path, [0, 1])
    assert (result.epoch, result.is_best, result.stop_reason) == (1, True, "epochs")
    assert set(OBJECTIVES) < set(result.metrics)
    metadata = json.loads((tmp_path / "training_metadata.json").read_text())
    assert metadata["metrics"] == dict(result.metrics)
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["epoch"] == 1
    best = read_best(tmp_path)
    assert PriorFamily().load(FamilyConfig(), best["model_state_dict"]).share == 0.75
    assert best["threshold"] == result.metrics["val_threshold"]
    kept = read_predictions(tmp_path / VALID_PREDICTIONS)
    assert (kept.labels.tolist(), kept.probabilities.tolist()) == ([0, 1], [0.75, 0.75])


def test_an_objective_without_a_value_is_refused_before_fitting(tmp_path):
    with pytest.raises(InputError, match="val_roc_auc has no value"):
        fit(tmp_path, [1, 1])
    assert list(tmp_path.iterdir()) == []
