"""Trials on two gloo workers: TorchTrainer under the Tune actor."""

import os
import signal
from pathlib import Path

import pytest
import ray
from tiny_sweep import read_json_records, tiny_experiment

from sg_ray.sweep.run import run_sweep
from sg_ray.sweep.train_once import prepare_training, train_once
from sg_ray.training.loop import EpochResult

pytestmark = pytest.mark.slow

NO_DROPOUT = ("models.gnn.config.dropout=0", "families=[gnn]")


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
    records = [r for r in read_json_records(experiment.sweep_dir) if r["family"] == "gnn"]
    assert {r["status"] for r in records} <= {"completed", "pruned"}
    assert len(records) == 4
    assert set(live_placement_groups()) <= before
    assert not list((experiment.sweep_dir / "groups").glob("*"))


@pytest.mark.timeout(600)
def test_a_killed_worker_costs_at_most_an_epoch(ray_session: None, tmp_path: Path) -> None:
    experiment = tiny_experiment(tmp_path, *NO_DROPOUT, "resources.num_workers=2")
    plain, killed = [], []

    def kill_one_worker(epoch: EpochResult) -> None:
        killed.append(epoch)
        if len(killed) == 1:
            os.kill(worker_pids()[0], signal.SIGKILL)

    for name, on_epoch in (("plain", plain.append), ("killed", kill_one_worker)):
        train_once(prepare_training(experiment, "gnn", 42, tmp_path / name), on_epoch=on_epoch)
    assert [epoch.epoch for epoch in killed] == [1, 2, 3]
    for one, other in zip(plain, killed, strict=True):
        assert other.metrics["val_loss"] == pytest.approx(one.metrics["val_loss"], abs=1e-6)


def worker_pids() -> list[int]:
    """Processes of the live training workers on this machine, by Ray's own process titles."""
    titles = {int(p.parent.name): p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline")}
    return sorted(pid for pid, title in titles.items() if title.startswith(b"ray::RayTrainWorker"))
