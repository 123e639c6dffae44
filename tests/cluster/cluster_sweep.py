"""A sweep on a cluster of hosts, and the same one on one machine, to be compared bit by bit.

The order in which trials end differs from run to run, and a search asks for later points by what
earlier ones gave. So this one has a single point, and seeds that do not race: which trials there
are, and what each gives, depends on nothing that happens. All of a family's trials but the first
can run at once.

An epoch lasts as long as a variable of the node says, by a metric that sleeps: long enough to meet
a trial in the middle on any machine, at no cost of CPU.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chaos_checks import violations
from hosts import Host
from lab import ROOT, Line
from ray_cluster import RayCluster, cluster_environment, wait_until
from tiny_sweep import MODELS, write_experiment

from sg_ray.records.events import Event
from sg_ray.records.journal import read_events
from sg_ray.records.record import read_records
from sg_ray.sweep_folder import SweepFolder

PACE_S = "LAB_PACE_S"
"""Variable: the seconds that an epoch lasts at least, on this node."""

_SEEDS = (42, 7, 2025, 1, 2, 3, 4, 5)
_TRIAL = ("ray::TrialActor", "ray::ResourceTrainable")
"""How Ray calls the process of a trial, which lives between trials, too, and at its work."""

_PACE = f'''
import os
import time

from sg_ray.statistics.own_metrics import Metric


def _pace(labels, probabilities, weights=None):
    time.sleep(float(os.environ.get("{PACE_S}", "0")))
    return 0.0


PACE = Metric("pace", _pace)
'''


def write_sweep(folder: Path, seeds: Sequence[int] = _SEEDS, **settings: Any) -> None:
    """Write the experiment: one configuration of the GNN, and the floor, with these seeds."""
    folder.mkdir(parents=True)
    (folder / "pace.py").write_text(_PACE, encoding="utf-8")
    gnn = {**MODELS["gnn"]["config"], "epochs": 20}
    changed = {
        "models": {"gnn": {"config": gnn}},
        "metrics": ["pace.py:PACE"],
        "search": {"num_trials": 1, "pruning": {"enabled": False}},
        "replicate": {"top_k": 1, "seeds": list(seeds), "race_alpha": None},
        "max_failures": 5,
        **settings,
    }
    write_experiment(folder, **changed)


def run_on_one_machine(host: Host, folder: Path) -> None:
    """Run the sweep in ``folder`` as on a machine without a cluster."""
    process = _start(host, folder, [], cluster_environment())
    if process.wait(600) != 0:
        raise RuntimeError(f"not even on one machine: {console(folder)}")


class ClusterSweep:
    """A sweep that runs on a cluster, begun or gone on with; its driver is on the head."""

    def __init__(
        self, cluster: RayCluster, folder: Path, variables: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        where = ["--address", "auto"]
        environment = {**cluster.variables, **(variables or {})}
        environment.pop(PACE_S, None)  # the driver measures, too
        self.driver = _start(cluster.head, folder, where, environment)

    def events(self, kind: str) -> list[Event]:
        """Return what has happened of one kind."""
        journal = self.folder / "outputs" / "tiny" / "events.jsonl"
        return [event for event in read_events(journal) if event.type == kind]

    def num_trained_by_host(self) -> dict[str, int]:
        """Return how many trials of the GNN each host trained to their end, by its name."""
        records = read_records(SweepFolder(self.folder / "outputs" / "tiny")).values()
        hosts = [one.environment["host"] for one in records if one.family == "gnn"]
        return dict(sorted(Counter(hosts).items()))

    def wait_for(
        self, is_so: Callable[[], object], what: str, *, patience_s: float = 180.0
    ) -> None:
        """Wait for something to happen while it runs. Raises RuntimeError if it ends before."""

        def look() -> bool:
            if self.driver.poll() is not None:
                raise RuntimeError(f"the sweep ended before {what}: {console(self.folder)}")
            return bool(is_so())

        wait_until(look, what, patience_s=patience_s)

    def finish(self, *, patience_s: float = 600.0) -> int:
        """Wait for its end and return its exit code."""
        return int(self.driver.wait(patience_s))


def num_trials_at(host: Host) -> int:
    """Return how many processes of trials a host has."""
    return len(host.processes(*_TRIAL))


def console(folder: Path) -> str:
    """Return the end of what a sweep printed."""
    return (folder / "console.log").read_text(encoding="utf-8")[-3000:]


def compared(what: str, folder: Path, whole: Path) -> Line:
    """Return what comes of comparing a sweep with that of one machine."""
    problems = violations(folder, whole)
    num_records = len(list((folder / "outputs" / "tiny" / "records").glob("*.json")))
    same = f"{num_records} records, leaderboard, weights and MLflow as on one machine, bit by bit"
    told = f"{len(problems)} differences: {'; '.join(problems[:3])[:600]}"
    return Line(what, told if problems else same, is_ok=not problems)


def _start(
    host: Host, folder: Path, options: Sequence[str], environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    sweep = folder / "outputs" / "tiny"
    which = ["--resume", sweep] if (sweep / "sweep.yaml").exists() else ["experiment.yaml"]
    command = [sys.executable, ROOT / "experiments" / "sweep.py", *which, *options]
    with (folder / "console.log").open("ab") as log:
        return host.popen(
            command, cwd=folder, env=environment,
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
