"""A cluster that is made of nothing by an autoscaler, and one whose nodes are taken away on notice.

The autoscaler is Ray's own; its machines are processes of one host (Ray's provider for tests).
"""

import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from cluster_sweep import PACE_S, ClusterSweep, compared, console, run_on_one_machine, write_sweep
from hosts import Host, hosts
from lab import Line, missing_namespaces
from ray_cluster import PORT, RayCluster, ray_cluster

from sg_ray.config.yaml_text import write_yaml

TITLE = "machines that come when trials wait, and go on notice"
PARTS = ("autoscaler", "drain")

_SEEDS = (42, 7, 2025)
_MOST_NODES = 2
_DEADLINE_S = 120
_NONE = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
    "cluster_synced_files",
    "rsync_exclude",
    "rsync_filter",
)
"""What the schema wants and a machine that is a process has none of."""
_ASK_FOR_NODES = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print({n["NodeManagerAddress"]: n["NodeID"] for n in ray.nodes() if n["Alive"]}[sys.argv[2]])
"""


def missing() -> str | None:
    """Hosts need root."""
    return missing_namespaces()


def run(folder: Path, parts: Collection[str] = ()) -> Iterator[Line]:
    """Try the parts in their order, each compared with the same sweep on one machine."""
    whole = folder / "one-machine"
    write_sweep(whole, _SEEDS)
    with hosts("growth", 1, shared=folder) as (alone,):
        run_on_one_machine(alone, whole)
    if not parts or "autoscaler" in parts:
        yield from _grown(folder, whole)
    if not parts or "drain" in parts:
        yield from _drained(folder, whole)


def _grown(folder: Path, whole: Path) -> Iterator[Line]:
    """A head without CPUs: nothing fits until trials ask for it."""
    config = folder / "autoscaler.yaml"
    config.write_text(write_yaml(_autoscaler()), encoding="utf-8")
    variables = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", PACE_S: "0.2"}
    with hosts("growth", 1, shared=folder) as (head,):
        cluster = RayCluster(head, folder / "growth.log", variables)
        try:
            cluster.start(0, [f"--autoscaling-config={config}"])
            refused = folder / "refused"
            write_sweep(refused, _SEEDS, resources={"cpus": 3})
            code = ClusterSweep(cluster, refused).finish()
            told = "takes 3 CPUs" in console(refused)
            yield Line(
                "autoscaler: a trial that no machine could hold",
                f"exit code {code}, {'in words' if told else console(refused)}",
                is_ok=code == 2 and told,
            )
            grown = folder / "grown"
            write_sweep(grown, _SEEDS)
            code = ClusterSweep(cluster, grown).finish()
            told = f"exit code {code}; the head has no CPU"
            yield Line("autoscaler: trials on machines that came", told, is_ok=code == 0)
            yield compared("autoscaler: what it found", grown, whole)
        finally:
            cluster.end_watcher()


def _autoscaler() -> dict[str, object]:
    """Settings of an autoscaler whose machines are processes with one CPU each."""
    return {
        "cluster_name": "growth",
        "max_workers": _MOST_NODES,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5,
        "provider": {"type": "fake_multinode"},
        "auth": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {"CPU": 1},
                "node_config": {},
                "min_workers": 0,
                "max_workers": _MOST_NODES,
            },
        },
        **{name: [] for name in _NONE},
    }


def _drained(folder: Path, whole: Path) -> Iterator[Line]:
    """``ray drain-node`` on a node in the middle of its trials."""
    drained = folder / "drained"
    write_sweep(drained, _SEEDS)
    with hosts("growth", 3, shared=folder) as (head, first, second):
        num_cpus = {head: 0, first: 1, second: 1}
        with ray_cluster(num_cpus, folder / "drain.log", {PACE_S: "0.4"}) as cluster:
            sweep = ClusterSweep(cluster, drained)
            epochs = lambda: sweep.events("epoch")  # noqa: E731 - asked again and again
            sweep.wait_for(lambda: len(epochs()) > 8, "trials were under way")
            _drain(cluster, first)
            cluster.wait_for_nodes([head, second])
            code = sweep.finish()
            lost, resumed = (len(sweep.events(kind)) for kind in ("job_lost", "trial_resumed"))
            yield Line(
                "drain: trials of the node",
                f"exit code {code}, {resumed} went on elsewhere, {lost} counted as lost",
                is_ok=code == 0 and resumed >= 1 and lost == 0,
            )
            yield compared("drain: what it found", drained, whole)


def _drain(cluster: RayCluster, host: Host) -> None:
    """Announce that a node is to be taken away, as people do by hand."""
    address = f"{cluster.head.address}:{PORT}"
    node_id = _run(cluster, [sys.executable, "-c", _ASK_FOR_NODES, address, host.address])
    ray = str(Path(sys.executable).with_name("ray"))
    options = {
        "--address": address,
        "--node-id": node_id.split()[-1],
        "--reason": "DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message": "spot",
        "--deadline-remaining-seconds": str(_DEADLINE_S),
    }
    _run(cluster, [ray, "drain-node", *(part for pair in options.items() for part in pair)])


def _run(cluster: RayCluster, command: Sequence[str]) -> str:
    variables = [f"{name}={value}" for name, value in cluster.variables.items()]
    return cluster.head.run(["env", *variables, *command], timeout_s=120)
