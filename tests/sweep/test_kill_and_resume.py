"""kill -9 of the driver, during search and during replicate: --resume brings the sweep home."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_sweep import mlflow_state, read_json_records, write_experiment

from sg_ray.records.events import Event
from sg_ray.records.journal import read_events

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

TIME_VALUED = ("epoch_time_s", "samples_per_s")
# Long enough for a kill or a signal to meet the trial that it is meant for in the middle.
LONG = "models.gnn.config.epochs=30"


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    with (folder / "console.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "experiments" / "sweep.py"), *arguments],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def kill_when(
    process: subprocess.Popen[bytes],
    journal: Path,
    ready: Callable[..., bool],
    with_signal: signal.Signals = signal.SIGKILL,
) -> int:
    deadline = time.monotonic() + 180
    while not ready(list(read_events(journal))):
        assert process.poll() is None, "the sweep ended before it could be killed"
        assert time.monotonic() < deadline, "the sweep did not get there"
        time.sleep(0.05)
    os.kill(process.pid, with_signal)
    return process.wait(timeout=120)


def in_search(events: list[Event]) -> bool:
    """Two epochs of the second trial of the search are done, and the trial is not."""
    started = [e.trial_key for e in events if e.type == "trial_started" and e.stage == "search"]
    epochs = [e for e in events if e.type == "epoch" and e.trial_key in started[1:2]]
    return len(epochs) >= 2


def in_replicate(events: list[Event]) -> bool:
    started = {e.trial_key for e in events if e.type == "trial_started" and e.stage == "replicate"}
    return any(e.type == "epoch" and e.trial_key in started for e in events)


def finish(folder: Path) -> None:
    process = start(folder, "--resume", "tiny", f"output_dir={folder / 'outputs'}")
    assert process.wait(timeout=300) == 0, (folder / "console.log").read_text()[-4000:]


def comparable(records: list[dict[str, Any]]) -> dict[str, Any]:
    """What must be equal bit for bit: every epoch's numbers, without times."""
    return {
        record["trial_key"]: (
            record["status"],
            record["stage"],
            [
                {name: value for name, value in epoch.items() if name not in TIME_VALUED}
                for epoch in record["history"]
            ],
        )
        for record in records
    }


@pytest.mark.timeout(900)
def test_killed_twice_it_ends_as_if_never_killed(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = {
        "max_concurrent_trials": 1,
        "search": {"num_trials": 3, "pruning": {"min_epochs": 2}},
    }
    for folder in (whole, killed):
        folder.mkdir()
        write_experiment(folder, **settings)
    assert start(whole, "experiment.yaml", LONG).wait(timeout=300) == 0

    journal = killed / "outputs" / "tiny" / "events.jsonl"
    kill_when(start(killed, "experiment.yaml", LONG), journal, in_search)
    resume = ("--resume", "tiny", f"output_dir={killed / 'outputs'}")
    kill_when(start(killed, *resume), journal, in_replicate)
    finish(killed)

    expected = read_json_records(whole / "outputs" / "tiny")
    records = read_json_records(killed / "outputs" / "tiny")
    assert comparable(records) == comparable(expected)

    statuses, repeated = mlflow_state(killed / "mlflow.db")
    assert statuses["RUNNING"] == 0
    assert sum(statuses.values()) == len(records) + 1
    assert repeated == []
    assert len({record["mlflow_run_id"] for record in records}) == len(records)

    events = list(read_events(journal))
    for kind in ("trial_started", "trial_finished"):
        keys = [event.trial_key for event in events if event.type == kind]
        assert sorted(keys) == sorted(record["trial_key"] for record in records)
    assert not list(killed.rglob("*.tmp"))


@pytest.mark.timeout(600)
def test_an_interrupted_trial_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    write_experiment(tmp_path, max_concurrent_trials=1)
    journal = tmp_path / "outputs" / "tiny" / "events.jsonl"
    kill_when(start(tmp_path, "experiment.yaml", LONG), journal, in_search)
    checkpoints = sorted(
        (tmp_path / "outputs/tiny/tune/attempt-001").glob("*/checkpoint_*/last.pt")
    )
    assert checkpoints, "the killed attempt left no checkpoint"
    finish(tmp_path)
    events = list(read_events(journal))
    [resumed] = [event for event in events if event.type == "trial_resumed"]
    before = events[: events.index(resumed)]
    reported = [e for e in before if e.type == "epoch" and e.trial_key == resumed.trial_key]
    assert resumed.epoch >= len(reported) > 1  # an epoch is on the disk before it is told
