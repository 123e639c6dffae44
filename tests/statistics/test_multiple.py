import math
from itertools import combinations

import numpy as np
import pytest

from sg_ray.errors import InputError
from sg_ray.statistics.multiple import holm


def by_closed_testing(p_values: list[float]) -> list[float]:
    """Holm is the closure of Bonferroni: the largest p among all intersections with i."""
    everything = range(len(p_values))
    return [
        max(
            min(1.0, size * min(p_values[j] for j in chosen))
            for size in range(1, len(p_values) + 1)
            for chosen in combinations(everything, size)
            if i in chosen
        )
        for i in everything
    ]


def test_textbook_example():
    # p = 0.01, 0.04, 0.03, 0.005: at 0.05 the fourth and the first are rejected, no other.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize("seed", range(10))
def test_agrees_with_closed_testing_by_bonferroni(seed):
    rng = np.random.default_rng(seed)
    p_values = [*(rng.random(5) ** 2), 0.3, 0.3]
    assert holm(p_values) == pytest.approx(by_closed_testing(p_values), abs=1e-15)


def test_one_test_needs_no_correction_and_none_is_fine():
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1])
def test_what_is_no_p_value_is_refused(bad):
    with pytest.raises(InputError, match="p_values"):
        holm([0.1, bad])
