"""The short form of the chaos suite: one sweep, six kills. The long form is ``make chaos``."""

import signal
from pathlib import Path

import pytest
from chaos import Kind, Stage, run_rounds

SHORT_ROUND: tuple[tuple[Stage, Kind], ...] = (
    ("prepare", ("group", signal.SIGUSR2)),
    ("lr_range", ("worker", signal.SIGKILL)),
    ("search", ("memory", signal.SIGKILL)),
    ("search", ("driver", signal.SIGUSR1)),
    ("replicate", ("raylet", signal.SIGKILL)),
    ("export", ("driver", signal.SIGKILL)),
)
MUST_HIT = {("memory", signal.SIGKILL), ("driver", signal.SIGUSR1)}
"""The others may come too late on a fast machine."""


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(1500)
def test_a_sweep_killed_at_random_moments_ends_as_if_it_never_was(tmp_path: Path) -> None:
    stages, kinds = zip(*SHORT_ROUND, strict=True)
    tally = run_rounds(tmp_path, [stages], seed=1, kinds=kinds)
    assert tally.problems == []
    assert tally.num_poisoned == 1
    assert {(shot.victim, shot.signal) for shot in tally.hits} >= MUST_HIT, tally
