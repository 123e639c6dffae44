"""A worker that dies while its group is set up costs a moment, not the trial."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle
from tiny_sweep import tiny_experiment

from sg_ray.cluster.groups import group
from sg_ray.cluster.groups.process_group import GroupBackend, GroupConfig
from sg_ray.single.train_one import prepare_training, train_once
from sg_ray.training.loop import EpochResult

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
    """Two minutes are long for a test."""

    timeout_s: int = 10
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
