import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from sg_ray.errors import InputError
from sg_ray.statistics.scores import score_function
from sg_ray.training.metrics import OBJECTIVES, direction, scored

THRESHOLDS = (0.3, 0.5, 0.62)


def random_case(seed: int, num_levels: int | None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(120) < rng.uniform(0.1, 0.9)).astype(np.int8)
    probabilities = 1 / (1 + np.exp(-rng.normal(labels * 0.7, 1.0, (3, 120))))
    if num_levels:
        probabilities = np.round(probabilities * num_levels) / num_levels
    return labels, probabilities


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("num_levels", [None, 1, 5])
def test_unweighted_scores_are_those_of_the_trials(objective, num_levels):
    labels, probabilities = random_case(0, num_levels)
    expected = [
        scored("val", labels, row, threshold)[objective]
        for row, threshold in zip(probabilities, THRESHOLDS, strict=True)
    ]
    found = score_function(objective, THRESHOLDS)(labels, probabilities)
    assert found.shape == (1, 3)
    assert found[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("num_levels", [None, 3])
def test_a_weight_is_a_number_of_copies(objective, num_levels):
    labels, probabilities = random_case(1, num_levels)
    weights = np.random.default_rng(2).integers(0, 4, (5, 120))
    score = score_function(objective, THRESHOLDS)
    found = score(labels, probabilities, weights.astype(np.float64))
    copied = [
        score(np.repeat(labels, row), np.repeat(probabilities, row, axis=1))[0] for row in weights
    ]
    np.testing.assert_allclose(found, copied, atol=1e-12)


@pytest.mark.parametrize("num_levels", [None, 1, 4])
@pytest.mark.parametrize(
    ("objective", "theirs"),
    [
        ("val_roc_auc", sklearn_metrics.roc_auc_score),
        ("val_pr_auc", sklearn_metrics.average_precision_score),
    ],
)
def test_weighted_ranking_metrics_agree_with_sklearn(objective, theirs, num_levels):
    labels, probabilities = random_case(3, num_levels)
    weights = np.random.default_rng(4).exponential(size=(4, 120))
    expected = [
        [theirs(labels, row, sample_weight=weight) for row in probabilities] for weight in weights
    ]
    found = score_function(objective)(labels, probabilities, weights)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_direction_is_that_of_training(objective):
    lower_is_better = score_function(objective, THRESHOLDS).scale.lower_is_better
    assert lower_is_better == (direction(objective) == "minimise")


def test_one_class_has_no_ranking_score_and_no_warning():
    labels, probabilities = random_case(5, None)
    of_one_class = np.stack([labels == 1, labels == 0]).astype(np.float64)
    for objective in ("val_roc_auc", "val_pr_auc"):
        found = score_function(objective)(labels, probabilities, of_one_class)
        assert np.isnan(found).all()
    assert score_function("val_mcc")(labels, probabilities, of_one_class).tolist() == [[0] * 3] * 2


def test_certain_predictions_have_a_finite_loss():
    found = score_function("val_loss")(np.array([0, 1, 1]), np.array([[0.0, 1.0, 0.0]]))
    assert found[0, 0] == pytest.approx(-math.log(np.finfo(float).eps) / 3)


def test_names_of_the_test_split_mean_the_same():
    labels, probabilities = random_case(6, None)
    for name in ("loss", "f1", "roc_auc"):
        on_test = score_function(f"test_{name}")(labels, probabilities)
        assert on_test.tolist() == score_function(f"val_{name}")(labels, probabilities).tolist()


@pytest.mark.parametrize("name", ["val_auc", "f2", "val_mcc_at_threshold"])
def test_an_unknown_name_is_refused_with_those_known(name):
    with pytest.raises(InputError, match=f"{name}.*val_roc_auc"):
        score_function(name)


def test_thresholds_are_one_a_seed():
    labels, probabilities = random_case(7, None)
    with pytest.raises(InputError, match="val_f1_at_threshold has none"):
        score_function("val_f1_at_threshold")
    with pytest.raises(InputError, match="2 for 3 seeds"):
        score_function("val_f1_at_threshold", [0.1, 0.2])(labels, probabilities)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 2], [[0.1, 0.2]], "labels: need a row of 0 and 1"),
        ([], [[]], "labels: need a row of 0 and 1"),
        ([0, 1], [0.1, 0.2], "probabilities: shape"),
        ([0, 1], [[0.1, 0.2, 0.3]], "probabilities: shape"),
        ([0, 1], np.empty((0, 2)), "probabilities: shape"),
        ([0, 1], [[0.1, math.nan]], "not within 0..1"),
        ([0, 1], [[0.1, 1.5]], "not within 0..1"),
    ],
)
def test_input_that_does_not_fit_is_refused(labels, probabilities, message):
    with pytest.raises(InputError, match=message):
        score_function("val_f1")(np.array(labels), np.array(probabilities))
