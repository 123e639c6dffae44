import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from same_bits import TRIAL_FILES
from tiny_classifier import TinyClassifier, TinySplit, tiny_config, tiny_model, tiny_split

from sg_ray.errors import Diverged, InputError
from sg_ray.models.family import NeuralConfig
from sg_ray.training.batches import micro_batches
from sg_ray.training.compute import make_compute
from sg_ray.training.loop import EpochResult, load_best, make_training, never, predict
from sg_ray.training.metrics import OBJECTIVES
from sg_ray.training.optimiser import Optimiser
from sg_ray.training.seeding import Seeds
from sg_ray.training.step import Stepper

CPU = torch.device("cpu")


def start(
    folder: Path,
    config: NeuralConfig,
    *,
    model: TinyClassifier | None = None,
    splits: tuple[TinySplit, TinySplit] | None = None,
    objective: str = "val_roc_auc",
    seed: int = 1,
) -> Iterator[EpochResult]:
    train_split, valid_split = splits or (tiny_split(), tiny_split(30, seed=1))
    return make_training(
        model or tiny_model(),
        train_split,
        valid_split,
        config,
        seeds=Seeds(seed),
        objective=objective,
        folder=folder,
        identity={"family": "tiny", "trial_key": "abc"},
        compute=make_compute(config, CPU),
    ).epochs(never)


def gradient(config: NeuralConfig, split: TinySplit, batch: np.ndarray) -> list[torch.Tensor]:
    """The gradient that one step collects, before clipping changes it."""
    model = tiny_model(dropout=0.0)
    compute = make_compute(config, CPU)
    scaler = compute.precision.grad_scaler()
    stepper = Stepper(model, split, Optimiser(model, config, lambda step: 1.0, scaler), compute)
    stepper._collect(stepper.prepare(batch))
    return [parameter.grad for parameter in model.parameters()]


def test_training_learns_and_reports_every_metric(tmp_path):
    results = list(
        start(tmp_path, tiny_config(epochs=6), splits=(tiny_split(300), tiny_split(80, 1)))
    )
    assert [result.epoch for result in results] == [1, 2, 3, 4, 5, 6]
    assert [result.stop_reason for result in results] == [None] * 5 + ["epochs"]
    expected = {
        "train_loss",
        "scheduled_learning_rate",
        "samples_per_s",
        "epoch_time_s",
        "val_threshold",
    }
    assert set(results[0].metrics) == expected | set(OBJECTIVES)
    assert results[-1].metrics["val_roc_auc"] > 0.8
    assert results[-1].metrics["train_loss"] < results[0].metrics["train_loss"]


def test_files_after_training_agree_with_the_results(tmp_path):
    results = list(start(tmp_path, tiny_config()))
    best = max(results, key=lambda result: result.metrics["val_roc_auc"])
    metadata = json.loads((tmp_path / "training_metadata.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert metadata["best_epoch"] == best.epoch
    assert metadata["metrics"] == dict(best.metrics)
    assert metadata["best_val_f1"] == max(result.metrics["val_f1"] for result in results)
    assert metadata["identity"] == {"family": "tiny", "trial_key": "abc"}
    assert (metadata["seed"], metadata["stop_reason"]) == (1, "epochs")
    assert lines == [{"epoch": result.epoch, **result.metrics} for result in results]
    assert {path.name for path in tmp_path.iterdir()} == TRIAL_FILES


def test_every_epoch_is_on_disk_when_it_is_reported(tmp_path):
    for result in start(tmp_path, tiny_config()):
        last = torch.load(tmp_path / "last.pt", weights_only=True)
        assert (last["epoch"], last["step_in_epoch"]) == (result.epoch, 0)
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == result.epoch
        if result.is_best:
            assert (
                torch.load(tmp_path / "best_model.pt", weights_only=True)["epoch"] == result.epoch
            )


def test_best_model_gives_its_metrics_again(tmp_path):
    split = tiny_split(30, seed=1)
    list(start(tmp_path, tiny_config()))
    model = tiny_model(seed=9)
    best = load_best(model, tmp_path)
    probabilities = predict(model, split, tiny_config(), device=CPU)
    accuracy = ((probabilities >= best["threshold"]) == split.labels).mean()
    assert accuracy == pytest.approx(best["metrics"]["val_accuracy_at_threshold"])


def test_predictions_come_in_split_order_and_leave_the_mode_alone():
    split, model = tiny_split(), tiny_model()
    model.train()
    together = predict(model, split, tiny_config(), device=CPU)
    assert model.training
    model.eval()
    with torch.no_grad():
        one_by_one = [
            torch.sigmoid(model(split.collate(np.array([index])))).item() for index in range(45)
        ]
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)


def test_accumulated_gradient_equals_that_of_the_whole_batch():
    split, batch = tiny_split(), np.arange(13)
    whole = gradient(tiny_config(max_units_per_micro_batch=10_000), split, batch)
    cut = gradient(tiny_config(max_units_per_micro_batch=30), split, batch)
    assert len(micro_batches(batch, split.units, 30, padded=True)) > 4
    for one, other in zip(whole, cut, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_memory_settings_do_not_change_what_is_learned(tmp_path):
    losses = []
    for max_units in (40, 100_000):
        config = tiny_config(max_units_per_micro_batch=max_units)
        results = start(tmp_path / str(max_units), config, model=tiny_model(dropout=0.0))
        losses.append([result.metrics["val_loss"] for result in results])
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-5)


@pytest.mark.parametrize("padded", [True, False])
def test_no_forward_pass_exceeds_the_budget(tmp_path, padded):
    splits = tiny_split(), tiny_split(30, seed=1)
    for split in splits:
        split.padded = padded
    list(start(tmp_path, tiny_config(epochs=1, max_units_per_micro_batch=50), splits=splits))
    assert 24 <= max(split.largest_batch for split in splits) <= 50


def test_a_last_batch_of_one_sample_and_samples_above_the_budget(tmp_path):
    splits = tiny_split(17), tiny_split(9, seed=1)
    results = list(start(tmp_path, tiny_config(max_units_per_micro_batch=1), splits=splits))
    assert len(results) == 4


@pytest.mark.parametrize("weighted", [False, True])
def test_same_seed_same_numbers_another_seed_others(tmp_path, weighted):
    config = tiny_config(weighted_sampling=weighted)

    def losses(name: str, seed: int) -> list[float]:
        results = start(tmp_path / name, config, seed=seed)
        return [result.metrics["train_loss"] for result in results]

    first = losses("a", 1)
    assert losses("b", 1) == first
    assert losses("c", 2) != first


def test_early_stopping_waits_for_its_patience(tmp_path):
    # With no learning rate to speak of nothing improves after the first epoch.
    config = tiny_config(epochs=9, learning_rate=1e-30, early_stopping_patience=2)
    results = list(start(tmp_path, config, objective="val_f1"))
    assert [result.is_best for result in results] == [True, False, False]
    assert [result.stop_reason for result in results] == [None, None, "early_stopping"]


def test_the_loss_as_objective_is_minimised(tmp_path):
    results = list(start(tmp_path, tiny_config(), objective="val_loss"))
    metadata = json.loads((tmp_path / "training_metadata.json").read_text())
    assert metadata["metrics"]["val_loss"] == min(result.metrics["val_loss"] for result in results)


def test_undefined_metrics_are_null_in_the_files(tmp_path):
    splits = tiny_split(), tiny_split(9, seed=1, share_positive=1.0)
    list(start(tmp_path, tiny_config(epochs=1), splits=splits, objective="val_loss"))
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["val_roc_auc"] is None


def test_divergence_names_epoch_step_and_learning_rate(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.head.bias.fill_(math.nan)
    with pytest.raises(Diverged, match=r"diverged: .*nan.* epoch 1, step 1, .*rate 0\.005"):
        next(start(tmp_path, tiny_config(warmup_ratio=0.1), model=model))
    assert not (tmp_path / "last.pt").exists()


def test_validation_that_is_not_finite_is_divergence_too(tmp_path):
    model = tiny_model()
    model.dropout.register_forward_hook(
        lambda module, inputs, output: output if module.training else output * math.inf
    )
    with pytest.raises(Diverged, match="diverged: validation logits"):
        next(start(tmp_path, tiny_config(), model=model))


@pytest.mark.parametrize(("empty", "name"), [(0, "train"), (1, "valid")])
def test_an_empty_split_is_refused_by_name(tmp_path, empty, name):
    splits = [tiny_split(), tiny_split()]
    splits[empty] = tiny_split(0)
    with pytest.raises(InputError, match=f"the {name} split is empty"):
        start(tmp_path, tiny_config(), splits=tuple(splits), objective="val_loss")


def test_bf16_trains_on_cpu(tmp_path):
    results = list(start(tmp_path, tiny_config(precision="bf16")))
    metadata = json.loads((tmp_path / "training_metadata.json").read_text())
    assert metadata["environment"]["precision"] == "bf16"
    assert results[-1].metrics["train_loss"] < results[0].metrics["train_loss"]
