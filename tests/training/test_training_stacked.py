"""Several seeds trained as one: each as if alone, whatever becomes of the others."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from same_bits import assert_same_bits, without_times

from sg_ray.errors import Collapsed, Diverged, InputError
from sg_ray.models.fusion import BranchOutputs, FrozenFusion, FrozenSplit, FusionConfig, FusionHead
from sg_ray.training.compute import Compute, make_compute
from sg_ray.training.loop import Interrupted, ShouldStop, Training, make_training, never
from sg_ray.training.seeding import Seeds, numpy_stream, torch_stream
from sg_ray.training.stacked import StackedTraining

CPU = torch.device("cpu")
SEEDS = (42, 2025, 7, 1)
WIDTHS = {"transformer": 12, "gnn": 8}
CONFIG = FusionConfig(epochs=4, batch_size=16, learning_rate=3e-3, hidden_dim=10)
STEPS_PER_EPOCH = 5  # 70 samples in batches of 16: the last one is smaller
NAMES = [str(seed) for seed in SEEDS]


@cache
def split(seed: int, name: str) -> FrozenSplit:
    """What the branches of a seed say of data that are the same for all seeds."""
    num_samples = {"train": 70, "valid": 41}[name]
    labels = (numpy_stream(0, name).random(num_samples) < 0.5).astype(np.int8)
    rng = numpy_stream(seed, name)
    outputs = {}
    for branch, width in WIDTHS.items():
        embeddings = rng.normal(size=(num_samples, width)) + 0.7 * labels[:, None]
        logits = rng.normal(size=num_samples) + 0.5 * (2 * labels - 1)
        outputs[branch] = BranchOutputs(embeddings.astype(np.float32), logits.astype(np.float32))
    return FrozenSplit(labels, outputs)


def make(seed: int, folder: Path, config: FusionConfig, compute: Compute | None = None) -> Training:
    """A training alone, or one of a stack that computes with ``compute``."""
    with torch_stream(seed, "init"):
        temperatures = [0.5 + seed % 3, 1.0]
        model = FrozenFusion(list(WIDTHS), FusionHead(list(WIDTHS.values()), temperatures, config))
    return make_training(
        model,
        split(seed, "train"),
        split(seed, "valid"),
        config,
        seeds=Seeds(seed),
        objective="val_roc_auc",
        folder=folder,
        identity={"trial_key": str(seed)},
        compute=compute or make_compute(config, CPU),
        is_stacked=compute is not None,
    )


def train_alone(seed: int, folder: Path, config: FusionConfig = CONFIG) -> Path:
    list(make(seed, folder / str(seed), config).epochs(never))
    return folder / str(seed)


class Stack:
    """A stack of ``SEEDS``, of which some may be left out, in the folders of their names."""

    def __init__(
        self, folder: Path, config: FusionConfig = CONFIG, seeds: tuple[int, ...] = SEEDS
    ) -> None:
        compute = make_compute(config, CPU)
        self.members = {
            SEEDS.index(seed): make(seed, folder / str(seed), config, compute) for seed in seeds
        }
        self.training = StackedTraining(self.members, NAMES, config, compute)
        self.ends: dict[int, object] = {}

    def run(self, should_stop: ShouldStop = never) -> "Stack":
        for news in self.training.rounds(should_stop):
            for row, one in news.items():
                if isinstance(one, Exception) or one.stop_reason is not None:
                    self.ends[SEEDS[row]] = one
        return self


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    Stack(folder).run()
    return folder


def history(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [without_times(json.loads(line)) for line in lines]


def weights(folder: Path) -> Mapping[str, torch.Tensor]:
    return torch.load(folder / "last.pt", weights_only=True)["model_state_dict"]


def assert_close(one: Path, other: Path) -> None:
    for name, weight in weights(one).items():
        torch.testing.assert_close(weights(other)[name], weight, atol=1e-4, rtol=0)


def after(num_steps: int) -> ShouldStop:
    remaining = iter(range(num_steps - 1, -1, -1))
    return lambda: next(remaining) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_each_seed_learns_what_it_learns_alone(seed, together, tmp_path):
    alone, stacked = train_alone(seed, tmp_path), together / str(seed)
    assert len(history(alone)) == len(history(stacked)) == 4
    for one, other in zip(history(alone), history(stacked), strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    assert_close(alone, stacked)


def test_a_stacked_seed_leaves_the_files_of_a_training_alone(together, tmp_path):
    alone, stacked = train_alone(42, tmp_path), together / "42"
    for name in ("last.pt", "best_model.pt"):
        one, other = (torch.load(path / name, weights_only=True) for path in (alone, stacked))
        assert one.keys() == other.keys()
        assert (stacked / name).stat().st_size < (alone / name).stat().st_size + 2_000
    optimisers = [
        torch.load(path / "last.pt", weights_only=True)["optimizer_state_dict"]["state"]
        for path in (alone, stacked)
    ]
    for number, state in optimisers[0].items():
        for name, value in state.items():
            torch.testing.assert_close(optimisers[1][number][name], value, atol=1e-4, rtol=0)


def test_the_summary_names_the_seeds_of_the_stack_and_its_shapes(together):
    noted = json.loads((together / "7/training_metadata.json").read_text())["environment"]["stack"]
    assert noted["seeds"] == NAMES
    assert (noted["train"], noted["valid"]) == ({"samples": 16}, {"samples": 41})


@pytest.mark.parametrize("num_steps", [3, STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH + 2])
def test_an_interrupted_stack_ends_in_the_same_bits(num_steps, together, tmp_path):
    with pytest.raises(Interrupted):
        Stack(tmp_path).run(after(num_steps))
    Stack(tmp_path).run()
    for seed in SEEDS:
        assert_same_bits(together / str(seed), tmp_path / str(seed))


def test_seeds_resumed_at_different_positions_end_in_the_same_bits(together, tmp_path):
    with pytest.raises(Interrupted):
        Stack(tmp_path).run(after(4))
    with pytest.raises(Interrupted):  # as if a kill had come before the others' files
        Stack(tmp_path, seeds=(2025, 1)).run(after(9))
    Stack(tmp_path).run()
    for seed in SEEDS:
        assert_same_bits(together / str(seed), tmp_path / str(seed))


def test_a_seed_trained_again_for_itself_in_its_row_gives_the_same_bits(together, tmp_path):
    noted = json.loads((together / "7/training_metadata.json").read_text())["environment"]["stack"]
    compute = make_compute(CONFIG, CPU)
    member = make(7, tmp_path, CONFIG, compute)
    member.stack = noted
    row = noted["seeds"].index("7")
    list(StackedTraining({row: member}, NAMES, CONFIG, compute).rounds(never))
    assert_same_bits(together / "7", tmp_path)


def test_a_seed_that_diverges_leaves_the_others_as_they_are(together, tmp_path):
    stack = Stack(tmp_path)
    with torch.no_grad():
        stack.members[1].model.head.norms[0].weight[0] = float("nan")
    stack.run()
    assert isinstance(stack.ends[2025], Diverged)
    assert not (tmp_path / "2025/last.pt").exists()
    for seed in (42, 7, 1):
        assert_same_bits(together / str(seed), tmp_path / str(seed))


def test_a_seed_that_is_given_up_leaves_the_others_as_they_are(together, tmp_path):
    stack = Stack(tmp_path)
    rounds = stack.training.rounds(never)
    assert len(next(rounds)) == 4
    stack.training.drop(0)
    assert all(0 not in news for news in rounds)
    assert len(history(tmp_path / "42")) == 1
    for seed in (2025, 7, 1):
        assert_same_bits(together / str(seed), tmp_path / str(seed))


def test_seeds_stop_early_each_by_its_own_validation(tmp_path):
    config = CONFIG.model_copy(update={"epochs": 12, "early_stopping_patience": 1})
    stack = Stack(tmp_path / "together", config).run()
    lengths = {}
    for seed in SEEDS:
        alone = history(train_alone(seed, tmp_path / "alone", config))
        lengths[seed] = len(alone)
        assert len(history(tmp_path / "together" / str(seed))) == len(alone)
        assert stack.ends[seed].stop_reason == ("epochs" if len(alone) == 12 else "early_stopping")
    assert len(set(lengths.values())) > 1


def test_collapse_is_told_of_each_seed(tmp_path, monkeypatch):
    config = CONFIG.model_copy(update={"collapse_patience": 1})
    monkeypatch.setattr("sg_ray.training.loop.is_collapsed", lambda labels, logits, _: True)
    stack = Stack(tmp_path, config).run()
    assert all(isinstance(end, Collapsed) for end in stack.ends.values())
    assert len(stack.ends) == 4


def test_a_stack_that_has_ended_tells_its_ends_again(together):
    stack = Stack(together).run()
    assert [end.epoch for end in stack.ends.values()] == [4] * 4


def test_a_batch_in_pieces_learns_what_it_learns_alone(tmp_path):
    config = CONFIG.model_copy(update={"max_units_per_micro_batch": 5})
    Stack(tmp_path, config).run()
    for seed in SEEDS:
        assert_close(train_alone(seed, tmp_path / "alone", config), tmp_path / str(seed))


def test_memory_that_runs_out_cuts_the_batches_of_all(tmp_path, monkeypatch):
    config = CONFIG.model_copy(update={"dropout": 0.0})
    stack = Stack(tmp_path, config)
    forward, sizes = StackedTraining._forward, []

    def too_small(self, splits, held, capacity):
        sizes.append(capacity["samples"])
        if capacity["samples"] > 12:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, splits, held, capacity)

    monkeypatch.setattr(StackedTraining, "_forward", too_small)
    stack.run()
    assert max(sizes) > 12 >= max(sizes[10:])
    noted = torch.load(tmp_path / "42/last.pt", weights_only=True)["fallbacks"]
    assert noted["stack"]["max_units"] == noted["max_units_per_micro_batch"] <= 12
    for seed in SEEDS:
        assert_close(train_alone(seed, tmp_path / "alone", config), tmp_path / str(seed))


def test_positions_of_another_way_of_training_are_refused(together, tmp_path):
    alone = train_alone(42, tmp_path)
    with pytest.raises(InputError, match="holds the position of a training alone"):
        make(42, alone, CONFIG, make_compute(CONFIG, CPU))
    with pytest.raises(InputError, match="beside 42, 2025, 7, 1"):
        make(42, together / "42", CONFIG)
    compute = make_compute(CONFIG, CPU)
    member = make(42, together / "42", CONFIG, compute)
    with pytest.raises(InputError, match="cannot go on beside"):
        StackedTraining({0: member}, ["42", "3"], CONFIG, compute)
