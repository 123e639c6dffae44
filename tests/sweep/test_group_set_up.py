"""Neither a worker that dies while its group is set up nor a lack of room costs the trial."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import cloudpickle
from tiny_sweep import tiny_experiment

from sg_ray.cluster.epochs import Supplies, open_epochs
from sg_ray.cluster.groups import group
from sg_ray.cluster.groups.process_group import GroupBackend, GroupConfig
from sg_ray.cluster.stop_board import StopBoard
from sg_ray.single.train_one import prepare_training, train_once
from sg_ray.training.loop import EpochResult, Interrupted, never

pytestmark = pytest.mark.slow


def dies_in_set_up(marker: Path) -> None:
    """Have this process die when it is to join the group, the first time."""
    import torch.distributed

    if marker.exists():
        return
    marker.touch()
    torch.distributed.init_process_group = lambda *_, **__: os._exit(1)


@dataclass
class DyingConfig(GroupConfig):
    """Two minutes are long for a test, and a busy machine takes its time."""

    timeout_s: int = 25
    marker: Path = Path()

    @property
    def backend_cls(self) -> type[GroupBackend]:
        return DyingBackend


class DyingBackend(GroupBackend):
    """Sets a group up whose second worker dies meanwhile."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute_single(1, dies_in_set_up, backend_config.marker)
        super().on_start(worker_group, backend_config)


@pytest.mark.timeout(400)
def test_a_worker_that_dies_in_set_up_is_replaced(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Ray's own timeout the others would wait for it for half an hour."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    marker = tmp_path / "died"
    monkeypatch.setattr(group, "GroupConfig", lambda **of: DyingConfig(**of, marker=marker))
    epochs: list[EpochResult] = []
    experiment = tiny_experiment(tmp_path, "families=[gnn]", "resources.num_workers=2")
    try:
        training = prepare_training(experiment, "gnn", 42, tmp_path / "run")
        train_once(training, on_epoch=epochs.append)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert marker.exists()
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]


@ray.remote(num_cpus=1)
class _Neighbour:
    """Another trial, on one of the two CPUs."""


@pytest.mark.timeout(400)
def test_a_group_of_a_sweep_that_finds_no_room_is_handed_back(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "_patience", lambda *_: {group._START_TIMEOUT: "3"})
    experiment = tiny_experiment(tmp_path, "families=[gnn]", "resources.num_workers=2")
    training = prepare_training(experiment, "gnn", 42, tmp_path / "run")
    neighbour, board = _Neighbour.remote(), StopBoard()
    epochs = open_epochs(
        training.spec,
        experiment.model("gnn").resources,
        Supplies(training.context.features, tmp_path / "cache"),
        tmp_path / "run",
        should_stop=never,
        board=board.actor,
    )
    try:
        with pytest.raises(Interrupted) as interrupted:
            next(epochs)
        assert interrupted.value.reason == "preempted"
    finally:
        epochs.close()
        board.close()
        ray.kill(neighbour)
