"""Two real processes (gloo) train the same model as one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from same_bits import TRIAL_FILES
from tiny_classifier import tiny_split
from two_workers import CONFIG, STATE, alone, scenarios, whole_model

from sg_ray.sweep_folder import VALID_PREDICTIONS
from sg_ray.training.metrics import roc_auc
from sg_ray.training.predictions import read_predictions

Found = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    torch.multiprocessing.spawn(scenarios, args=(folder,), nprocs=2)
    return folder


@pytest.fixture(scope="module")
def ranks(folder) -> tuple[Found, Found]:
    return tuple(torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> Found:
    return alone(tmp_path_factory.mktemp("one"))


def assert_equal_training(one: Found, other: Found) -> None:
    torch.testing.assert_close(one["weights"], other["weights"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(one["probabilities"], other["probabilities"], atol=1e-5)
    for first, second in zip(one["metrics"], other["metrics"], strict=True):
        for name in first.keys() - {"samples_per_s", "epoch_time_s"}:
            assert first[name] == pytest.approx(second[name], abs=1e-5), name


def test_two_workers_equal_one_also_with_an_empty_share_and_unused_parameters(ranks, single):
    assert len(single["metrics"]) == 2
    for found in ranks:
        assert_equal_training(found["together"], single)


def test_positions_by_time_are_saved_together_and_change_no_bit(ranks):
    for found in ranks:
        assert found["by_time"]["probabilities"] == found["together"]["probabilities"]
        for name, value in found["together"]["weights"].items():
            assert torch.equal(found["by_time"]["weights"][name], value)


def test_gather_joins_different_lengths_in_rank_order(ranks):
    for found in ranks:
        assert found["gathered"].tolist() == [0, 1, 2]


def test_flags_are_agreed(ranks):
    for found in ranks:
        assert found["any"] == [False, True, True]


def test_a_stop_asked_of_one_stops_both_and_is_resumed_mid_epoch(ranks, single):
    for found in ranks:
        assert found["stopped"].startswith("Interrupted: stopped at epoch 1, step 7")
        assert_equal_training(found["resumed"], single)


def test_a_position_is_sent_only_to_those_who_do_not_see_its_file(ranks, single):
    for found in ranks:
        assert_equal_training(found["resumed_in_sight"], single)
    first, second = ranks
    assert (first["num_sent"], first["num_sent_in_sight"]) == (0, 0)
    assert (second["num_sent"], second["num_sent_in_sight"]) == (1, 1)


def test_a_state_arrives_as_it_was(ranks):
    for found in ranks:
        sent = found["states"]
        assert sent.keys() == STATE.keys()
        assert sent["text"] == STATE["text"]
        for name in ("matrix", "nothing", "nested"):
            torch.testing.assert_close(sent[name], STATE[name], rtol=0, atol=0)


def test_two_workers_equal_one_where_no_unused_parameters_are_looked_for(ranks, tmp_path):
    expected = alone(tmp_path, whole_model())
    for found in ranks:
        assert_equal_training(found["whole"], expected)


def test_an_error_reading_the_checkpoint_reaches_both(ranks):
    for found in ranks:
        assert found["refused"].startswith("InputError:")
        assert "config.epochs: 2 in the file, 9 now" in found["refused"]


def test_divergence_on_one_ends_both(ranks):
    for found in ranks:
        assert found["diverged"].startswith("Diverged: diverged")


def test_memory_that_runs_out_on_one_changes_nothing_but_is_remembered(ranks, single, folder):
    for found in ranks:
        assert_equal_training(found["cramped"], single)
    last = torch.load(folder / "cramped" / "last.pt", weights_only=True)
    assert last["fallbacks"]["max_units_per_micro_batch"] < 60 == CONFIG.max_units_per_micro_batch


def test_memory_that_runs_out_while_gradients_are_exchanged_ends_the_training(ranks):
    for found in ranks:
        assert found["exhausted"].startswith("OutOfMemory: out of memory")
        assert "Lower max_units_per_micro_batch (now 60" in found["exhausted"]


def test_only_rank_0_writes(folder):
    assert not (folder / "elsewhere").exists()
    assert {path.name for path in (folder / "together").iterdir()} == TRIAL_FILES


def test_rank_0_keeps_what_all_ranks_predict(folder):
    kept = read_predictions(folder / "together" / VALID_PREDICTIONS)
    labels = tiny_split(30, seed=1).labels
    np.testing.assert_array_equal(kept.labels, labels)
    best = torch.load(folder / "together" / "best_model.pt", weights_only=True)
    assert roc_auc(labels, kept.probabilities) == best["metrics"]["val_roc_auc"]
