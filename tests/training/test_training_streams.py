"""A trial may take its first weights, data order or dropout from another seed, each alone."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from same_bits import assert_same_bits
from tiny_classifier import TinyClassifier, TinySplit, tiny_config, tiny_split

from sg_ray.configuration import Configuration
from sg_ray.errors import InputError
from sg_ray.features.packed import Features
from sg_ray.features.spec import FeatureSpec
from sg_ray.files import content_hash, short_hash
from sg_ray.models.family import (
    Batch,
    EstimatorFamily,
    FamilyConfig,
    Inputs,
    NeuralConfig,
    NeuralFamily,
)
from sg_ray.training.loop import Interrupted, never
from sg_ray.training.seeding import STREAMS
from sg_ray.trial.context import TrialContext
from sg_ray.trial.run import check_folder, run_trial
from sg_ray.trial.spec import TrialSpec

CONFIG = tiny_config(max_units_per_micro_batch=10_000).model_dump(mode="json")
"""One forward pass a step, so that each step is noted once."""

pytestmark = pytest.mark.usefixtures("unchanged_mode")


@dataclass
class WatchedSplit(TinySplit):
    """Notes which samples go together."""

    batches: list[list[int]] = field(default_factory=list)

    def collate(self, indices: np.ndarray) -> Batch:
        self.batches.append(indices.tolist())
        return super().collate(indices)


class WatchedClassifier(TinyClassifier):
    """Notes what torch's generator was seeded with when it drops."""

    def __init__(self, dropout_seeds: list[int]) -> None:
        super().__init__()
        self.dropout_seeds = dropout_seeds

    def embed(self, batch: Batch) -> torch.Tensor:
        if self.training:
            self.dropout_seeds.append(torch.initial_seed())
        return super().embed(batch)


class WatchedFamily(NeuralFamily[NeuralConfig]):
    name = "watched"
    Config = NeuralConfig

    def __init__(self) -> None:
        made = tiny_split()
        self.train_split = WatchedSplit(made.sequences, made.labels)
        self.dropout_seeds: list[int] = []
        self.weights: dict[str, torch.Tensor] = {}

    def feature_specs(self, config: NeuralConfig) -> Sequence[FeatureSpec]:
        return ()

    def split_data(self, config: NeuralConfig, inputs: Inputs, split: str) -> TinySplit:
        return self.train_split if split == "train" else tiny_split(30, seed=1)

    def build(self, config: NeuralConfig, inputs: Inputs) -> TinyClassifier:
        model = WatchedClassifier(self.dropout_seeds)
        self.weights = {name: value.clone() for name, value in model.state_dict().items()}
        return model


class OneGoFamily(EstimatorFamily[FamilyConfig]):
    name = "one_go"
    Config = FamilyConfig

    def feature_specs(self, config: FamilyConfig) -> Sequence[FeatureSpec]:
        return ()

    def fit(self, config: FamilyConfig, inputs: Inputs, seed: int):
        raise AssertionError("it is refused before it is fitted")

    def load(self, config: FamilyConfig, state: Mapping[str, object]):
        raise NotImplementedError


def spec(family: str = "watched", **changes: object) -> TrialSpec:
    config = CONFIG if family == "watched" else {}
    settings = {
        "configuration": Configuration(model=family, family=family, values=config),
        "seed": 42,
        "objective": "val_roc_auc",
        "data_fingerprint": "data",
        "code_version": "code",
    }
    return TrialSpec.model_validate({**settings, **changes})


def context(folder: Path) -> TrialContext:
    features = Features("data", {"train": np.array([0, 1]), "valid": np.array([0, 1])}, {})
    return TrialContext(features, folder / "cache", torch.device("cpu"))


def trained(trial: TrialSpec, folder: Path, should_stop=never) -> WatchedFamily:
    family = WatchedFamily()
    with patch("sg_ray.trial.run.get_family", lambda _: family):
        for _ in run_trial(trial, context(folder), folder, should_stop=should_stop):
            pass
    return family


@pytest.mark.parametrize("varied", [None, *STREAMS])
def test_one_stream_varies_and_the_others_do_not(tmp_path, varied):
    base = trained(spec(), tmp_path / "base")
    streams = {} if varied is None else {varied: 7}
    other = trained(spec().with_streams(streams), tmp_path / "other")
    have_same_weights = all(torch.equal(base.weights[n], other.weights[n]) for n in base.weights)
    differing = {
        "init": not have_same_weights,
        "order": base.train_split.batches != other.train_split.batches,
        "dropout": base.dropout_seeds != other.dropout_seeds,
    }
    assert differing == {stream: stream == varied for stream in STREAMS}


def test_a_stream_with_a_seed_of_its_own_is_that_seeds(tmp_path):
    mixed = trained(spec(streams={"init": 7, "order": 8, "dropout": 9}), tmp_path / "mixed")
    seven, eight, nine = (trained(spec(seed=s), tmp_path / str(s)) for s in (7, 8, 9))
    assert all(torch.equal(mixed.weights[n], seven.weights[n]) for n in mixed.weights)
    assert mixed.train_split.batches == eight.train_split.batches
    assert mixed.dropout_seeds == nine.dropout_seeds


def test_all_streams_from_one_seed_are_that_seeds_trial_bit_for_bit(tmp_path):
    trained(spec(streams=dict.fromkeys(STREAMS, 7)), tmp_path / "streams")
    trained(spec(seed=7), tmp_path / "seed")
    weights = [
        torch.load(tmp_path / name / "last.pt", weights_only=True)["model_state_dict"]
        for name in ("streams", "seed")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("num_steps", [4, 7])
def test_an_interrupted_trial_with_streams_ends_in_the_same_bits(tmp_path, num_steps):
    trial = spec(streams={"order": 7, "dropout": 8})
    trained(trial, tmp_path / "straight")
    steps = iter(range(1, 1000))
    with pytest.raises(Interrupted):
        trained(trial, tmp_path / "stopped", should_stop=lambda: next(steps) == num_steps)
    trained(trial, tmp_path / "stopped")
    assert_same_bits(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.parametrize("stream", STREAMS)
def test_the_checkpoint_of_a_trial_with_other_streams_is_refused(tmp_path, stream):
    trained(spec(), tmp_path)
    other = spec(streams={stream: 7})
    told = re.escape(f"streams.{stream}: None in the file, 7 now")
    with pytest.raises(InputError, match=told):
        trained(other, tmp_path)
    with pytest.raises(InputError, match=told):
        check_folder(other, tmp_path)
    check_folder(spec(), tmp_path)


def test_a_checkpoint_from_before_there_were_streams_is_gone_on_with(tmp_path):
    trained(spec(), tmp_path / "whole")
    steps = iter(range(1, 1000))
    with pytest.raises(Interrupted):
        trained(spec(), tmp_path / "old", should_stop=lambda: next(steps) == 7)
    path = tmp_path / "old" / "last.pt"
    last = torch.load(path, weights_only=True)
    del last["streams"]
    torch.save(last, path)
    trained(spec(), tmp_path / "old")
    assert_same_bits(tmp_path / "whole", tmp_path / "old")


def test_without_streams_key_and_name_are_what_they_were():
    trial = spec()
    deciding = [trial.family, trial.configuration.values, 42, "val_roc_auc", "data", "code", {}]
    assert trial.trial_key == content_hash(deciding, 16)
    assert trial.name == f"watched-{short_hash(trial.config_hash)}-seed42"
    assert trial.with_streams({}) == trial


def test_streams_change_the_key_and_the_name_and_not_the_configuration():
    trials = [spec(), spec(streams={"init": 7}), spec(streams={"init": 8})]
    trials += [spec(streams={"order": 7}), spec(streams={"order": 7, "init": 7})]
    assert len({trial.trial_key for trial in trials}) == len(trials)
    assert len({trial.config_hash for trial in trials}) == 1
    assert trials[1].name.endswith("-seed42-init7")
    assert trials[-1].name.endswith("-seed42-init7-order7")
    assert spec(streams={"init": 7, "order": 7}).trial_key == trials[-1].trial_key
    assert TrialSpec.model_validate_json(trials[-1].model_dump_json()) == trials[-1]


def test_streams_replace_those_before():
    trial = spec(streams={"init": 7})
    key = trial.trial_key  # it is computed once for each trial, and not taken over
    assert trial.with_streams({"order": 8}) == spec(streams={"order": 8})
    assert trial.with_streams({"order": 8}).trial_key != key


def test_an_unknown_stream_is_refused():
    with pytest.raises(ValidationError, match="'init', 'order' or 'dropout'"):
        spec(streams={"inti": 7})


def test_a_family_that_fits_in_one_go_has_no_streams(tmp_path):
    family = OneGoFamily()
    trial = spec("one_go", streams={"init": 7})
    with (
        pytest.raises(InputError, match="one_go fits in one go"),
        patch("sg_ray.trial.run.get_family", lambda _: family),
    ):
        next(run_trial(trial, context(tmp_path), tmp_path))
