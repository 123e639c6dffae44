"""A small share of the lab of scale: no cost of a trial grows with the number of trials."""

from pathlib import Path

import pytest
from labs import scale

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("shape", ["seeds", "points"])
def test_a_trial_of_many_costs_the_driver_what_one_of_few_does(shape: str, tmp_path: Path) -> None:
    few, many = (scale._play(tmp_path, shape, number) for number in (100, 600))
    assert many["num_at_once"] == 200
    assert many["ms_a_trial"] < 10 * scale.MOST_MS
    assert many["ms_a_trial"] < 10 * few["ms_a_trial"]
    assert many["kib_a_trial"] < 300
