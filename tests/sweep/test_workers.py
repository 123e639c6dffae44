"""Trials on two gloo workers: TorchTrainer under the Tune actor."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import ray
import torch
from ray.util.state import list_actors
from tiny_sweep import own_processes, read_json_records, tiny_experiment

from sg_ray.host.signals import StopRequest
from sg_ray.records.events import Event
from sg_ray.records.journal import read_events
from sg_ray.single.train_one import prepare_training, train_once
from sg_ray.sweep.run import run_sweep
from sg_ray.training.loop import EpochResult, Interrupted

pytestmark = pytest.mark.slow

NO_DROPOUT = ("models.gnn.config.dropout=0", "families=[gnn]")

KEPT_BY_RAY = "_AutoscalingCoordinatorActor"
"""One for the life of a cluster, made by the first TorchTrainer."""


def live_placement_groups() -> list[str]:
    table = ray.util.placement_group_table()
    return [g["placement_group_id"] for g in table.values() if g["state"] != "REMOVED"]


@pytest.mark.timeout(600)
def test_two_workers_give_the_numbers_of_one(ray_session: None, tmp_path: Path) -> None:
    histories = []
    for num_workers in (1, 2):
        experiment = tiny_experiment(
            tmp_path,
            *NO_DROPOUT,
            f"resources.num_workers={num_workers}",
            f"output_dir={tmp_path / str(num_workers)}",
        )
        epochs = []
        training = prepare_training(experiment, "gnn", 42, tmp_path / f"run-{num_workers}")
        train_once(training, on_epoch=epochs.append)
        histories.append([dict(epoch.metrics) for epoch in epochs])
    for one, two in zip(*histories, strict=True):
        for name in ("train_loss", "val_loss", "val_roc_auc", "val_f1"):
            assert two[name] == pytest.approx(one[name], abs=1e-5)


@pytest.mark.timeout(600)
def test_a_sweep_of_two_worker_trials_leaves_nothing_behind(
    ray_session: None, tmp_path: Path
) -> None:
    before = set(live_placement_groups())
    experiment = tiny_experiment(
        tmp_path,
        *NO_DROPOUT,
        "search.num_trials=3",
        "search.pruning.enabled=true",
        "search.pruning.reduction_factor=2",
        models={
            "gnn": {
                "config": {"learning_rate": 5e-3, "epochs": 3, "num_layers": 1, "hidden_dim": 16,
                           "graphs": {"vocab_size": 400}},
                "space": {"learning_rate": {"log_uniform": [1e-4, 1e-2]}},
                "resources": {"num_workers": 2, "cpus": 1},
            },
        },
    )  # fmt: skip
    outcome = run_sweep(experiment)
    assert outcome.problems == []
    records = [
        r for r in read_json_records(experiment.folder.path) if r["configuration"]["model"] == "gnn"
    ]
    assert {r["status"] for r in records} <= {"completed", "pruned"}
    assert len(records) == 4
    assert set(live_placement_groups()) <= before
    assert not list((experiment.folder.path / "groups").glob("*"))


@pytest.mark.timeout(600)
def test_a_killed_worker_costs_at_most_an_epoch(ray_session: None, tmp_path: Path) -> None:
    experiment = tiny_experiment(tmp_path, *NO_DROPOUT, "resources.num_workers=2")
    plain, killed = [], []

    def kill_one_worker(epoch: EpochResult) -> None:
        killed.append(epoch)
        if len(killed) == 1:
            os.kill(own_processes(b"ray::RayTrainWorker")[0], signal.SIGKILL)

    for name, on_epoch in (("plain", plain.append), ("killed", kill_one_worker)):
        train_once(prepare_training(experiment, "gnn", 42, tmp_path / name), on_epoch=on_epoch)
    assert [epoch.epoch for epoch in killed] == [1, 2, 3]
    for one, other in zip(plain, killed, strict=True):
        assert other.metrics["val_loss"] == pytest.approx(one.metrics["val_loss"], abs=1e-6)


@pytest.mark.timeout(600)
def test_a_group_that_is_stopped_goes_on_where_it_was(ray_session: None, tmp_path: Path) -> None:
    experiment = tiny_experiment(tmp_path, *NO_DROPOUT, "resources.num_workers=2")
    stop, plain, stopped = StopRequest(), [], []

    def stop_it(epoch: EpochResult) -> None:
        stopped.append(epoch)
        stop.is_asked = True

    train_once(prepare_training(experiment, "gnn", 42, tmp_path / "plain"), on_epoch=plain.append)
    training = prepare_training(experiment, "gnn", 42, tmp_path / "stopped")
    with pytest.raises(Interrupted):
        train_once(training, stop=stop, on_epoch=stop_it)
    assert [epoch.epoch for epoch in stopped] == [1]
    position = torch.load(tmp_path / "stopped/last.pt", weights_only=True)
    assert (position["epoch"], position["step_in_epoch"] > 0) == (1, True)
    train_once(training, on_epoch=stopped.append)
    assert [epoch.epoch for epoch in stopped] == [1, 2, 3]
    for one, other in zip(plain, stopped, strict=True):
        assert other.metrics["val_loss"] == pytest.approx(one.metrics["val_loss"], abs=1e-6)


@pytest.mark.timeout(600)
def test_a_group_that_is_stopped_while_it_is_set_up_is_not_waited_for(
    ray_session: None, tmp_path: Path
) -> None:
    experiment = tiny_experiment(tmp_path, *NO_DROPOUT, "resources.num_workers=2")
    stop = StopRequest()

    def stop_it(event: Event) -> None:
        if event.type == "trial_started":
            timer.start()

    def ask() -> None:
        stop.is_asked = True

    timer = threading.Timer(1.0, ask)  # seconds before workers are ready
    training = prepare_training(experiment, "gnn", 42, tmp_path / "train")
    with pytest.raises(KeyboardInterrupt):  # not Interrupted, which says that a position is saved
        train_once(training, listeners=(stop_it,), stop=stop)
    assert not (tmp_path / "train/last.pt").exists()
    events = read_events(tmp_path / "train/events.jsonl")
    assert [event.type for event in events][-1:] == ["training_finished"]


@pytest.mark.timeout(600)
def test_an_elastic_group_makes_do_with_the_machine(ray_session: None, tmp_path: Path) -> None:
    elastic = ("resources.num_workers=3", "resources.min_workers=2")  # there are two CPUs
    histories = []
    for name, resources in (("alone", ()), ("elastic", elastic)):
        experiment = tiny_experiment(tmp_path, *NO_DROPOUT, *resources)
        record = train_once(prepare_training(experiment, "gnn", 42, tmp_path / name))
        histories.append(record.history)
    metadata = json.loads((tmp_path / "elastic/training_metadata.json").read_text())
    assert metadata["environment"]["num_workers"] == 2
    for one, two in zip(*histories, strict=True):
        assert two["val_loss"] == pytest.approx(one["val_loss"], abs=1e-5)


@pytest.mark.timeout(600)
def test_six_groups_in_a_row_leave_nothing_behind(ray_session: None, tmp_path: Path) -> None:
    here = ray.get_runtime_context().gcs_address

    def living() -> set[str]:
        actors = list_actors(address=here, filters=[("state", "=", "ALIVE")], limit=1000)
        ids = [actor.actor_id for actor in actors if actor.class_name != KEPT_BY_RAY]
        return {*ids, *live_placement_groups()}

    before = living()  # what earlier tests have left may end meanwhile
    experiment = tiny_experiment(
        tmp_path,
        *NO_DROPOUT,
        "models.gnn.config.epochs=1",
        "resources.num_workers=2",
        "search.num_trials=6",
        "replicate.seeds=[42]",
    )
    assert run_sweep(experiment).problems == []
    records = [
        r for r in read_json_records(experiment.folder.path) if r["configuration"]["model"] == "gnn"
    ]
    assert len(records) == 6

    def left() -> tuple[set[str], float]:
        return living() - before, ray.available_resources()["CPU"]

    deadline = time.monotonic() + 60  # the last group's actors end a moment after it
    while left() != (set(), 2) and time.monotonic() < deadline:
        time.sleep(1)
    assert left() == (set(), 2)


@pytest.mark.timeout(600)
def test_a_machine_that_is_taken_away_costs_no_epoch(tmp_path: Path) -> None:
    script = Path(__file__).with_name("preempted_group.py")
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    preempted = json.loads(ran.stdout.splitlines()[-1])
    assert preempted["num_workers"] == 1
    experiment = tiny_experiment(tmp_path, *NO_DROPOUT, "models.gnn.config.epochs=5")
    alone = train_once(prepare_training(experiment, "gnn", 42, tmp_path / "alone"))
    assert len(preempted["history"]) == len(alone.history) == 5
    for one, other in zip(alone.history, preempted["history"], strict=True):
        assert other["val_loss"] == pytest.approx(one["val_loss"], abs=1e-4)
