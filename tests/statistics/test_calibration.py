import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from sg_ray.errors import InputError
from sg_ray.statistics.calibration import expected_calibration_error, reliability


def test_worked_by_hand():
    labels = np.array([0, 1, 1, 1, 0])
    probabilities = np.array([0.1, 0.3, 0.6, 0.8, 0.9])
    low, high = reliability(labels, probabilities, num_bins=2)
    assert (low.num_samples, high.num_samples) == (2, 3)
    assert (low.mean_probability, low.positive_share) == pytest.approx((0.2, 0.5))
    assert (high.mean_probability, high.positive_share) == pytest.approx((2.3 / 3, 2 / 3))
    # 2/5 * |0.2 - 0.5| + 3/5 * |2.3/3 - 2/3|
    assert expected_calibration_error(labels, probabilities, num_bins=2) == pytest.approx(0.18)


@pytest.mark.parametrize("num_levels", [None, 15, 30])  # multiples of 1/15 lie on the edges
def test_bins_are_those_of_sklearn(num_levels):
    rng = np.random.default_rng(0)
    probabilities = rng.random(500)
    if num_levels:
        probabilities = np.round(probabilities * num_levels) / num_levels
    labels = (rng.random(500) < probabilities).astype(np.int8)
    bins = reliability(labels, probabilities)
    shares, means = calibration_curve(labels, probabilities, n_bins=15)
    assert [part.positive_share for part in bins] == pytest.approx(shares.tolist())
    assert [part.mean_probability for part in bins] == pytest.approx(means.tolist())
    assert sum(part.num_samples for part in bins) == 500


def test_ends_belong_to_the_outer_bins():
    ends = reliability(np.array([0, 1]), np.array([0.0, 1.0]))
    assert [part.num_samples for part in ends] == [1, 1]
    assert expected_calibration_error(np.array([0, 1]), np.array([0.0, 1.0])) == 0.0
    assert expected_calibration_error(np.array([1, 0]), np.array([0.0, 1.0])) == 1.0


def test_a_calibrated_model_has_about_the_stated_error_by_chance():
    rng = np.random.default_rng(1)
    probabilities = rng.uniform(0.3, 0.7, (200, 3000))
    labels = (rng.random((200, 3000)) < probabilities).astype(np.int8)
    errors = [
        expected_calibration_error(*pair, num_bins=5)
        for pair in zip(labels, probabilities, strict=True)
    ]
    num_bins_in_use = 3  # 0.2-0.4, 0.4-0.6, 0.6-0.8
    assert np.mean(errors) == pytest.approx(0.4 * math.sqrt(num_bins_in_use / 3000), rel=0.15)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="does not fit 2 labels"):
        reliability(np.array([0, 1]), np.array([0.1, 0.2, 0.3]))
