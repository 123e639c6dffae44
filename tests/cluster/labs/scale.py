"""Thousands of trials on hundreds of nodes: what each costs the driver."""

import json
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from lab import ROOT, Line

TITLE = "thousands of trials on hundreds of nodes"
PARTS = ("planner", "ray")

MOST_MS = 20.0
"""A trial of the driver's time, at most."""
_MOST_GROWTH = 1.1
_FEW, _MANY = 1_000, 10_000
_NUM_NODES, _NUM_TRIALS = 8, 500
_TIMEOUT_S = 1_400.0


def missing() -> str | None:
    """Nothing but Ray is needed."""
    return None


def run(folder: Path, parts: Collection[str] = ()) -> Iterator[Line]:
    """Play a cluster, and run one."""
    asked = parts or PARTS
    if "planner" in asked:
        for shape in ("seeds", "points"):
            yield from _played(folder, shape)
    if "ray" in asked:
        yield _real(folder)


def _played(folder: Path, shape: str) -> Iterator[Line]:
    """Planner, worklist and placement are real; 200 nodes and their trials are not."""
    few, many = (_play(folder, shape, number) for number in (_FEW, _MANY))
    for name, unit in (("ms_a_trial", "ms of the driver"), ("kib_a_trial", "KiB")):
        growth = many[name] / few[name]
        yield Line(
            f"{shape}: {unit} a trial",
            f"{few[name]:.1f} of {_FEW:,} trials, {many[name]:.1f} of {_MANY:,} "
            f"({many['num_at_once']:.0f} at once)",
            is_ok=growth <= _MOST_GROWTH and (name != "ms_a_trial" or many[name] <= MOST_MS),
        )
    told = ", ".join(f"{found['ms_of_optuna']:.1f}" for found in (few, many))
    # A study reads all its trials for each point: that grows, and is nothing of ours.
    yield Line(f"{shape}: ms of Optuna's own a trial", told, is_ok=True)


def _play(folder: Path, shape: str, num_trials: int) -> dict[str, float]:
    return _python("sweep/played_cluster.py", shape, num_trials, folder / f"{shape}-{num_trials}")


def _real(folder: Path) -> Line:
    """Eight raylets of this machine, with CPUs that there are not."""
    found = _python("sweep/many_trials.py", _NUM_NODES, _NUM_TRIALS, folder / "real")
    return Line(
        f"{_NUM_NODES} nodes, {_NUM_TRIALS} trials of the floor, on Ray",
        f"{found['num_done']:.0f} on record in {found['took_s']:.0f} s, "
        f"{1000 * found['driver_s'] / _NUM_TRIALS:.0f} ms of the driver and "
        f"{found['kib_a_trial']:.0f} KiB a trial, {found['num_at_once']:.0f} at once on "
        f"{found['num_hosts']:.0f} nodes, {found['num_lost']:.0f} lost",
        is_ok=found["num_done"] == _NUM_TRIALS and found["num_lost"] == 0,
    )


def _python(script: str, *arguments: object) -> dict[str, float]:
    command = [sys.executable, ROOT / "tests" / script, *map(str, arguments)]
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, cwd=ROOT
    )
    if ran.returncode != 0:
        raise RuntimeError(ran.stderr[-4000:])
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found
