"""Chaos among hosts: a sweep on a cluster whose nodes die, join and are cut off at random."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from cluster_sweep import ClusterSweep, console, num_trials_at
from hosts import Host, hosts
from ray_cluster import RayCluster, ray_cluster, wait_until

from sg_ray.cluster.patience import PATIENCE

NUM_FAULTS = 12
MAX_WAIT_S = 12.0
"""The longest wait from one fault to the next."""
MAX_CUT_S = 30.0
_GONE_PATIENCE_S = 60.0

Fault = Literal["node killed", "node added", "link cut", "driver killed"]
_FAULTS: tuple[Fault, ...] = get_args(Fault)


@dataclass
class NodeChaos:
    """What happened to the nodes of a sweep, and what is wrong after it."""

    faults: list[Fault] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run_among_nodes(folder: Path, rng: np.random.Generator) -> NodeChaos:
    """Run the sweep that is written in ``folder`` on a head and two or so workers, under fire."""
    chaos = NodeChaos()
    with hosts("chaos", 4, shared=folder) as (head, *workers):
        log = head.tmp / "start.log"
        num_cpus = {head: 0, workers[0]: 1, workers[1]: 1}  # the head only looks on
        with ray_cluster(num_cpus, log, PATIENCE) as cluster:
            began_s = time.monotonic()
            _Round(folder, cluster, workers[:2], workers[2:], rng, chaos).run()
            chaos.seconds = time.monotonic() - began_s
            chaos.problems += _left_behind(cluster, (head, *workers))
    return chaos


class _Round:
    """One sweep: which hosts are nodes now, which are not, and its driver."""

    def __init__(
        self,
        folder: Path,
        cluster: RayCluster,
        nodes: list[Host],
        others: list[Host],
        rng: np.random.Generator,
        chaos: NodeChaos,
    ) -> None:
        self._folder, self._cluster, self._rng, self._chaos = folder, cluster, rng, chaos
        self._nodes, self._others = nodes, others
        self._sweep = ClusterSweep(cluster, folder)

    def run(self) -> None:
        for fault in islice(self._drawn(), NUM_FAULTS):
            if self._ends_within(float(self._rng.uniform(0, MAX_WAIT_S))):
                break
            if self._happens(fault):
                print(f"  {fault}", flush=True)
                self._chaos.faults.append(fault)
        while len(self._nodes) < 2 and not self._ends_within(0):
            self._happens("node added")
        if (code := self._sweep.finish()) != 0:
            self._chaos.problems.append(f"exit code {code}: {console(self._folder)}")

    def _drawn(self) -> Iterator[Fault]:
        while True:
            for number in self._rng.permutation(len(_FAULTS)):
                yield _FAULTS[number]

    def _ends_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._sweep.driver.poll() is None:
            time.sleep(0.05)
        return self._sweep.driver.poll() is not None

    def _happens(self, fault: Fault) -> bool:
        """Do it; False if there is nothing to do it to."""
        match fault:
            case "node killed" if self._nodes:
                self._others.append(self._nodes.pop(int(self._rng.integers(len(self._nodes)))))
                self._others[-1].kill()
            case "node added" if self._others:
                self._nodes.append(self._others.pop(0))
                self._cluster.join({self._nodes[-1]: 1})
            case "link cut" if self._nodes:
                host = self._nodes[int(self._rng.integers(len(self._nodes)))]
                host.cut()
                self._ends_within(float(self._rng.uniform(0, MAX_CUT_S)))
                host.mend()
            case "driver killed":
                self._sweep.driver.kill()
                self._sweep.finish()
                self._sweep = ClusterSweep(self._cluster, self._folder)
            case _:
                return False
        return True


def _left_behind(cluster: RayCluster, everybody: tuple[Host, ...]) -> Iterator[str]:
    try:
        wait_until(
            lambda: not any(map(num_trials_at, everybody)),
            "no trial's process is left",
            patience_s=_GONE_PATIENCE_S,
        )
    except TimeoutError as error:
        yield str(error)
    if number := cluster.state().num_placement_groups:
        yield f"{number} placement groups are left"
