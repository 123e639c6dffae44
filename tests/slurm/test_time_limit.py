"""How long an allocation must be, and how SLURM writes times."""

import pytest

from sg_ray.errors import InputError
from sg_ray.slurm.time_limit import check_time_limit, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 5400),
        ("3:30", 210),
        ("04:00:00", 14400),
        ("1-0", 86400),
        ("1-02:30", 95400),
        ("2-00:00:30", 172830),
        ("12345:00:00", 12345 * 3600),
    ],
)
def test_times_are_read_as_slurm_reads_them(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "4h", "1:2:3:4", "-5", "UNLIMITED", "1-", "1-2:3:4:5", "1.5"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no time as SLURM writes it"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("time_limit", "signal_before_s", "num_nodes"), [("3", 60, 1), ("4", 120, 1), ("4:30", 120, 2)]
)
def test_the_shortest_that_gets_on_is_told_what_it_loses(
    time_limit: str, signal_before_s: int, num_nodes: int
) -> None:
    warning = check_time_limit(time_limit, signal_before_s, num_nodes)
    assert warning is not None
    assert "are lost" in warning


@pytest.mark.parametrize(
    ("time_limit", "signal_before_s", "num_nodes", "least"),
    [("2:59", 60, 1, "3 minutes"), ("3", 120, 1, "4 minutes"), ("4", 120, 2, "5 minutes")],
)
def test_a_limit_too_short_to_get_on_is_refused(
    time_limit: str, signal_before_s: int, num_nodes: int, least: str
) -> None:
    with pytest.raises(InputError, match=f"at least {least}, or a smaller --signal-before"):
        check_time_limit(time_limit, signal_before_s, num_nodes)


def test_of_a_long_one_nothing_is_said() -> None:
    assert check_time_limit("04:00:00", 120, 2) is None
