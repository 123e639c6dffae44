"""What a cluster has and may get: its nodes, and the settings of its autoscaler."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.train import ScalingConfig

from sg_ray.cluster.groups import group
from sg_ray.cluster.nodes.leaving_nodes import LeavingNodes
from sg_ray.cluster.placing import capacity as capacity_module
from sg_ray.cluster.placing.capacity import Capacity, Growth, NodeType, capacity, node_types
from sg_ray.cluster.placing.packing import Machine

ROOT = Path(__file__).parents[2]
GCS = "10.1.2.3:6379"
SPOT = Machine(96, 8)

CONFIG = """
max_workers: 6
head_node_type: head
available_node_types:
  head: {resources: {CPU: 0, driver: 1000}}
  spot: {min_workers: 0, max_workers: 4, resources: {CPU: 96, GPU: 8, "accelerator_type:A100": 1}}
  many: {resources: {CPU: 4}}
"""


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Starts what looks as Ray's autoscaler does among the processes of a head."""
    script = tmp_path / "monitor.py"
    script.write_text("import time\ntime.sleep(120)\n")
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> None:
        command = [sys.executable, str(script), f"--gcs-address={GCS}", *arguments]
        started.append(subprocess.Popen(command))
        deadline_s = time.monotonic() + 30
        while not any(command == one for one in capacity_module._commands()):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_the_autoscalers_own_settings_say_what_may_come(
    monitor: Callable[..., None], tmp_path: Path
) -> None:
    path = tmp_path / "ray_bootstrap_config.yaml"
    path.write_text(CONFIG)
    monitor(f"--autoscaling-config={path}")
    assert node_types(GCS) == [NodeType(SPOT, 4), NodeType(Machine(4), 6)]
    assert node_types("10.1.2.4:6379") is None  # another cluster's
    for damaged in ("[", "available_node_types: {spot: {max_workers: some}}", "a: b"):
        path.write_text(damaged)
        assert node_types(GCS) is None
    path.unlink()
    assert node_types(GCS) is None


def test_machines_of_ones_own_are_known_once_they_are_here(
    tmp_path: Path, nodes: dict[str, Any]
) -> None:
    """As Ray writes it on the head of such a cluster: one type, of which nothing is said."""
    path = tmp_path / "ray_bootstrap_config.yaml"
    path.write_text(
        "max_workers: 2\nhead_node_type: local.cluster.node\navailable_node_types:\n"
        "  local.cluster.node: {node_config: {}, resources: {}, max_workers: 2}\n"
    )
    nodes["types"] = capacity_module._read_types(path)
    assert nodes["types"] == [NodeType(None, 2)]
    assert capacity(Growth(GCS)).may_grow  # one of two is here
    nodes["nodes"].append({"NodeID": "second", "Alive": True, "Resources": {"CPU": 4.0}})
    assert capacity(Growth(GCS)) == Capacity(capacity().machines)


def test_a_cluster_without_an_autoscaler_gets_nothing_more(monitor: Callable[..., None]) -> None:
    monitor()
    assert node_types(GCS) == []


def test_our_own_cluster_files_say_what_may_come(tmp_path: Path) -> None:
    types = capacity_module._read_types(ROOT / "cluster.yaml")
    assert types is not None
    assert any(one.machine is not None and one.machine.gpus for one in types)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A cluster of two nodes, as Ray tells of it; ``types`` and ``draining`` may be set."""
    cluster: dict[str, Any] = {
        "nodes": [
            {"NodeID": "head", "Alive": True, "Resources": {"memory": 1.0}},
            {"NodeID": "spot", "Alive": True, "Resources": {"CPU": 96.0, "GPU": 8.0}},
            {"NodeID": "dead", "Alive": False, "Resources": {"CPU": 96.0, "GPU": 8.0}},
        ],
        "types": [NodeType(SPOT, 3)],
        "draining": {},
    }
    monkeypatch.setattr(ray, "nodes", lambda: cluster["nodes"])
    context = SimpleNamespace(gcs_address=GCS)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(capacity_module, "node_types", lambda address: cluster["types"])
    monkeypatch.setattr(
        capacity_module, "state", SimpleNamespace(get_draining_nodes=lambda: cluster["draining"])
    )
    return cluster


def test_nodes_that_are_here_are_not_to_come_as_well(nodes: dict[str, Any]) -> None:
    head = Machine(0)
    assert capacity() == Capacity((head, SPOT))
    assert capacity(Growth(GCS)) == Capacity((head, SPOT), (SPOT, SPOT))
    assert capacity(Growth(GCS), away={"spot"}).machines == (head,)
    nodes["draining"] = {"spot": 0}
    assert capacity(Growth(GCS)).machines == (head,)
    nodes["types"] = None
    assert capacity(Growth(GCS)).may_grow
    nodes["types"] = []
    assert capacity(Growth(GCS)) == Capacity(capacity().machines)


def test_the_autoscaler_is_looked_for_once_a_minute(
    nodes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    growth = Growth(GCS, now_s=lambda: clock[0])
    assert growth() == nodes["types"]
    clock[0], nodes["types"] = 50.0, []
    assert growth() != []
    clock[0] = 70.0
    assert growth() == []


def test_the_trials_of_a_leaving_node_are_told_once(nodes: dict[str, Any]) -> None:
    told: list[str] = []
    clock = [0.0]
    board: Any = SimpleNamespace(ask_to_stop=told.append)
    leaving = LeavingNodes(board, now_s=lambda: clock[0])
    for nodes["draining"] in ({}, {"spot": 7}, {"spot": 7}, {"head": 0}):
        clock[0] += 10
        leaving.look()
    assert told == ["spot", "head"]
    nodes["draining"] = {"other": 0}
    leaving.look()  # at once again: Ray is not asked
    assert told == ["spot", "head"]
    assert leaving.explain("The actor died because its node has died. Node Id: spot")
    assert not leaving.explain("Node Id: another")


@pytest.mark.parametrize(
    ("num_workers", "types", "waits"),
    [
        (2, [], False),
        (2, [NodeType(SPOT, 3)], True),
        (2, None, True),
        ((1, 2), [NodeType(SPOT, 3)], False),
    ],
)
def test_a_group_waits_for_machines_that_may_come(
    num_workers: Any, types: Any, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "node_types", lambda address: types)
    monkeypatch.delenv(group._START_TIMEOUT, raising=False)
    patience = group._patience(ScalingConfig(num_workers=num_workers), GCS)
    assert bool(patience) is waits
    monkeypatch.setenv(group._START_TIMEOUT, "30")
    assert group._patience(ScalingConfig(num_workers=num_workers), GCS) == {}


@pytest.mark.slow
def test_a_real_cluster_is_counted_without_joining_it(ray_session: None) -> None:
    address = ray.get_runtime_context().gcs_address
    assert capacity_module.capacity_at(address) == (address, Capacity((Machine(2),)))
    assert capacity(Growth(address)) == capacity() == Capacity((Machine(2),))
