import math
from itertools import combinations

import numpy as np
import pytest

from sg_ray.errors import InputError
from sg_ray.statistics.expected_best import expected_best, expected_best_curve

VALUES = [0.61, 0.55, 0.7, 0.61, 0.48, 0.66]  # with a tie


@pytest.mark.parametrize("num_trials", range(1, 7))
def test_without_replacement_is_the_mean_over_all_subsets(num_trials):
    best = [max(chosen) for chosen in combinations(VALUES, num_trials)]
    assert expected_best(VALUES)[num_trials - 1] == pytest.approx(np.mean(best), abs=1e-12)


def test_a_loss_is_best_where_lowest():
    lowest = expected_best(VALUES, lower_is_better=True)
    highest = expected_best([-v for v in VALUES])
    assert lowest == pytest.approx(-highest, abs=1e-15)
    assert lowest[0] == pytest.approx(np.mean(VALUES))


def test_the_estimate_has_no_bias():
    # The best of 5 uniform draws is 5/6 on average.
    samples = np.random.default_rng(0).random((4000, 10))
    found = np.mean([expected_best(row)[4] for row in samples])
    assert found == pytest.approx(5 / 6, abs=0.006)


def test_hundreds_of_trials_stay_exact():
    values = np.random.default_rng(1).random(800)
    found = expected_best(values)
    assert found[0] == pytest.approx(values.mean(), abs=1e-9)
    assert found[1] == pytest.approx(
        np.maximum.outer(values, values)[~np.eye(800, dtype=bool)].mean(), abs=1e-9
    )
    assert found[-1] == pytest.approx(values.max(), abs=1e-9)
    assert (np.diff(found) >= -1e-9).all()


def test_the_curve_counts_the_hours_of_failed_trials_too():
    curve = expected_best_curve([0.5, 0.7], [1.0, 1.0, 4.0])
    assert curve.trials == (1, 2)
    assert curve.hours == (2.0, 4.0)
    assert curve.expected == pytest.approx((0.6, 0.7))


def test_no_trials_make_an_empty_curve():
    assert expected_best_curve([], []).expected == ()
    assert expected_best([]).tolist() == []


def test_bad_values_are_refused():
    with pytest.raises(InputError, match="Leave out the trials that failed"):
        expected_best([0.5, math.nan])
    with pytest.raises(InputError, match="trial_hours"):
        expected_best_curve([0.5], [])
