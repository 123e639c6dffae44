import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from sg_ray.errors import InputError
from sg_ray.statistics.paired import permutation_p

# Darwin's maize, differences in eighths of an inch. Fisher 1935, The Design of Experiments,
# section 21: 863 of the 32,768 sums are at least the observed 314; 1,726 two-sided.
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def test_fishers_own_example():
    assert permutation_p(DARWIN) == 1726 / 32768
    assert round(permutation_p(DARWIN), 5) == 0.05267


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("num_pairs", [2, 3, 6, 11])
def test_agrees_with_scipy_and_with_every_sign_written_out(seed, num_pairs):
    differences = np.random.default_rng(seed).normal(0.5, 1.0, num_pairs)
    ours = permutation_p(differences)
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    sums = [np.dot(signs, differences) for signs in product([-1, 1], repeat=num_pairs)]
    brute = np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-12)
    assert ours == pytest.approx(theirs.pvalue, abs=1e-15)
    assert ours == pytest.approx(brute, abs=1e-15)


def test_sums_that_differ_by_rounding_only_are_ties():
    # 0.1 + 0.2 - 0.3 is 5.6e-17 in floats: all 8 sums of these are as extreme as 0 or more.
    assert permutation_p([0.1, 0.2, -0.3]) == 1.0
    assert permutation_p([0.3, 0.3, 0.3, -0.3, 0.1 + 0.2]) == permutation_p([1, 1, 1, -1, 1])


def test_zeros_say_nothing():
    assert permutation_p([1.0, 2.0, 3.0, 0.0, 0.0]) == permutation_p([1.0, 2.0, 3.0]) == 0.25
    assert permutation_p([0.0, 0.0]) == 1.0
    assert permutation_p([0.3]) == permutation_p([]) == 1.0


def test_scale_and_direction_do_not_matter():
    values = np.random.default_rng(3).normal(0.4, 1.0, 9)
    assert permutation_p(values) == permutation_p(-values) == permutation_p(values * 1e-7)


def test_many_pairs_are_estimated_close_to_the_exact_p():
    differences = np.tile([1.0, 1.0, 1.0, -1.0], 8)  # 24 of 32 pairs are won
    exact = stats.binomtest(24, 32).pvalue
    standard_error = math.sqrt(exact / 99_999)
    estimated = permutation_p(differences)
    assert estimated == pytest.approx(exact, abs=4 * standard_error)
    assert estimated == permutation_p(differences)
    assert permutation_p(np.ones(40)) == 1e-5


def test_the_null_hypothesis_is_rejected_no_more_often_than_stated():
    rng = np.random.default_rng(0)
    p_values = np.array([permutation_p(row) for row in rng.laplace(size=(1000, 8))])
    for alpha in (0.05, 0.1, 0.5):
        attainable = math.floor(alpha * 128) / 128  # the p of 8 pairs are multiples of 1/128
        assert np.mean(p_values <= alpha) == pytest.approx(attainable, abs=0.05)


def test_a_difference_that_is_not_finite_is_refused():
    with pytest.raises(InputError, match="Leave failed seeds out"):
        permutation_p([0.1, math.nan])
