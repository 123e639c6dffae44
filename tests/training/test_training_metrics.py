import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from sg_ray.errors import InputError
from sg_ray.training.metrics import (
    OBJECTIVES,
    check_objective,
    confusion,
    direction,
    is_better,
    log_loss,
    pr_auc,
    roc_auc,
    scored,
    sigmoid,
    tune_threshold,
    validation_metrics,
)


def random_case(seed: int, num_levels: int | None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(300) < rng.uniform(0.05, 0.95)).astype(np.int8)
    scores = rng.normal(labels * 0.7, 1.0)
    if num_levels:
        scores = np.round(sigmoid(scores) * num_levels) / num_levels
    return labels, scores


CASES = [(seed, levels) for seed in range(6) for levels in (None, 1, 2, 10)]


@pytest.mark.parametrize(("seed", "num_levels"), CASES)
def test_ranking_metrics_agree_with_sklearn_also_with_ties(seed, num_levels):
    labels, scores = random_case(seed, num_levels)
    assert roc_auc(labels, scores) == pytest.approx(
        sklearn_metrics.roc_auc_score(labels, scores), abs=1e-12
    )
    assert pr_auc(labels, scores) == pytest.approx(
        sklearn_metrics.average_precision_score(labels, scores), abs=1e-12
    )


@pytest.mark.parametrize("seed", range(6))
def test_metrics_at_a_threshold_agree_with_sklearn(seed):
    labels, logits = random_case(seed, None)
    predicted = (sigmoid(logits) >= 0.5).astype(int)
    found = validation_metrics(labels, logits)
    expected = {
        "val_accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        "val_precision": sklearn_metrics.precision_score(labels, predicted),
        "val_recall": sklearn_metrics.recall_score(labels, predicted),
        "val_f1": sklearn_metrics.f1_score(labels, predicted),
        "val_mcc": sklearn_metrics.matthews_corrcoef(labels, predicted),
        "val_loss": sklearn_metrics.log_loss(labels, sigmoid(logits)),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_constant_scores_rank_nothing():
    labels = np.array([0, 1, 1, 0, 1])
    assert roc_auc(labels, np.full(5, 0.3)) == 0.5
    assert pr_auc(labels, np.full(5, 0.3)) == pytest.approx(0.6)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_ranking_metric_and_finite_others(label):
    found = validation_metrics(np.full(4, label), np.array([-1.0, 0.5, 2.0, 2.0]))
    undefined = {name for name, value in found.items() if math.isnan(value)}
    assert undefined == {"val_roc_auc", "val_pr_auc"}
    assert found["val_mcc"] == 0.0
    assert found["val_threshold"] == 0.5


def test_one_sample_is_enough():
    assert validation_metrics(np.array([1]), np.array([3.0]))["val_accuracy"] == 1.0


def test_no_predicted_positive_gives_zero_not_a_division():
    outcomes = confusion(np.array([1, 0]), np.array([False, False]))
    assert float(outcomes.precision) == float(outcomes.f1) == float(outcomes.mcc) == 0.0


def test_extreme_logits_neither_overflow_nor_lose_the_loss():
    logits = np.array([1000.0, -1000.0])
    np.testing.assert_array_equal(sigmoid(logits), [1.0, 0.0])
    assert log_loss(np.array([0, 1]), logits) == 1000.0


@pytest.mark.parametrize("metric", ["mcc", "f1"])
@pytest.mark.parametrize(("seed", "num_levels"), CASES)
def test_tuned_threshold_is_as_good_as_any(metric, seed, num_levels):
    labels, scores = random_case(seed, num_levels)
    probabilities = sigmoid(scores)
    threshold = tune_threshold(labels, probabilities, metric)

    def score(at: float) -> float:
        return float(getattr(confusion(labels, probabilities >= at), metric))

    assert score(threshold) == pytest.approx(max(score(at) for at in probabilities), abs=1e-12)


def test_equally_good_thresholds_the_nearest_to_one_half_wins():
    labels = np.array([0, 1])
    assert tune_threshold(labels, np.array([0.4, 0.6])) == 0.5
    assert tune_threshold(labels, np.array([0.4, 0.5])) == 0.5
    assert tune_threshold(labels, np.array([0.6, 0.8])) == pytest.approx(0.7)
    labels = np.array([0, 1, 0, 1])  # above 0.2 and above 0.8 are equally good
    assert tune_threshold(labels, np.array([0.1, 0.3, 0.7, 0.75])) == pytest.approx(0.725)


def test_threshold_lies_between_adjacent_floats():
    low = 0.7
    high = np.nextafter(low, 1)
    assert tune_threshold(np.array([0, 1]), np.array([low, high])) == high


def test_useless_probabilities_keep_the_default_threshold():
    assert tune_threshold(np.array([0, 1]), np.array([0.9, 0.1])) == 0.5


def test_only_the_loss_is_minimised():
    assert [name for name in OBJECTIVES if direction(name) == "minimise"] == ["val_loss"]
    assert is_better("val_loss", 0.4, 0.5)
    assert is_better("val_f1", 0.5, 0.4)
    assert not is_better("val_f1", 0.5, 0.5)


def test_nan_is_never_the_best_and_gives_way_to_anything():
    assert not is_better("val_f1", math.nan, None)
    assert not is_better("val_f1", math.nan, 0.1)
    assert is_better("val_f1", 0.1, math.nan)


def test_unknown_objective_lists_the_known_ones():
    with pytest.raises(InputError, match=r"val_auroc.*val_loss.*val_roc_auc"):
        direction("val_auroc")


def test_objective_without_a_value_is_refused_before_training():
    with pytest.raises(InputError, match="val_roc_auc has no value"):
        check_objective("val_roc_auc", np.zeros(4, np.int8))
    check_objective("val_loss", np.zeros(4, np.int8))


def test_scores_of_another_split_have_its_name_and_a_finite_loss():
    found = scored("test", np.array([0, 1, 1]), np.array([1.0, 0.7, 0.4]), 0.35)
    assert set(found) == {name.replace("val_", "test_") for name in (*OBJECTIVES, "val_threshold")}
    assert found["test_accuracy"] == pytest.approx(1 / 3)
    assert found["test_accuracy_at_threshold"] == pytest.approx(2 / 3)
    assert 10 < found["test_loss"] < 20
