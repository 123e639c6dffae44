"""Graph networks trained as one: each seed as alone, and the same bits after an interruption."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from same_bits import assert_same_bits

from sg_ray.data.samples import DataSet
from sg_ray.data.synthetic.generator import generate
from sg_ray.features.build import prepare_features
from sg_ray.models.family import Inputs
from sg_ray.models.gnn import Gnn, GnnConfig
from sg_ray.training.compute import Compute, make_compute
from sg_ray.training.loop import Interrupted, ShouldStop, Training, make_training, never
from sg_ray.training.seeding import Seeds, torch_stream
from sg_ray.training.stacked import StackedTraining

CPU = torch.device("cpu")
SEEDS = (42, 7, 1)
NAMES = [str(seed) for seed in SEEDS]
CONFIG = GnnConfig(
    epochs=2,
    batch_size=16,
    learning_rate=3e-3,
    hidden_dim=8,
    num_layers=2,
    max_units_per_micro_batch=900,  # several pieces a batch
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    samples = generate(100, seed=0)
    data = DataSet("synthetic", {"train": samples[:70], "valid": samples[70:]})
    specs = Gnn().feature_specs(CONFIG)
    return Inputs(prepare_features(data, specs, tmp_path_factory.mktemp("graphs")))


def make(
    seed: int, inputs: Inputs, config: GnnConfig, folder: Path, compute: Compute, *, stacked: bool
) -> Training:
    family = Gnn()
    with torch_stream(seed, "init"):
        model = family.build(config, inputs)
    return make_training(
        model,
        family.split_data(config, inputs, "train"),
        family.split_data(config, inputs, "valid"),
        config,
        seeds=Seeds(seed),
        objective="val_roc_auc",
        folder=folder / str(seed),
        identity={"trial_key": str(seed)},
        compute=compute,
        is_stacked=stacked,
    )


def train_alone(inputs: Inputs, config: GnnConfig, folder: Path) -> Path:
    for seed in SEEDS:
        compute = make_compute(config, CPU)
        list(make(seed, inputs, config, folder, compute, stacked=False).epochs(never))
    return folder


def train_stacked(
    inputs: Inputs, config: GnnConfig, folder: Path, should_stop: ShouldStop = never
) -> Path:
    compute = make_compute(config, CPU)
    members = {
        row: make(seed, inputs, config, folder, compute, stacked=True)
        for row, seed in enumerate(SEEDS)
    }
    list(StackedTraining(members, NAMES, config, compute).rounds(should_stop))
    return folder


def weights(folder: Path) -> Mapping[str, torch.Tensor]:
    return torch.load(folder / "last.pt", weights_only=True)["model_state_dict"]


@pytest.mark.parametrize("layer", ["relational", "gated"])
def test_each_graph_network_learns_what_it_learns_alone(layer, inputs, tmp_path):
    config = CONFIG.model_copy(update={"layer": layer})
    alone = train_alone(inputs, config, tmp_path / "alone")
    stacked = train_stacked(inputs, config, tmp_path / "stacked")
    for seed in NAMES:
        before = weights(alone / seed)
        assert max(np.abs(one.numpy()).max() for one in before.values()) > 0.1
        for name, weight in before.items():
            torch.testing.assert_close(weights(stacked / seed)[name], weight, atol=1e-4, rtol=0)


def test_interrupted_graph_networks_end_in_the_same_bits(inputs, tmp_path):
    straight = train_stacked(inputs, CONFIG, tmp_path / "straight")
    remaining = iter(range(2, -1, -1))
    with pytest.raises(Interrupted):
        train_stacked(inputs, CONFIG, tmp_path / "stopped", lambda: next(remaining) == 0)
    train_stacked(inputs, CONFIG, tmp_path / "stopped")
    for seed in NAMES:
        assert_same_bits(straight / seed, tmp_path / "stopped" / seed)


def test_a_graph_network_trained_again_in_its_row_gives_the_same_bits(inputs, tmp_path):
    straight = train_stacked(inputs, CONFIG, tmp_path / "straight")
    noted = torch.load(straight / "7/last.pt", weights_only=True)["fallbacks"]["stack"]
    compute = make_compute(CONFIG, CPU)
    member = make(7, inputs, CONFIG, tmp_path / "again", compute, stacked=True)
    member.stack = noted
    list(StackedTraining({1: member}, NAMES, CONFIG, compute).rounds(never))
    assert_same_bits(straight / "7", tmp_path / "again/7")
