import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from sg_ray.errors import InputError
from sg_ray.statistics.paired import (
    minimum_detectable_difference,
    permutation_p,
    seeds_for_p,
    seeds_to_detect,
    smallest_permutation_p,
)

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
    estimated = permutation_p(differences, seed=5)
    assert estimated == pytest.approx(exact, abs=4 * standard_error)
    assert estimated == permutation_p(differences, seed=5)
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


def test_three_seeds_never_reach_five_percent_and_six_do():
    assert [smallest_permutation_p(num) for num in (0, 1, 3, 5, 6)] == [
        1.0, 1.0, 0.25, 0.0625, 0.03125,
    ]  # fmt: skip
    assert [seeds_for_p(alpha) for alpha in (0.25, 0.05, 0.03125, 0.01)] == [3, 6, 6, 8]
    assert permutation_p([0.1, 0.3, 0.2, 0.25, 0.15, 0.4]) == smallest_permutation_p(6)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1])
def test_levels_are_between_0_and_1(alpha):
    with pytest.raises(InputError, match="alpha"):
        seeds_for_p(alpha)
    with pytest.raises(InputError, match="alpha"):
        minimum_detectable_difference(1.0, 5, alpha)
    with pytest.raises(InputError, match="power"):
        seeds_to_detect(1.0, 1.0, 0.05, alpha)


def test_no_test_has_less_power_than_its_level():
    with pytest.raises(InputError, match=r"power: 0\.05 is not above alpha"):
        minimum_detectable_difference(1.0, 5, alpha=0.05, power=0.05)


def test_dalgaards_paired_example():
    # Dalgaard 2008, Introductory Statistics with R, section 9.3: power.t.test(delta = 10,
    # sd = 10 * sqrt(2), power = 0.85, type = "paired") gives n = 19.96892.
    sd = 10 * math.sqrt(2)
    assert seeds_to_detect(10, sd, power=0.85) == 20
    found_by = {n: minimum_detectable_difference(sd, n, power=0.85) for n in (19, 20)}
    between = np.interp(10, [found_by[20], found_by[19]], [20, 19])
    assert between == pytest.approx(19.96892, abs=0.002)


@pytest.mark.parametrize(("num_seeds", "alpha"), [(2, 0.05), (3, 0.05), (6, 0.01), (10, 0.05)])
def test_the_detectable_difference_is_found_as_often_as_stated(num_seeds, alpha):
    difference = minimum_detectable_difference(0.3, num_seeds, alpha, power=0.8)
    draws = np.random.default_rng(1).normal(difference, 0.3, (20_000, num_seeds))
    tests = stats.ttest_1samp(draws, 0.0, axis=1)
    found = (tests.pvalue <= alpha) & (tests.statistic > 0)
    assert found.mean() == pytest.approx(0.8, abs=0.012)


def test_number_of_seeds_and_detectable_difference_are_inverse():
    for num_seeds in (2, 3, 7, 30):
        difference = minimum_detectable_difference(0.01, num_seeds)
        assert seeds_to_detect(difference * 1.0001, 0.01) == num_seeds
        assert seeds_to_detect(-difference * 0.9999, 0.01) == num_seeds + 1


@pytest.mark.parametrize("alpha", [0.05, 0.005, 1e-4])
@pytest.mark.parametrize("num_seeds", [2, 3, 4, 6, 12, 50])
def test_power_is_finite_at_every_size(alpha, num_seeds):
    found = [minimum_detectable_difference(1.0, num_seeds, alpha, at) for at in (0.5, 0.8, 0.99)]
    assert 0 < found[0] < found[1] < found[2]


def test_what_cannot_be_detected_is_none():
    assert minimum_detectable_difference(0.1, 1) is None
    assert minimum_detectable_difference(math.nan, 5) is None
    assert minimum_detectable_difference(0.0, 5) == 0.0
    assert seeds_to_detect(0.0, 0.1) is None
    assert seeds_to_detect(1e-6, 0.1, max_seeds=50) is None
    assert seeds_to_detect(0.1, 0.0) == 2
