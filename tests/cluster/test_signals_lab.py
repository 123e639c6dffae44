"""A share of the signals lab: see ``labs/signals.py``."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Line
from labs import signals
from labs.signals import MOST_S, Victim, try_kill, try_one_trial, try_signal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def whole() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="s-", dir="/tmp") as folder:  # sockets' names are short
        yield signals.run_whole(Path(folder))


def check(line: Line) -> None:
    assert line.is_ok, line.result


@pytest.mark.parametrize(
    ("name", "victim"), [("term", "tree"), ("int", "group"), ("usr1", "driver")]
)
def test_a_signal_loses_nothing_and_leaves_nothing(whole: Path, name: str, victim: Victim) -> None:
    folder = whole.with_name(f"{name}-{victim}")
    check(try_signal(folder, whole, name, victim, most_s=10 * MOST_S))


def test_a_trial_whose_process_alone_is_told_to_stop_goes_on_in_another(whole: Path) -> None:
    check(try_one_trial(whole.with_name("trial"), whole))


@pytest.mark.parametrize("victim", ["driver", "worker"])
def test_a_kill_costs_no_more_than_the_time_between_two_positions(
    whole: Path, victim: Victim
) -> None:
    check(try_kill(whole.with_name(f"kill-{victim}"), whole, victim))
