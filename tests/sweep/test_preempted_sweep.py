"""A node that is to be taken away is left by its trials, at no loss."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from executed_sweeps import TIMED
from preempted_sweep import SETTINGS
from tiny_sweep import read_json_records, tiny_experiment

from sg_ray.sweep.execute.inline_executor import InlineExecutor
from sg_ray.sweep.run import run_sweep

pytestmark = pytest.mark.slow


@pytest.mark.timeout(400)
def test_trials_leave_a_node_on_notice_and_a_node_that_joins_is_used(tmp_path: Path) -> None:
    """``max_concurrent_trials`` is not set, and all numbers are those of an undisturbed sweep."""
    script = Path(__file__).with_name("preempted_sweep.py")
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["events"].get("job_lost", 0) == 0
    assert told["events"]["trial_resumed"] >= 1
    assert told["is_gone"]  # nothing kept the node busy
    plain = tiny_experiment(tmp_path, *SETTINGS, f"output_dir={tmp_path / 'plain'}")
    run_sweep(plain, executor=InlineExecutor())
    assert numbers(told["records"]) == numbers(read_json_records(plain.folder.path))


def numbers(records: list[dict[str, object]]) -> dict[object, object]:
    """What each trial came to, epoch by epoch."""
    return {
        record["trial_key"]: [
            {name: value for name, value in epoch.items() if name not in TIMED}
            for epoch in record["history"]
        ]
        for record in records
    }
