"""A sweep on a cluster of several nodes that it joins: real Ray, its nodes on this machine."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from private_cluster import add_node, private_cluster
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group
from tiny_sweep import read_json_records, tiny_experiment

from sg_ray.cluster.nodes import node_check
from sg_ray.cluster.nodes.node_check import NodeCheck
from sg_ray.cluster.nodes.placement_groups import (
    LeftGroups,
    cluster_actors,
    placement_groups,
    remove_groups_of_actor,
    told_holders,
)
from sg_ray.code_version import code_version
from sg_ray.config import Resources
from sg_ray.errors import InputError
from sg_ray.records.journal import read_events
from sg_ray.sweep.execute.tune_executor import TuneExecutor
from sg_ray.sweep.run import run_sweep
from sg_ray.sweep_folder import SweepFolder

PACKAGE = Path(__file__).parents[2] / "sg_ray"
GNN = {"gnn": Resources(cpus=1)}

pytestmark = [pytest.mark.slow, pytest.mark.alone]  # a process that has not joined another Ray


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray has the nodes' processes look for code in the driver's folder first."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def other_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package that trains otherwise, though nobody could tell by its files."""
    folder = tmp_path_factory.mktemp("other")
    shutil.copytree(PACKAGE, folder / "sg_ray", ignore=shutil.ignore_patterns("__pycache__"))
    loop = folder / "sg_ray" / "training" / "loop.py"
    loop.write_text(f"{loop.read_text()}\nOTHER = 1\n")
    return folder


@pytest.fixture(scope="module")
def no_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder by which the package cannot be found."""
    folder = tmp_path_factory.mktemp("none")
    (folder / "sg_ray.py").write_text("raise ModuleNotFoundError(\"No module named 'sg_ray'\")\n")
    return folder


@pytest.fixture(scope="module")
def cluster(other_code: Path, no_code: Path) -> Iterator[Cluster]:
    """A head that may train, and two nodes that may not."""
    with private_cluster(2) as cluster:
        add_node(cluster, 3, {"PYTHONPATH": str(other_code)})
        add_node(cluster, 3, {"PYTHONPATH": str(no_code)})
        yield cluster


def test_nodes_that_differ_are_named_and_trained_on_by_nobody(
    cluster: Cluster, tmp_path: Path
) -> None:
    experiment = tiny_experiment(
        tmp_path,
        data={"source": "synthetic", "num_samples": 60},
        tracking={"enabled": False},
        search={"num_trials": 1, "pruning": {"enabled": False}},
        replicate={"top_k": 1, "seeds": [42]},
    )
    outcome = run_sweep(experiment, executor=TuneExecutor(cluster.address))
    assert outcome.exit_code == 0
    events = read_events(experiment.folder.events)
    told = sorted(
        (event.reason for event in events if event.type == "node"), key=lambda one: "other" in one
    )
    assert len(told) == 2
    assert told[0].startswith("sg_ray is not installed on ")
    assert "has other code: version" in told[1]
    assert not [event for event in events if event.type == "job_lost"]
    records = read_json_records(experiment.folder.path)
    assert {record["environment"]["code_version"] for record in records} == {code_version()}
    assert experiment.folder.node_tokens == []


@pytest.fixture
def joined(cluster: Cluster) -> Iterator[None]:
    """This process has joined the cluster."""
    ray.init(address=cluster.address, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("joined")
def test_without_a_node_that_fits_the_sweep_is_refused(tmp_path: Path) -> None:
    with NodeCheck(SweepFolder(tmp_path), [], lambda *_: None) as check:
        check.ask_all(GNN)
        assert [node.has["CPU"] for node in check.usable] == [2]
        until(lambda: free_cpus() == 2)  # those of the others are held
    until(lambda: free_cpus() == 8)
    large = {"gnn": Resources(cpus=3)}
    with (
        NodeCheck(SweepFolder(tmp_path), [], lambda *_: None) as check,
        pytest.raises(InputError, match=r"no node is left that a gnn trial may run on\. .* other"),
    ):
        check.ask_all(large)
    until(lambda: free_cpus() == 8)


@pytest.mark.usefixtures("joined")
def test_a_node_that_joins_is_asked_before_it_trains_and_again_once_it_may_be_mended(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_check, "_ASK_AGAIN_S", 2.0)
    no_code = tmp_path / "none"
    no_code.mkdir()
    (no_code / "sg_ray.py").write_text("raise ModuleNotFoundError\n")
    told: list[tuple[str, str]] = []
    with NodeCheck(SweepFolder(tmp_path), [], lambda _, *news: told.append(news)) as check:
        check.ask_all(GNN)
        assert [news for news, _ in told] == ["avoided", "avoided"]
        bad = add_node(cluster, 1, {"PYTHONPATH": str(no_code)})
        good = add_node(cluster, 1)
        until(lambda: check.look() or len(told) == 4)
        assert sorted(news for news, _ in told[2:]) == ["avoided", "joined"]
        until(lambda: free_cpus() == 3)
        (no_code / "sg_ray.py").unlink()
        (no_code / "sg_ray").symlink_to(PACKAGE)
        until(lambda: check.look() or len(told) == 5)
        assert told[-1] == ("joined", "")
        until(lambda: free_cpus() == 4)
        cluster.remove_node(good)
        cluster.remove_node(bad)
        until(lambda: check.look() or len(told) == 7)
        assert [news for news, _ in told[5:]] == ["lost", "lost"]


@ray.remote(num_cpus=0)
class Asking:
    """Asks for a placement group, as the controller of a group of workers does."""

    def ask(self) -> str:
        group = placement_group([{"CPU": 1}])
        group.wait(30)
        return str(group.id.hex())


@pytest.mark.usefixtures("joined")
def test_c5_what_a_dead_actor_had_asked_for_is_freed() -> None:
    """Ray itself keeps it for as long as the driver lives: the next group would wait for ever."""
    dead, alive = Asking.remote(), Asking.remote()
    left, used = ray.get([dead.ask.remote(), alive.ask.remote()])
    ray.kill(dead)
    time.sleep(3)
    assert {group.id for group in placement_groups()} == {left, used}
    groups = LeftGroups()
    groups.look()
    assert len(placement_groups()) == 2, "nothing has died that we know of"
    groups.expect()
    groups.look()
    assert [group.id for group in placement_groups()] == [used]
    remove_groups_of_actor(alive._actor_id.hex())
    assert placement_groups() == []


def test_c5_a_group_that_is_killed_while_it_is_set_up_does_not_block_the_sweep(
    tmp_path: Path,
) -> None:
    """Its workers fit once: what the first group had asked for must be free for the second."""
    experiment = tiny_experiment(
        tmp_path,
        data={"source": "synthetic", "num_samples": 60},
        tracking={"enabled": False},
        resources={"num_workers": 2},
        search={"num_trials": 1, "pruning": {"enabled": False}},
        replicate={"top_k": 1, "seeds": [42]},
    )

    def kill() -> None:
        """Kill the process that leads the group: the one that has started Train's controller."""
        until(lambda: ray.is_initialized() and any(group.actor for group in placement_groups()))
        group = next(group for group in placement_groups() if group.actor)
        actors = cluster_actors()
        controller = next(actor for actor in actors if actor.actor_id.hex() == group.actor)
        owner = controller.owner_address.worker_id
        os.kill(next(a.pid for a in actors if a.address.worker_id == owner), signal.SIGKILL)

    with private_cluster(2, dashboard=True) as small:
        killer = threading.Thread(target=kill)
        killer.start()
        outcome = run_sweep(experiment, executor=TuneExecutor(small.address))
        killer.join()
        ray.init(address=small.address, log_to_driver=False)
        assert placement_groups() == []
        assert not [a for a in cluster_actors() if a.class_name == "PlacementGroupCleaner"]
    assert outcome.exit_code == 0
    events = [event.type for event in read_events(experiment.folder.events)]
    assert events.count("job_lost") == 1


@pytest.mark.usefixtures("joined")
def test_what_another_job_has_left_is_named_and_the_command_removes_it(cluster: Cluster) -> None:
    assert told_holders() == ""
    script = (
        "import ray; from ray.util import placement_group as p; "
        f"ray.init('{cluster.address}', log_to_driver=False); "
        "p([{'CPU': 2}], lifetime='detached', name='left').wait(30)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    (left,) = placement_groups()
    said = told_holders()
    assert f"held by placement group {left.id} with 2 CPUs, of job {left.job}, which has" in said
    command = said.partition("is removed by: ")[2]
    python = command.replace("python", sys.executable, 1).replace("'auto'", f"'{cluster.address}'")
    subprocess.run(python, shell=True, check=True, capture_output=True)
    assert placement_groups() == []


def free_cpus() -> float:
    return float(ray.available_resources().get("CPU", 0))


def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)
