import os
import subprocess
import sys
from pathlib import Path

import pytest
from scripted_sweep import NUM_EPOCHS

PROGRAM = Path(__file__).with_name("killed_mirrors.py")
NUM_TRIALS = 6
NUM_KILLS, SEED = 40, 2


@pytest.mark.slow
def test_mirrors_killed_at_any_moment_leave_each_run_once(sweep_dir, uri, query):
    command = [sys.executable, PROGRAM, sweep_dir, uri, str(NUM_KILLS), str(SEED)]
    environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parents[2])}
    done = subprocess.run(command, check=True, env=environment, timeout=280, stdout=subprocess.PIPE)

    assert int(done.stdout) > NUM_KILLS / 2

    assert query("select count(*) from runs where lifecycle_stage = 'active'") == [
        (NUM_TRIALS + 1,)
    ]
    statuses = dict(query("select status, count(*) from runs group by status"))
    assert statuses == {"FINISHED": 3, "KILLED": 2, "FAILED": 2}
    assert query("select count(*) from metrics where key = 'val_f1'") == [
        (NUM_TRIALS * NUM_EPOCHS,)
    ]
    doubled = "select run_uuid, key, step from metrics group by 1, 2, 3 having count(*) > 1"
    assert query(doubled) == []
    inputs = "select source_id, destination_id from inputs where destination_type = 'RUN'"
    assert len(query(inputs)) == len(set(query(inputs))) == 2 * (NUM_TRIALS + 1)
    assert query("select version, status from model_versions") == [(1, "READY")]
    assert query("select alias, version from registered_model_aliases") == [("champion", 1)]
    alive = "select count(*) from logged_models where lifecycle_stage = 'active' and status = 2"
    assert query(alive) == [(1,)]
    outputs = "select count(*) from inputs where destination_type = 'MODEL_OUTPUT'"
    assert query(outputs) == [(2,)]
