import math

import numpy as np
import pytest

from sg_ray.statistics.seed_summaries import interquartile_mean, sample_sd


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 9.0], 4.0),  # fewer than 4: the mean
        ([100.0, 1.0, 3.0, -50.0], 2.0),
        ([100.0, 1.0, 3.0, 5.0, -50.0], 3.0),
        ([9.0, -9.0, 1.0, 2.0, 3.0, 4.0, 90.0, -90.0], 2.5),
    ],
)
def test_interquartile_mean_leaves_out_a_quarter_at_each_end(values, expected):
    assert interquartile_mean(values) == expected


def test_interquartile_mean_agrees_with_its_definition():
    values = np.random.default_rng(0).normal(size=23)
    assert interquartile_mean(values) == pytest.approx(np.sort(values)[5:-5].mean(), abs=1e-15)


def test_sample_sd_divides_by_n_less_one():
    assert sample_sd([1.0, 2.0, 3.0, 4.0]) == pytest.approx(math.sqrt(5 / 3))


def test_too_few_values_are_undefined():
    assert math.isnan(interquartile_mean([]))
    assert math.isnan(sample_sd([0.5]))
