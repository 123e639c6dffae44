"""A Ray cluster on the hosts of a lab, made as people make one: by ``ray start`` on each."""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hosts import Host
from lab import ROOT

PORT = 6379
PATIENCE_S = 180.0
_POLL_S = 0.1
_WATCHER = Path(__file__).with_name("watch_ray.py")


@dataclass(frozen=True)
class ClusterState:
    """What a cluster says of itself: addresses of its living nodes, groups that hold something."""

    nodes: frozenset[str]
    num_placement_groups: int


class RayCluster:
    """Nodes and their environment; the first one is the head."""

    def __init__(self, head: Host, log: Path, variables: Mapping[str, str]) -> None:
        self.head, self._log = head, log
        self.variables = {**cluster_environment(), **variables}
        self._watcher: subprocess.Popen[str] | None = None

    def start(self, num_cpus: int, more: Sequence[str] = ()) -> None:
        """Start the head, with ``more`` options, and wait for it."""
        options = ["--head", f"--port={PORT}", f"--num-cpus={num_cpus}", *more]
        self._check(self.head, self._ray_start(self.head, options))
        with self._log.open("ab") as log:
            self._watcher = self.head.popen(
                [sys.executable, _WATCHER],
                env=self.variables, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self.wait_for_nodes([self.head])

    def join(
        self, num_cpus: Mapping[Host, int], own: Mapping[Host, Mapping[str, str]] | None = None
    ) -> None:
        """Have hosts join, with so many CPUs each, all at once; some have variables of their own.

        That they have joined is not waited for.
        """
        where = f"--address={self.head.address}:{PORT}"
        starts = {
            host: self._ray_start(host, [where, f"--num-cpus={number}"], (own or {}).get(host))
            for host, number in num_cpus.items()
        }
        for host, start in starts.items():
            self._check(host, start)

    def state(self) -> ClusterState:
        """Ask the head."""
        assert self._watcher is not None
        assert self._watcher.stdin is not None
        assert self._watcher.stdout is not None
        self._watcher.stdin.write("\n")
        self._watcher.stdin.flush()
        told: dict[str, Any] = json.loads(self._watcher.stdout.readline())
        return ClusterState(frozenset(told["nodes"]), told["num_placement_groups"])

    def wait_for_nodes(self, wanted: Sequence[Host]) -> None:
        """Wait until just these hosts are living nodes."""
        addresses = {host.address for host in wanted}
        wait_until(lambda: self.state().nodes == addresses, f"nodes are {sorted(addresses)}")

    def end_watcher(self) -> None:
        """Leave the cluster."""
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.communicate()

    def _ray_start(
        self, host: Host, options: Sequence[str], variables: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        ray = Path(sys.executable).with_name("ray")
        command = [ray, "start", f"--node-ip-address={host.address}", "--disable-usage-stats"]
        with self._log.open("ab") as log:
            return host.popen(
                [*command, *options],
                env={**self.variables, **(variables or {})},
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def _check(self, host: Host, start: "subprocess.Popen[bytes]") -> None:
        if start.wait(PATIENCE_S) != 0:
            raise RuntimeError(f"{host.name}: ray start failed: {self._log.read_text()[-2000:]}")


@contextmanager
def ray_cluster(
    num_cpus: Mapping[Host, int],
    log: Path,
    common: Mapping[str, str],
    own: Mapping[Host, Mapping[str, str]] | None = None,
) -> Iterator[RayCluster]:
    """Yield a cluster of hosts, the head first, with so many CPUs, whatever they have.

    ``common`` are variables of all nodes and of the driver, ``own`` those of single nodes. The
    cluster ends with its hosts: nothing is stopped here.
    """
    head, *others = num_cpus
    cluster = RayCluster(head, log, common)
    try:
        cluster.start(num_cpus[head])
        cluster.join({host: num_cpus[host] for host in others}, own)
        cluster.wait_for_nodes(list(num_cpus))
        yield cluster
    finally:
        cluster.end_watcher()


def wait_until(is_so: Callable[[], bool], what: str, *, patience_s: float = PATIENCE_S) -> None:
    """Raise TimeoutError, saying ``what``, if it is not so in time."""
    deadline = time.monotonic() + patience_s
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {patience_s:.0f} s: {what}")
        time.sleep(_POLL_S)


def cluster_environment() -> dict[str, str]:
    """Return what the processes of all nodes have: this checkout's package, and one token."""
    environment = {name: v for name, v in os.environ.items() if not name.startswith("RAY_")}
    return {
        **environment,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_memory_monitor_refresh_ms": "0",  # each node would count the whole machine's
    }
