"""The winner on the test split."""

import numpy as np
import pytest
from made_sweep import SEARCH_SEED, MadeSweep, draw_labels, probabilities
from sklearn.metrics import log_loss, roc_auc_score

from sg_ray.sweep_folder import TEST_PREDICTIONS, SweepFolder
from sg_ray.verdict.held_out import score_on_test
from sg_ray.verdict.trials import read_results

SEEDS = (SEARCH_SEED, 1, 2)


def on_test(folder):
    return score_on_test(SweepFolder(folder), read_results(SweepFolder(folder)))


def make(folder, objective):
    made = MadeSweep(folder, objective=objective, seeds=SEEDS)
    labels, rng = draw_labels(250), np.random.default_rng(0)
    valid = {seed: probabilities(rng, labels, 0.8) for seed in SEEDS}
    records = [made.predict("gnn", "a", seed, labels, row) for seed, row in valid.items()]
    test_labels = draw_labels(350, seed=9)
    test = np.stack([probabilities(rng, test_labels, 0.5) for _ in SEEDS])
    made.test(records, test_labels, test)
    return made, records, (labels, list(valid.values())), (test_labels, test)


def test_it_is_over_all_seeds_that_were_scored(tmp_path):
    _, records, (labels, valid), (test_labels, test) = make(tmp_path, "val_roc_auc")
    score = on_test(tmp_path)
    mean = np.mean([roc_auc_score(test_labels, row) for row in test])
    validation = np.mean([roc_auc_score(labels, row) for row in valid])
    assert (score.model, score.config_hash) == ("gnn", records[0].config_hash)
    assert score.metric == "test_roc_auc"
    assert score.mean == pytest.approx(mean)
    assert score.validation_mean == pytest.approx(validation)
    assert score.gap == pytest.approx(validation - mean)
    assert score.gap > 0
    assert score.interval.low < mean < score.interval.high


def test_a_loss_that_is_higher_on_test_was_flattered_by_validation(tmp_path):
    _, _, (labels, valid), (test_labels, test) = make(tmp_path, "val_loss")
    score = on_test(tmp_path)
    test_loss = np.mean([log_loss(test_labels, row) for row in test])
    valid_loss = np.mean([log_loss(labels, row) for row in valid])
    assert score.gap == pytest.approx(test_loss - valid_loss)
    assert score.gap > 0


def test_without_predictions_there_is_no_interval(tmp_path):
    make(tmp_path, "val_roc_auc")
    next(tmp_path.rglob(TEST_PREDICTIONS)).unlink()
    assert on_test(tmp_path).interval is None


def test_nothing_is_said_before_the_test_or_once_its_records_are_gone(tmp_path):
    _, records, _, _ = make(tmp_path, "val_roc_auc")
    (tmp_path / "records" / f"{records[1].trial_key}.json").unlink()
    assert on_test(tmp_path) is None
    (tmp_path / "test.json").unlink()
    assert on_test(tmp_path) is None
