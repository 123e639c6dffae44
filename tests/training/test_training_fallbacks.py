"""Out of memory, and operations without a deterministic version: mended, redone, remembered."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from same_bits import assert_same_bits
from tiny_classifier import TinyClassifier, TinySplit, tiny_config, tiny_split

from sg_ray.errors import OutOfMemory
from sg_ray.models.family import Batch, NeuralConfig
from sg_ray.training.compute import make_compute
from sg_ray.training.loop import EpochResult, Interrupted, make_training, never, predict
from sg_ray.training.lr_range import range_test
from sg_ray.training.optimiser import Optimiser
from sg_ray.training.seeding import Seeds, determinism, deterministic

CPU = torch.device("cpu")
ROOMY = 10_000
"""A budget of units that never cuts a batch."""
LENGTH = 10


@pytest.fixture(autouse=True)
def strict(unchanged_mode: None) -> None:
    deterministic(1)


def even_split(num_samples: int, seed: int) -> TinySplit:
    """Samples of one length, so that a budget of k x LENGTH units is one of k samples."""
    split = tiny_split(num_samples, seed)
    return TinySplit([np.resize(s, LENGTH) for s in split.sequences], split.labels)


def start(
    folder: Path,
    model: TinyClassifier,
    config: NeuralConfig,
    should_stop: Callable[[], bool] = never,
    split: Callable[..., TinySplit] = even_split,
) -> Iterator[EpochResult]:
    return make_training(
        model,
        split(45, seed=0),
        split(30, seed=1),
        config,
        seeds=Seeds(1),
        objective="val_roc_auc",
        folder=folder,
        identity={},
        compute=make_compute(config, CPU),
    ).epochs(should_stop)


def after(num_steps: int) -> Callable[[], bool]:
    remaining = iter(range(num_steps - 1, -1, -1))
    return lambda: next(remaining) == 0


def seeded(make: Callable[..., TinyClassifier], *arguments: Any) -> TinyClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make(*arguments)


def plain() -> TinyClassifier:
    return seeded(TinyClassifier)


def roomy(**changes: object) -> NeuralConfig:
    return tiny_config(**{"epochs": 2, "max_units_per_micro_batch": ROOMY, **changes})


def fallbacks(folder: Path) -> dict[str, Any]:
    environment = json.loads((folder / "training_metadata.json").read_text())["environment"]
    return {name: environment[name] for name in ("determinism", "max_units_per_micro_batch")}


def last_state(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "last.pt", weights_only=True)


class Cramped(TinyClassifier):
    """Has memory for ``capacity`` samples at once, in the modes and from the pass that are told."""

    def __init__(self, capacity: int, modes: tuple[bool, ...] = (True, False), first: int = 1):
        super().__init__()
        self.capacity, self.modes, self.first = capacity, modes, first
        self.num_passes = 0

    def embed(self, batch: Batch) -> torch.Tensor:
        self.num_passes += 1
        vectors = super().embed(batch)
        is_full = len(vectors) > self.capacity and self.num_passes >= self.first
        if is_full and self.training in self.modes:
            raise torch.OutOfMemoryError("out of memory")
        return vectors


class NotDeterministic(TinyClassifier):
    """The same numbers by way of an operation that the strict mode refuses, in one mode.

    In training only for pieces of short samples: pieces before them have left a gradient and have
    drawn dropout by then.
    """

    def __init__(self, in_training: bool = True) -> None:
        super().__init__()
        self.in_training = in_training

    def embed(self, batch: Batch) -> torch.Tensor:
        vectors = super().embed(batch)
        is_short = batch["words"].shape[1] < 12
        if self.training != self.in_training or (self.training and not is_short):
            return vectors
        places = torch.arange(vectors.numel()).view_as(vectors)
        return torch.zeros_like(vectors).put(places, vectors)


@pytest.mark.parametrize("first", [1, 2])
def test_out_of_memory_gives_the_bits_of_the_smaller_budget(tmp_path, first):
    # first = 2: the pass before, of the same step, has left a gradient and has drawn dropout.
    small, large = (roomy(max_units_per_micro_batch=n * LENGTH) for n in (2, 4))
    list(start(tmp_path / "small", plain(), small))
    list(start(tmp_path / "cramped", seeded(Cramped, 2, (True,), first), large))
    states = [last_state(tmp_path / name) for name in ("small", "cramped")]
    assert states[0]["fallbacks"] == states[1]["fallbacks"]
    for key in ("model_state_dict", "rng_state"):
        torch.testing.assert_close(states[0][key], states[1][key], rtol=0, atol=0)


def test_out_of_memory_changes_numbers_by_rounding_only(tmp_path):
    models = [seeded(TinyClassifier, 0.0), seeded(Cramped, 2)]
    models[1].dropout.p = 0.0
    losses = [
        [result.metrics["val_loss"] for result in start(tmp_path / str(i), model, roomy(), split=s)]
        for i, (model, s) in enumerate(zip(models, [tiny_split] * 2, strict=True))
    ]
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-5)


def test_memory_is_halved_from_what_failed_not_from_the_setting(tmp_path, caplog):
    model = seeded(Cramped, 2)
    list(start(tmp_path, model, roomy(epochs=1)))
    assert fallbacks(tmp_path)["max_units_per_micro_batch"] == 2 * LENGTH
    found = [record.message for record in caplog.records]
    assert found == [
        f"out of memory with {2 * n} samples at once: at most {n * LENGTH} units in a micro-batch "
        "from now on"
        for n in (4, 2)
    ]


@pytest.mark.parametrize(("in_training", "place"), [(True, "training"), (False, "validation")])
def test_a_sample_too_large_ends_the_training(tmp_path, in_training, place):
    with pytest.raises(OutOfMemory, match=r"a single sample of 10 units\. Lower what one sample"):
        list(start(tmp_path, seeded(Cramped, 0, (in_training,)), roomy()))
    assert not (tmp_path / "last.pt").exists()


def test_memory_that_runs_out_in_the_optimiser_names_the_setting(tmp_path, monkeypatch):
    def exhaust(self: Optimiser) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(Optimiser, "step", exhaust)
    with pytest.raises(OutOfMemory, match=rf"max_units_per_micro_batch \(now {ROOMY}"):
        next(start(tmp_path, plain(), roomy()))


def test_validation_in_little_memory_predicts_the_same_in_split_order(tmp_path):
    list(start(tmp_path, seeded(Cramped, 3, (False,)), roomy()))
    assert fallbacks(tmp_path)["max_units_per_micro_batch"] < 4 * LENGTH
    split = tiny_split(30, seed=1)
    together = predict(plain(), split, roomy(), device=CPU)
    cramped = predict(seeded(Cramped, 3), split, roomy(), device=CPU)
    np.testing.assert_allclose(cramped, together, atol=1e-6)
    with pytest.raises(OutOfMemory, match="a single sample"):
        predict(seeded(Cramped, 0), split, roomy(), device=CPU)


def test_a_resumed_training_keeps_the_smaller_budget(tmp_path):
    list(start(tmp_path / "straight", seeded(Cramped, 2), roomy()))
    for num_steps, model in ((3, seeded(Cramped, 2)), (4, plain())):
        with pytest.raises(Interrupted):
            list(start(tmp_path / "resumed", model, roomy(), after(num_steps)))
    list(start(tmp_path / "resumed", plain(), roomy()))  # memory enough: it must not matter
    assert_same_bits(tmp_path / "straight", tmp_path / "resumed")


@pytest.mark.parametrize("in_training", [True, False])
def test_a_refused_operation_is_allowed_and_its_work_redone(tmp_path, caplog, in_training):
    config = tiny_config(epochs=2)
    list(start(tmp_path / "plain", plain(), config, split=tiny_split))
    assert fallbacks(tmp_path / "plain")["determinism"] == "strict"
    model = seeded(NotDeterministic, in_training)
    list(start(tmp_path / "weak", model, config, split=tiny_split))
    assert fallbacks(tmp_path / "weak")["determinism"] == "weak"
    weights = [last_state(tmp_path / name)["model_state_dict"] for name in ("plain", "weak")]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    assert [(r.levelno, r.message.split()[0]) for r in caplog.records] == [
        (logging.WARNING, "put_")
    ]


def test_a_resumed_training_goes_on_in_weak_mode(tmp_path):
    model, config = seeded(NotDeterministic), tiny_config(epochs=2)
    with pytest.raises(Interrupted):
        list(start(tmp_path, model, config, after(3), split=tiny_split))
    deterministic(1)
    results = start(tmp_path, plain(), config, split=tiny_split)
    assert determinism() == "weak"
    list(results)
    assert fallbacks(tmp_path)["determinism"] == "weak"


def test_other_errors_are_not_mended(tmp_path):
    model = plain()

    def fail(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    model.norm.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        next(start(tmp_path, model, roomy()))
    assert determinism() == "strict"


def curve(
    build: Callable[[], TinyClassifier], split: TinySplit, max_units: int
) -> tuple[list[float], list[float]]:
    found = range_test(
        lambda _: build(),
        split,
        tiny_config(max_units_per_micro_batch=max_units),
        seeds=[1],
        low=1e-5,
        high=1.0,
        num_steps=12,
        device=CPU,
    )
    return found.curves[0].learning_rates, found.curves[0].losses


def test_a_range_test_is_mended_too():
    split = even_split(45, 0)
    cramped = curve(lambda: seeded(Cramped, 2), split, 4 * LENGTH)
    assert cramped == curve(plain, split, 2 * LENGTH)
    weak = curve(lambda: seeded(NotDeterministic), tiny_split(45), 60)
    assert determinism() == "weak"
    assert weak == curve(plain, tiny_split(45), 60)


def test_two_computes_do_not_share_a_budget():
    one, other = (make_compute(roomy(), CPU) for _ in range(2))
    one.fallbacks.limit_units(5)
    assert (one.fallbacks.max_units, other.fallbacks.max_units) == (5, ROOMY)
