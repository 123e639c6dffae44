"""A sweep on several hosts, of which one dies, joins late, is cut off, or is not as the others.

Each part is a sweep on a cluster of its own, compared with the same one on one machine; see
``cluster_sweep`` for why the order of its trials does not matter. CPUs are pretended, so that
placement can be tried: each host is told how many it has.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster_sweep import (
    PACE_S,
    ClusterSweep,
    compared,
    console,
    num_trials_at,
    run_on_one_machine,
    write_sweep,
)
from hosts import Host, hosts
from lab import Line, missing_namespaces
from ray_cluster import RayCluster, ray_cluster

TITLE = "sweeps on hosts that die, join late, are cut off, or are not as the others"

_SEEDS = (42, 7, 2025, 1, 2, 3, 4, 5)
_FEW_SEEDS = (42, 7, 2025, 1)


def missing() -> str | None:
    """Hosts need root."""
    return missing_namespaces()


def run(folder: Path, parts: Collection[str] = ()) -> Iterator[Line]:
    """Try the parts in their order, each on hosts of its own."""
    bench = _Bench(folder, {})
    for name in PARTS:
        if not parts or name in parts:
            yield from _PARTS[name](bench)


@dataclass
class _Bench:
    """Where sweeps are run and compared."""

    folder: Path
    _whole: dict[tuple[int, ...], Path]

    def whole(self, seeds: Sequence[int]) -> Path:
        """Return the folder of the sweep on one machine, run when it is first asked for."""
        folder = self.folder / f"one-machine-{len(seeds)}"
        if tuple(seeds) not in self._whole:
            write_sweep(folder, seeds)
            with hosts("nodes", 1, shared=self.folder) as (alone,):
                run_on_one_machine(alone, folder)
            self._whole[tuple(seeds)] = folder
        return self._whole[tuple(seeds)]


@dataclass
class _Run:
    """A sweep on a cluster, and all hosts there are, in the cluster or not."""

    name: str
    hosts: Sequence[Host]
    cluster: RayCluster
    sweep: ClusterSweep
    before: Mapping[Host, frozenset[str]]

    def ends_like(self, whole: Path) -> Iterator[Line]:
        """Wait for its end; tell what is not as on one machine, and what is left of it."""
        code = self.sweep.finish()
        if code != 0:
            told = f"exit code {code}: {console(self.sweep.folder)}"
            yield Line(f"{self.name}: its end", told, is_ok=False)
            return
        yield compared(f"{self.name}: what it found", self.sweep.folder, whole)
        yield self._left_behind()

    def _left_behind(self) -> Line:
        left = [
            f"{host.name} has {path}"
            for host in self.hosts
            for path in sorted(_names(host) - self.before[host])
            if "torchinductor" not in path
        ]
        left += [f"{n} trials at {h.name}" for h in self.hosts if (n := num_trials_at(h))]
        if number := self.cluster.state().num_placement_groups:
            left.append(f"{number} placement groups")
        told = ", ".join(left) or "no trial's process, no placement group, no scratch folder"
        return Line(f"{self.name}: left behind", told, is_ok=not left)


@contextmanager
def _running(
    bench: _Bench,
    name: str,
    num_cpus: Sequence[int],
    *,
    seeds: Sequence[int] = _SEEDS,
    pace_s: float = 0.3,
    num_spare: int = 0,
) -> Iterator[_Run]:
    """Yield a sweep that has just been started; ``num_spare`` hosts are in no cluster yet."""
    folder = bench.folder / name
    write_sweep(folder, seeds)
    with hosts("nodes", len(num_cpus) + num_spare, shared=bench.folder) as all_hosts:
        log, pace = bench.folder / f"{name}.log", {PACE_S: str(pace_s)}
        members = all_hosts[: len(num_cpus)]
        with ray_cluster(members, num_cpus=num_cpus, log=log, variables=pace) as cluster:
            before = {host: _names(host) for host in all_hosts}
            yield _Run(name, all_hosts, cluster, ClusterSweep(cluster, folder), before)


def _names(host: Host) -> frozenset[str]:
    return frozenset(path.name for path in host.tmp.iterdir())


def _plain(bench: _Bench) -> Iterator[Line]:
    """All is well."""
    whole = bench.whole(_SEEDS)
    with _running(bench, "plain", [1, 2, 1]) as run:
        most = [0] * len(run.hosts)
        while run.sweep.driver.poll() is None:
            most = [max(m, num_trials_at(h)) for m, h in zip(most, run.hosts, strict=True)]
            time.sleep(0.2)
        told = f"hosts with CPUs 1, 2, 1 had up to {', '.join(map(str, most))} trials at once"
        yield Line("plain: where trials were", told, is_ok=most == [1, 2, 1])
        yield from run.ends_like(whole)


def _exchange(bench: _Bench) -> Iterator[Line]:
    """A host joins in mid-sweep, then one dies in mid-trial."""
    whole = bench.whole(_SEEDS)
    with _running(bench, "exchange", [1, 1, 1], num_spare=1) as run:
        *old, new = run.hosts
        run.sweep.wait_for(lambda: all(map(num_trials_at, old)), "all hosts train")
        began_s = time.monotonic()
        run.cluster.join({new: 1})
        run.sweep.wait_for(lambda: num_trials_at(new), "the new host trains")
        told = f"trains {time.monotonic() - began_s:.0f} s after its `ray start`, as the fourth"
        yield Line("exchange: a node added", told, is_ok=all(map(num_trials_at, old)))
        _wait_for_epochs(run, 6)
        old[-1].kill()
        began_s = time.monotonic()
        yield from _lost(run, "a node killed", began_s)
        yield from run.ends_like(whole)


def _wait_for_epochs(run: _Run, number: int) -> None:
    """Wait until so many more epochs have ended."""
    before = len(run.sweep.events("epoch"))
    run.sweep.wait_for(lambda: len(run.sweep.events("epoch")) >= before + number, "epochs go on")


def _lost(run: _Run, what: str, began_s: float) -> Iterator[Line]:
    """Wait until the sweep notices that it lost a trial; tell whether it goes on from where."""
    run.sweep.wait_for(lambda: run.sweep.events("job_lost"), "a trial is lost", patience_s=300)
    lost = run.sweep.events("job_lost")[0]
    noticed_s = time.monotonic() - began_s
    run.sweep.wait_for(
        lambda: any(e.trial_key == lost.trial_key for e in run.sweep.events("trial_resumed")),
        "the trial goes on",
    )
    resumed = next(e for e in run.sweep.events("trial_resumed") if e.trial_key == lost.trial_key)
    told = f"noticed after {noticed_s:.0f} s, went on elsewhere from epoch {resumed.epoch}"
    yield Line(f"{run.name}: {what}", f"{told} ({lost.reason[:120]})", is_ok=resumed.epoch > 0)


_PARTS: dict[str, Callable[[_Bench], Iterator[Line]]] = {
    "plain": _plain,
    "exchange": _exchange,
}
PARTS = tuple(_PARTS)
