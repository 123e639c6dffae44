from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_classifier import TinyClassifier, tiny_config, tiny_model, tiny_split

from sg_ray.errors import Collapsed
from sg_ray.models.family import Batch, NeuralConfig
from sg_ray.training.collapse import auc_standard_error, is_collapsed
from sg_ray.training.compute import make_compute
from sg_ray.training.loop import EpochResult, make_training, never
from sg_ray.training.metrics import roc_auc
from sg_ray.training.precision import Precision
from sg_ray.training.seeding import Seeds

LABELS = (np.arange(200) % 2).astype(np.int8)
NOISE = np.random.default_rng(0).normal(size=200)


class Constant(TinyClassifier):
    """The same answer for every sample; only the readout's bias learns. Sound while told so."""

    def __init__(self, sound_epochs: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.sound_epochs = sound_epochs
        self.num_validations = 0

    def train(self, mode: bool = True) -> "Constant":
        self.num_validations += self.training and not mode
        return super().train(mode)

    def embed(self, batch: Batch) -> torch.Tensor:
        is_sound = self.num_validations in self.sound_epochs
        return super().embed(batch) * float(is_sound)


def start(folder: Path, model: TinyClassifier, config: NeuralConfig) -> Iterator[EpochResult]:
    return make_training(
        model,
        tiny_split(45),
        tiny_split(60, seed=1),
        config,
        seeds=Seeds(1),
        objective="val_roc_auc",
        folder=folder,
        identity={},
        compute=make_compute(config, torch.device("cpu")),
    ).epochs(never)


def epochs_until_collapse(training: Iterator[EpochResult]) -> list[int]:
    epochs = []
    with pytest.raises(Collapsed, match=r"collapsed: the last \d+ validations"):
        epochs.extend(result.epoch for result in training)
    return epochs


def test_standard_error_is_that_of_random_rankings():
    rng = np.random.default_rng(1)
    labels = (np.arange(60) < 20).astype(np.int8)
    found = np.std([roc_auc(labels, rng.normal(size=60)) for _ in range(4000)])
    assert auc_standard_error(40, 20) == pytest.approx(found, rel=0.05)


FP32, BF16 = (Precision(name, "cpu").resolution for name in ("fp32", "bf16"))


@pytest.mark.parametrize("resolution", [FP32, BF16])
def test_equal_answers_are_a_collapse_also_when_the_set_is_small(resolution):
    for num_samples in (1, 4, 200):
        for logit in (0.0, -0.3, 40.0):
            logits = np.full(num_samples, logit)
            assert is_collapsed(LABELS[:num_samples], logits, resolution)


def test_rounding_does_not_make_answers_different():
    for centre in (0.0, -0.3, 3.0):
        rounded = (centre + 1e-7 * NOISE).astype(np.float32).astype(np.float64)
        assert is_collapsed(LABELS, rounded, FP32)
    neighbours = torch.tensor([0.5156, 0.5195], dtype=torch.bfloat16).double().numpy()
    jitter = neighbours[(NOISE > 0).astype(int)]
    assert neighbours[0] < neighbours[1]
    assert is_collapsed(LABELS, jitter, BF16)
    assert not is_collapsed(LABELS, jitter, FP32)


def test_answers_that_tell_the_classes_apart_are_none_however_alike():
    assert not is_collapsed(LABELS, -0.3 + 1e-7 * (NOISE + 2 * LABELS), FP32)
    assert is_collapsed(LABELS, -0.3 + 1e-7 * (NOISE - 2 * LABELS), FP32)  # upside down


@pytest.mark.parametrize("num_positive", [0, 9])
def test_with_few_samples_of_a_class_their_order_is_not_asked(num_positive):
    labels = (np.arange(200) < num_positive).astype(np.int8)
    assert is_collapsed(labels, -0.3 + 1e-7 * labels, FP32)
    assert not is_collapsed(np.roll(LABELS, 1), -0.3 + 1e-7 * np.roll(LABELS, 1), FP32)


@pytest.mark.parametrize("spread", [7e-4, 0.02])
@pytest.mark.parametrize("resolution", [FP32, BF16])
def test_a_slow_model_with_the_logits_it_was_born_with_is_none(spread, resolution):
    assert abs(roc_auc(LABELS, NOISE) - 0.5) < 2 * auc_standard_error(100, 100)
    assert not is_collapsed(LABELS, -0.07 + spread * NOISE, resolution)


def test_a_constant_model_is_stopped_after_its_patience(tmp_path):
    config = tiny_config(epochs=9, collapse_patience=3)
    assert epochs_until_collapse(start(tmp_path, Constant(), config)) == [1, 2, 3]
    assert not (tmp_path / "training_metadata.json").exists()
    again = epochs_until_collapse(start(tmp_path, Constant(), config))
    assert again == []  # a resume decides the same


def test_a_resumed_training_goes_on_counting(tmp_path):
    config = tiny_config(epochs=9, collapse_patience=3)
    training = start(tmp_path, Constant(), config)
    assert [next(training).epoch, next(training).epoch] == [1, 2]
    assert epochs_until_collapse(start(tmp_path, Constant(), config)) == [3]


def test_one_sound_validation_starts_the_count_again(tmp_path):
    config = tiny_config(epochs=9, collapse_patience=3)
    training = start(tmp_path, Constant(sound_epochs=(2, 3)), config)
    assert epochs_until_collapse(training) == [1, 2, 3, 4, 5, 6]


def test_a_training_at_its_end_is_not_failed(tmp_path):
    config = tiny_config(epochs=3, collapse_patience=3)
    assert [r.stop_reason for r in start(tmp_path, Constant(), config)] == [None, None, "epochs"]


def test_without_patience_nobody_is_stopped(tmp_path):
    config = tiny_config(epochs=7, collapse_patience=None)
    assert len(list(start(tmp_path, Constant(), config))) == 7


@pytest.mark.parametrize("learning_rate", [1e-12, 1e-6, 1e-4, 1e-2])
def test_slow_and_sound_trainings_are_let_alone(tmp_path, learning_rate):
    config = tiny_config(epochs=4, learning_rate=learning_rate, collapse_patience=1)
    assert len(list(start(tmp_path, tiny_model(), config))) == 4
