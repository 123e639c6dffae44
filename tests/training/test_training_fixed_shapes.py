"""One set of shapes for all steps: the same training, whatever path computes it."""

import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from same_bits import assert_same_bits
from torch.utils._python_dispatch import TorchDispatchMode

from sg_ray.errors import Diverged
from sg_ray.features.packed import FeatureKind, Features, Ragged
from sg_ray.models.family import Batch, Classifier, Inputs
from sg_ray.models.transformer import Transformer, TransformerConfig
from sg_ray.training.ahead import THREAD, made_ahead
from sg_ray.training.batches import epoch_batches
from sg_ray.training.compute import make_compute
from sg_ray.training.fixed_shapes import FixedShapes
from sg_ray.training.loop import Interrupted, Training, make_training, never
from sg_ray.training.optimiser import Optimiser
from sg_ray.training.seeding import Seeds, deterministic
from sg_ray.training.step import Stepper

CPU = torch.device("cpu")
NUM_SAMPLES = 93


@pytest.fixture(autouse=True)
def strict(unchanged_mode: None) -> None:
    deterministic(1)


def config_of(**settings: Any) -> TransformerConfig:
    architecture = {"num_layers": 2, "hidden_dim": 8, "num_heads": 2, "feed_forward_dim": 8}
    training = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, "max_tokens": 24}
    memory = {"max_units_per_micro_batch": 80}
    return TransformerConfig.model_validate({**architecture, **training, **memory, **settings})


def inputs_of(config: TransformerConfig) -> Inputs:
    rng = np.random.default_rng(2)
    items = [rng.integers(5, 40, size=rng.integers(1, 40)) for _ in range(NUM_SAMPLES)]
    labels = np.array([7 in item for item in items], dtype=np.int8)
    splits = {name: {"ids": Ragged.pack(items)} for name in ("train", "valid")}
    meta = {"vocab_size": 40, "bos_id": 0, "pad_id": 1, "eos_id": 2, "unk_id": 3}
    kind = FeatureKind(meta, splits)
    return Inputs(Features("f", dict.fromkeys(splits, labels), {config.tokens.key: kind}))


def training_in(folder: Path, config: TransformerConfig, model: Any = None) -> Training:
    family, inputs = Transformer(), inputs_of(config)
    torch.manual_seed(0)
    return make_training(
        model or family.build(config, inputs),
        family.split_data(config, inputs, "train"),
        family.split_data(config, inputs, "valid"),
        config,
        seeds=Seeds(1),
        objective="val_roc_auc",
        folder=folder,
        identity={},
        compute=make_compute(config, CPU),
    )


def num_threads() -> int:
    return sum(thread.name == THREAD for thread in threading.enumerate())


def curve(training: Training) -> list[float]:
    results = list(training.epochs(never))
    return [r.metrics[name] for r in results for name in ("train_loss", "val_loss")]


class Watch(TorchDispatchMode):
    """Counts calls into torch, and takes note of the shapes of what it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.num_calls = 0
        self.shapes: Counter[Any] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.num_calls += 1
        if isinstance(result, torch.Tensor):
            self.shapes[(str(func), tuple(result.shape))] += 1
        return result


def test_two_hundred_steps_have_one_set_of_shapes_and_as_many_calls_each() -> None:
    config = config_of(epochs=17, fixed_shapes="on")
    family, inputs = Transformer(), inputs_of(config)
    split, model = family.split_data(config, inputs, "train"), family.build(config, inputs)
    compute = make_compute(config, CPU)
    batches = [batch for epoch in range(1, 18) for batch in epoch_batches(split, config, 1, epoch)]
    assert len(batches) > 200
    assert len({len(batch) for batch in batches}) == 2  # the last of an epoch is smaller
    shapes = FixedShapes.of(split, batches, config.max_units_per_micro_batch)  # type: ignore[arg-type]
    optimiser = Optimiser(model, config, lambda _: 1.0, compute.precision.grad_scaler())
    stepper = Stepper(model, split, optimiser, compute, shapes)
    assert stepper.way == "fixed"
    read, steps = set(), []
    for batch in batches:
        prepared = stepper.prepare(batch)
        read.add(
            tuple(
                (name, tuple(tensor.shape), tensor.dtype)
                for piece in prepared.pieces
                for name, tensor in piece.tensors.items()
            )
        )
        if len(steps) < 14:
            with Watch() as watch:
                stepper.launch(prepared).read()
            steps.append((watch.num_calls, watch.shapes))
    assert len(read) == 1
    assert len(next(iter(read))) == 3 * shapes.num_pieces > 3
    # Attention works on each sequence, as long as it is; all else is of one set of shapes.
    # AdamW makes its moments in the first.
    assert {num_calls for num_calls, _ in steps[1:]} == {steps[1][0]}
    products = [{k: n for k, n in each.items() if "mm" in k[0]} for _, each in steps]
    assert all(each == products[0] for each in products)


def test_results_are_those_of_the_plain_path(tmp_path: Path) -> None:
    curves = []
    for wish in ("on", "off"):
        training = training_in(tmp_path / wish, config_of(fixed_shapes=wish, dropout=0.0))
        curves.append(curve(training))
        metadata = json.loads((tmp_path / wish / "training_metadata.json").read_text())
        environment = metadata["environment"]
        assert environment["step"] == {"on": "fixed", "off": "plain"}[wish]
        assert environment["batches"] == "packed"
    np.testing.assert_allclose(curves[0], curves[1], atol=2e-5)


def test_same_seed_same_bits_and_a_stop_in_an_epoch_changes_none(tmp_path: Path) -> None:
    config = config_of(fixed_shapes="on")
    whole = curve(training_in(tmp_path / "whole", config))
    steps = iter(range(100))
    with pytest.raises(Interrupted):
        list(training_in(tmp_path / "stopped", config).epochs(lambda: next(steps) == 16))
    assert curve(training_in(tmp_path / "stopped", config))[-2:] == whole[-2:]
    assert_same_bits(tmp_path / "whole", tmp_path / "stopped")


class TestLateReading:
    """As on a GPU: batches are made ahead in a thread, numbers are read a step late."""

    def late(self, training: Training) -> Training:
        training._lead, training._lag = 2, 1
        return training

    def test_it_changes_no_bit_also_across_a_stop(self, tmp_path: Path) -> None:
        config = config_of()
        curve(training_in(tmp_path / "at once", config))
        curve(self.late(training_in(tmp_path / "late", config)))
        assert_same_bits(tmp_path / "at once", tmp_path / "late")
        steps = iter(range(100))
        stopped = self.late(training_in(tmp_path / "stopped", config))
        with pytest.raises(Interrupted, match="epoch 2, step 5"):
            list(stopped.epochs(lambda: next(steps) == 16))
        curve(self.late(training_in(tmp_path / "stopped", config)))
        assert_same_bits(tmp_path / "at once", tmp_path / "stopped")
        assert num_threads() == 0

    def test_divergence_names_its_own_step_and_nothing_is_saved(self, tmp_path: Path) -> None:
        config = config_of()
        model = Transformer().build(config, inputs_of(config))
        training = self.late(training_in(tmp_path, config, BreaksAt(model, 4)))
        with pytest.raises(Diverged, match="epoch 1, step 4"):
            list(training.epochs(never))
        assert not (tmp_path / "last.pt").exists()
        assert num_threads() == 0


class BreaksAt(Classifier):
    """Gives no numbers from a step on."""

    def __init__(self, model: Classifier, step: int) -> None:
        super().__init__()
        self.model, self.left = model, step
        self.seed: int | None = None

    def embed(self, batch: Batch) -> torch.Tensor:
        if torch.initial_seed() != self.seed:  # of a step, not of a micro-batch
            self.seed, self.left = torch.initial_seed(), self.left - 1
        embedding = self.model.embed(batch)
        return embedding * torch.nan if self.left <= 0 else embedding

    def classify(self, embedding: torch.Tensor) -> torch.Tensor:
        return self.model.classify(embedding)


class TestMadeAhead:
    @pytest.mark.parametrize("depth", [0, 1, 3])
    def test_all_come_in_order(self, depth: int) -> None:
        with made_ahead(str, range(50), depth) as made:
            assert list(made) == [str(number) for number in range(50)]
        assert num_threads() == 0

    @pytest.mark.parametrize("depth", [0, 2])
    def test_an_error_comes_where_its_item_is_asked_for(self, depth: int) -> None:
        with made_ahead(lambda number: 6 // number, [3, 2, 0, 1], depth) as made:
            assert next(made) == 2
            assert next(made) == 3
            with pytest.raises(ZeroDivisionError):
                next(made)
        assert num_threads() == 0

    def test_who_leaves_early_leaves_no_thread(self) -> None:
        with made_ahead(str, range(1_000_000), 2) as made:
            assert next(made) == "0"
            assert num_threads() == 1
        assert num_threads() == 0
