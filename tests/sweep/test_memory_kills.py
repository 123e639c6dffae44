"""A worker that Ray's memory monitor ends: one death, not the sweep's."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from memory_pressure import fill_memory, strict_memory_monitor
from ray.exceptions import OutOfMemoryError
from ray.tune.experiment import Trial
from tiny_sweep import read_json_records, write_experiment

from sg_ray.records.events import Event
from sg_ray.records.journal import read_events
from sg_ray.sweep.execute.tune_hooks import keep_from_asking

ROOT = Path(__file__).parents[2]
_PATIENCE_S = 180.0
_NUM_EPOCHS = 200  # some ten seconds: memory must be taken before they are over


def read(folder: Path) -> list[Event]:
    return list(read_events(folder / "outputs/tiny/events.jsonl"))


def lost(folder: Path) -> list[Event]:
    return [event for event in read(folder) if event.type == "job_lost"]


def wait_for_second_model_epoch(folder: Path, driver: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not any(e.type == "epoch" and e.epoch >= 2 for e in read(folder)):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_case_02_an_actor_that_died_before_its_first_result_is_not_asked_for_one(
    ray_session: None,
) -> None:
    @ray.remote
    def ended() -> None:
        raise OutOfMemoryError("ended by the memory monitor")

    trial = Trial("trainable", stub=True)
    trial._default_result_or_future = ended.remote()
    with pytest.raises(OutOfMemoryError):
        _ = trial.last_result  # as Tune has it: the whole run ends of this
    keep_from_asking(trial)
    assert not trial.last_result["done"]


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(600)
def test_case_02_a_worker_ended_for_want_of_memory_is_started_again(tmp_path: Path) -> None:
    write_experiment(
        tmp_path,
        max_concurrent_trials=1,
        max_failures=20,  # memory is others' too: there may be more deaths than the one meant
        tracking={"enabled": False},
        search={"num_trials": 1, "pruning": {"enabled": False}},
        replicate={"top_k": 1, "seeds": [42]},
    )
    command = [sys.executable, "-m", "sg_ray", "sweep", "experiment.yaml"]
    with (tmp_path / "console.log").open("wb") as log:
        driver = subprocess.Popen(
            [*command, f"models.gnn.config.epochs={_NUM_EPOCHS}"],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            env={**os.environ, **strict_memory_monitor(), "PYTHONPATH": str(ROOT)},
        )
    wait_for_second_model_epoch(tmp_path, driver)
    fill_memory(lambda: bool(lost(tmp_path)) or driver.poll() is not None)
    said = (tmp_path / "console.log").read_text
    assert driver.wait(timeout=_PATIENCE_S) == 0, said()
    assert "Traceback" not in said()
    assert lost(tmp_path), "nobody was ended"
    assert lost(tmp_path)[0].reason.startswith("out of memory: the machine was ")
    resumed = [e for e in read(tmp_path) if e.type == "trial_resumed"]
    assert resumed[0].epoch >= 1
    records = read_json_records(tmp_path / "outputs/tiny")
    assert [
        (r["configuration"]["model"], r["status"], r["epochs"])
        for r in records
        if r["configuration"]["model"] == "gnn"
    ] == [("gnn", "completed", _NUM_EPOCHS)]
