"""What a trial's best model says of each sample is kept, and is what it would say again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_classifier import tiny_config, tiny_model, tiny_split

from sg_ray.errors import InputError
from sg_ray.sweep_folder import VALID_PREDICTIONS
from sg_ray.training.compute import make_compute
from sg_ray.training.loop import load_best, make_training, never, predict
from sg_ray.training.predictions import Predictions, read_predictions, write_predictions
from sg_ray.training.seeding import Seeds

CPU = torch.device("cpu")
KEPT = Predictions(np.array([0, 1, 1], dtype=np.int8), np.array([0.25, 1.0, 1 / 3]))


def test_what_is_written_is_read(tmp_path):
    write_predictions(tmp_path / "kept.npz", KEPT)
    found = read_predictions(tmp_path / "kept.npz")
    assert (found.labels.dtype, found.probabilities.dtype) == (np.int8, np.float64)
    assert found.labels.tolist() == KEPT.labels.tolist()
    assert found.probabilities.tobytes() == KEPT.probabilities.tobytes()


def test_no_file_is_no_error(tmp_path):
    assert read_predictions(tmp_path / "kept.npz") is None


def test_equal_predictions_are_equal_bytes(tmp_path):
    for name in ("one", "other"):
        write_predictions(tmp_path / name, KEPT)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(KEPT.probabilities.tobytes()) + 5] ^= 0xFF
    path.write_bytes(content)


def narrow_the_type(path: Path) -> None:
    content = path.read_bytes()
    assert b"'<f8'" in content
    path.write_bytes(content.replace(b"'<f8'", b"'<f4'"))


def store_something_else(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, labels=KEPT.labels)


def store_objects(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, labels=KEPT.labels, probabilities=np.array([path, path, path], dtype=object))


def store_text(path: Path) -> None:
    path.write_text("0 0.25\n1 1.0\n")


@pytest.mark.parametrize(
    "damage",
    [
        cut_in_half,
        make_empty,
        flip_a_byte,
        narrow_the_type,
        store_something_else,
        store_objects,
        store_text,
    ],
)
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / VALID_PREDICTIONS
    write_predictions(path, KEPT)
    damage(path)
    with pytest.raises(InputError, match=r"valid_predictions\.npz: .* Restore the file"):
        read_predictions(path)


@pytest.mark.parametrize(
    "wrong",
    [
        Predictions(KEPT.labels, np.array([0.5, 0.5])),
        Predictions(KEPT.labels, np.array([0.5, 0.5, np.nan])),
        Predictions(KEPT.labels, np.array([0.5, 0.5, 1.5])),
        Predictions(np.array([0, 1, 2], dtype=np.int8), KEPT.probabilities),
    ],
)
def test_what_cannot_be_predictions_is_refused(tmp_path, wrong):
    write_predictions(tmp_path / VALID_PREDICTIONS, wrong)
    with pytest.raises(InputError, match="no valid predictions"):
        read_predictions(tmp_path / VALID_PREDICTIONS)


def test_a_training_keeps_what_its_best_model_says_again_bit_for_bit(tmp_path):
    split, config = tiny_split(30, seed=1), tiny_config()
    epochs = make_training(
        tiny_model(),
        tiny_split(),
        split,
        config,
        seeds=Seeds(1),
        objective="val_loss",
        folder=tmp_path,
        identity={},
        compute=make_compute(config, CPU),
    ).epochs(never)
    for result in epochs:
        model = tiny_model(seed=9)
        load_best(model, tmp_path)
        kept = read_predictions(tmp_path / VALID_PREDICTIONS)
        again = predict(model, split, config, device=CPU)
        assert kept.probabilities.tobytes() == again.tobytes(), result.epoch
        np.testing.assert_array_equal(kept.labels, split.labels)


def test_a_training_keeps_the_best_epochs_and_not_the_last_ones(tmp_path):
    config = tiny_config(learning_rate=1.0, warmup_ratio=0)
    kept = []
    results = []
    # The loss grows from the first epoch on: the best one is not the last.
    for result in make_training(
        tiny_model(),
        tiny_split(),
        tiny_split(30, seed=1),
        config,
        seeds=Seeds(1),
        objective="val_loss",
        folder=tmp_path,
        identity={},
        compute=make_compute(config, CPU),
    ).epochs(never):
        results.append(result)
        kept.append((tmp_path / VALID_PREDICTIONS).read_bytes())
    assert not results[-1].is_best
    assert len(set(kept)) == sum(result.is_best for result in results)
    best = max(number for number, result in enumerate(results) if result.is_best)
    assert kept[-1] == kept[best]
