import math
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from scipy import stats

from sg_ray.errors import InputError
from sg_ray.statistics.decisions import ensemble, flip_share, mcnemar


def predictions(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, ...]:
    """Return labels and predictions with so many items right in both, one or neither."""
    labels = np.arange(both + only_a + only_b + neither) % 2
    right_a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    right_b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    return labels, np.where(right_a, labels, 1 - labels), np.where(right_b, labels, 1 - labels)


def exact_p(only_a: int, only_b: int) -> float:
    """Twice the smaller tail of Binomial(m, 1/2), in exact fractions."""
    num, least = only_a + only_b, min(only_a, only_b)
    tail = Fraction(sum(comb(num, k) for k in range(least + 1)), 2**num)
    return float(min(1, 2 * tail))


def test_agrestis_approval_ratings():
    # Agresti 1990, Categorical Data Analysis, p. 350: 1,600 people asked twice, 794 and 570 said
    # the same, 150 and 86 changed their minds. His z = (86 - 150) / sqrt(86 + 150) = -4.17.
    p = mcnemar(*predictions(794, 150, 86, 570))
    assert p == pytest.approx(exact_p(150, 86), rel=1e-9)
    assert stats.norm.isf(p / 2) == pytest.approx(4.17, abs=0.06)  # the exact test is wider


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 5), (1, 9), (3, 3), (12, 4), (40, 61)])
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b):
    p = mcnemar(*predictions(20, only_a, only_b, 7))
    assert p == pytest.approx(exact_p(only_a, only_b), rel=1e-9)
    assert p == mcnemar(*predictions(0, only_b, only_a, 300))


def test_models_that_never_differ_in_being_right_cannot_be_told_apart():
    assert mcnemar(*predictions(10, 0, 0, 5)) == 1.0


def test_mcnemar_takes_booleans():
    labels, a, b = predictions(5, 9, 1, 5)
    assert mcnemar(labels, a == 1, b == 1) == mcnemar(labels, a, b)


def test_other_items_are_refused():
    with pytest.raises(InputError, match="Use the same items"):
        mcnemar(np.array([0, 1]), np.array([0, 1]), np.array([0, 1, 1]))


def test_flip_share_is_the_mean_over_pairs_of_seeds():
    predicted = np.random.default_rng(0).random((5, 40)) < 0.3
    pairs = [
        sum(bool(x) != bool(y) for x, y in zip(a, b, strict=True)) / 40
        for a, b in combinations(predicted, 2)
    ]
    assert flip_share(predicted) == pytest.approx(sum(pairs) / 10)
    assert flip_share(np.array([[0, 1, 1, 0], [0, 1, 0, 1]])) == 0.5


def test_one_seed_has_no_flips():
    assert math.isnan(flip_share(np.array([[True, False]])))


def test_ensemble_is_the_mean_probability_of_each_item():
    assert ensemble(np.array([[0.25, 1.0], [0.75, 0.5]])).tolist() == [0.5, 0.75]
