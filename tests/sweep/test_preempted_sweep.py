"""A node that is to be taken away is left by its trials, at no loss."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from executed_sweeps import TIMED
from preempted_sweep import SETTINGS
from tiny_sweep import read_json_records, tiny_experiment

from sg_ray.sweep.execute.inline_executor import InlineExecutor
from sg_ray.sweep.run import run_sweep

pytestmark = pytest.mark.slow


@pytest.mark.timeout(700)
def test_trials_leave_a_node_on_notice_and_a_node_that_joins_is_used(tmp_path: Path) -> None:
    """``max_concurrent_trials`` is not set, and all numbers are those of an undisturbed sweep."""
    told = on_notice(tmp_path)
    plain = tiny_experiment(tmp_path, *SETTINGS, f"output_dir={tmp_path / 'plain'}")
    run_sweep(plain, executor=InlineExecutor())
    assert numbers(told["records"]) == numbers(read_json_records(plain.folder.path))


@pytest.mark.timeout(700)
def test_a_group_of_which_a_node_is_on_notice_goes_on_elsewhere_without_a_failure(
    tmp_path: Path,
) -> None:
    """``max_failures`` is 0: that a machine is taken away counts for nothing."""
    told = on_notice(tmp_path, num_workers=2)
    assert {record["status"] for record in told["records"]} == {"completed"}


def on_notice(folder: Path, num_workers: int = 1) -> dict[str, Any]:
    """Run the sweep; return what it tells, once no trial was lost and none held the node."""
    script = Path(__file__).with_name("preempted_sweep.py")
    ran = subprocess.run(
        [sys.executable, str(script), str(folder), str(num_workers)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    assert told["events"].get("job_lost", 0) == 0
    assert told["events"]["trial_resumed"] >= 1
    assert told["is_gone"]  # nothing kept the node busy
    return told


def numbers(records: list[dict[str, object]]) -> dict[object, object]:
    """What each trial came to, epoch by epoch."""
    return {
        record["trial_key"]: [
            {name: value for name, value in epoch.items() if name not in TIMED}
            for epoch in record["history"]
        ]
        for record in records
    }
