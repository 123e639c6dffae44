"""A Ray cluster of several nodes on this machine, with a temporary folder and ports of its own."""

import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray.cluster_utils import Cluster

_STORE_BYTES = 80 * 2**20


@contextmanager
def private_cluster(num_head_cpus: int = 1, *, dashboard: bool = False) -> Iterator[Cluster]:
    """Hold a cluster that has a head alone; nobody has joined it yet.

    Train frees the workers of a group with the help of the dashboard.
    """
    with tempfile.TemporaryDirectory(
        prefix="sgr-", dir="/tmp", ignore_cleanup_errors=True
    ) as temporary:  # sockets have short names
        head = {
            "num_cpus": num_head_cpus,
            "include_dashboard": dashboard,
            "dashboard_port": _free_port(),
            "temp_dir": temporary,
            "object_store_memory": _STORE_BYTES,
        }
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def add_node(cluster: Cluster, num_cpus: int, env: Mapping[str, str] | None = None) -> Any:
    """Start a node; its processes see ``env`` beside the variables of this one."""
    return cluster.add_node(
        num_cpus=num_cpus, object_store_memory=_STORE_BYTES, env_vars=dict(env or {})
    )


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
