"""A sweep on several hosts, of which one dies, joins late, is cut off, or is not as the others.

Each part is a sweep on a cluster of its own, compared with the same one on one machine; see
``cluster_sweep`` for why the order of its trials does not matter. CPUs are pretended, so that
placement can be tried: each host is told how many it has.
"""

import shutil
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
from lab import ROOT, Line, missing_namespaces
from ray_cluster import RayCluster, ray_cluster, wait_until

from sg_ray.cluster.patience import PATIENCE

TITLE = "sweeps on hosts that die, join late, are cut off, or are not as the others"

_FEW = {"seeds": (42, 7, 2025)}
_IN_MIDDLE = range(2, 18)
"""Epochs, of the 20 of a trial, after which it is worth a hit."""
_GROUP = {"seeds": (42, 7), "resources": {"num_workers": 2}}


def missing() -> str | None:
    """Hosts need root."""
    return missing_namespaces()


def run(folder: Path, parts: Collection[str] = ()) -> Iterator[Line]:
    """Try the parts in their order, each on hosts of its own."""
    bench = _Bench(folder)
    for name in PARTS:
        if not parts or name in parts:
            yield from _PARTS[name](bench)


@dataclass
class _Bench:
    """Where sweeps are run and compared."""

    folder: Path
    _whole: dict[str, Path] = field(default_factory=dict)

    def whole(self, **settings: Any) -> Path:
        """Return the folder of the sweep on one machine, run when it is first asked for."""
        asked = repr(settings)
        if asked not in self._whole:
            folder = self._whole[asked] = self.folder / f"one-machine-{len(self._whole)}"
            write_sweep(folder, **settings)
            with hosts("nodes", 1, shared=self.folder) as (alone,):
                run_on_one_machine(alone, folder)
        return self._whole[asked]


@dataclass
class _Run:
    """A sweep on a cluster, and all hosts there are, in the cluster or not."""

    name: str
    hosts: Sequence[Host]
    cluster: RayCluster
    sweep: ClusterSweep
    before: Mapping[Host, frozenset[str]]
    """What lay in each one's /tmp before it began."""
    killed: list[Host] = field(default_factory=list)

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
        """Look once the cluster has ended what the sweep was; a killed host keeps what it had."""
        with suppress(TimeoutError):
            wait_until(lambda: not any(map(num_trials_at, self.hosts)), "", patience_s=30)
        left = [
            f"{host.name} has {path}"
            for host in self.hosts
            if host not in self.killed
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
    pace_s: float = 0.3,
    num_spare: int = 0,
    prepare: Callable[[Sequence[Host], Path], Mapping[Host, Mapping[str, str]]] | None = None,
    **settings: Any,
) -> Iterator[_Run]:
    """Yield a sweep that has just been started; ``num_spare`` hosts are in no cluster yet.

    ``prepare`` is called with the hosts and the sweep's folder before anything runs, and returns
    variables of single hosts. ``settings`` are those of ``write_sweep``.
    """
    folder = bench.folder / name
    write_sweep(folder, **settings)
    with hosts("nodes", len(num_cpus) + num_spare, shared=bench.folder) as all_hosts:
        members = all_hosts[: len(num_cpus)]
        own = prepare(members, folder) if prepare else {}
        log, common = bench.folder / f"{name}.log", {**PATIENCE, PACE_S: str(pace_s)}
        with ray_cluster(dict(zip(members, num_cpus, strict=True)), log, common, own) as cluster:
            before = {host: _names(host) for host in all_hosts}
            yield _Run(name, all_hosts, cluster, ClusterSweep(cluster, folder), before)


def _names(host: Host) -> frozenset[str]:
    """Return what lies in a host's /tmp, but for what Ray itself keeps for as long as it runs."""
    return frozenset(path.name for path in host.tmp.iterdir()) - {"ray"}


def _plain(bench: _Bench) -> Iterator[Line]:
    """All is well."""
    whole = bench.whole()
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
    whole = bench.whole()
    with _running(bench, "exchange", [1, 1, 1], pace_s=1.5, num_spare=1) as run:
        *old, new = run.hosts
        run.sweep.wait_for(lambda: run.sweep.events("epoch"), "the first trial trains")
        began_s = time.monotonic()
        run.cluster.join({new: 1})
        run.sweep.wait_for(lambda: all(map(num_trials_at, run.hosts)), "all four hosts train")
        told = f"all four train {time.monotonic() - began_s:.0f} s after the fourth's `ray start`"
        yield Line("exchange: a node added", told, is_ok=True)
        _wait_until_all_are_in_mid_trial(run)
        old[-1].kill()
        run.killed.append(old[-1])
        began_s = time.monotonic()
        yield from _lost(run, "a node killed", began_s)
        yield from run.ends_like(whole)


def _wait_until_all_are_in_mid_trial(run: _Run) -> None:
    """Wait until as many trials as there are hosts, of one CPU each, are far from both ends.

    A host's process of a trial lives between trials, too: whoever hits it then hits nothing.
    """

    def are_all() -> bool:
        ended = {event.trial_key for event in run.sweep.events("trial_finished")}
        epochs = Counter(event.trial_key for event in run.sweep.events("epoch"))
        in_middle = [key for key, n in epochs.items() if key not in ended and n in _IN_MIDDLE]
        return len(in_middle) == len(run.hosts)

    run.sweep.wait_for(are_all, "all hosts are in the middle of a trial", patience_s=400)


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
    why = f"told: lost on {lost.host}, {lost.reason[:120]}"
    yield Line(f"{run.name}: {what}", f"{told}; {why}", is_ok=resumed.epoch > 0)


def _cut30(bench: _Bench) -> Iterator[Line]:
    """The link of a host that trains is cut for half a minute: nobody is lost."""
    whole = bench.whole()
    with _running(bench, "cut30", [1, 1, 1], pace_s=1.0) as run:
        far = _cut_while_training(run)
        time.sleep(30)
        far.mend()
        yield from run.ends_like(whole)
        lost = [event.reason for event in run.sweep.events("job_lost")]
        alive = run.cluster.state().nodes
        told = f"{len(alive)} of 3 nodes live at the end, {len(lost)} trials were lost"
        is_ok = far.address in alive and not lost
        yield Line("cut30: 30 s without network", " ".join([told, *lost]), is_ok=is_ok)


def _cut300(bench: _Bench) -> Iterator[Line]:
    """It is cut for five minutes: what it trained is trained elsewhere, and it harms nothing."""
    whole = bench.whole()
    with _running(bench, "cut300", [1, 1, 1], pace_s=6.0) as run:
        far = _cut_while_training(run)
        began_s = time.monotonic()
        yield from _lost(run, "5 minutes without network", began_s)
        num_then = num_trials_at(far)
        time.sleep(max(0.0, began_s + 300 - time.monotonic()))
        far.mend()
        is_on = run.sweep.driver.poll() is None
        told = f"{num_then} trials went on there, cut off; the sweep went on when it came back"
        yield Line("cut300: the lost node", told, is_ok=is_on)
        run.killed.append(far)  # by its own Ray: the next trial there removes what was left
        yield from run.ends_like(whole)


def _cut_while_training(run: _Run) -> Host:
    """Cut the last host off in the middle of a trial; return it."""
    _wait_until_all_are_in_mid_trial(run)
    run.hosts[-1].cut()
    return run.hosts[-1]


def _clocks(bench: _Bench) -> Iterator[Line]:
    """One host is a minute and a half behind, another one as much ahead."""
    whole = bench.whole(**_FEW)
    with _running(bench, "clocks", [0, 1, 1], prepare=_wrong_clocks, **_FEW) as run:
        yield from run.ends_like(whole)
        counts = run.sweep.num_trained_by_host()
        offsets_s = [round(_python_time_s(host) - time.time(), -1) for host in run.hosts[1:]]
        told = f"hosts whose clocks are off by {offsets_s} s trained {counts}"
        is_ok = len(counts) == 2 and offsets_s == [-90, 90]
        yield Line("clocks: where trials were", told, is_ok=is_ok)


def _python_time_s(host: Host) -> float:
    ask = [sys.executable, "-c", "import time; print(time.time())"]
    return float(host.run(["env", f"PYTHONPATH={_CLOCK_PATH}", *ask]))


def _wrong_clocks(members: Sequence[Host], folder: Path) -> dict[Host, dict[str, str]]:
    """Deceive Python alone: Ray's own programs, and time that only passes, stay as they are.

    The program ``faketime`` cannot: under it ``time.sleep`` of Python 3.11 raises, or a wait for a
    thread never ends.
    """
    del folder
    _, behind, ahead = members
    for host, offset_s in ((behind, -90), (ahead, 90)):
        (host.tmp / "clock").mkdir()
        patch = _CLOCK.format(offset_s=offset_s)
        (host.tmp / "clock" / "sitecustomize.py").write_text(patch, encoding="utf-8")
    return {host: {"PYTHONPATH": _CLOCK_PATH} for host in (behind, ahead)}


_CLOCK_PATH = f"/tmp/clock:{ROOT}"
_CLOCK = """
import time

_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + {offset_s}
time.time_ns = lambda: _time_ns() + {offset_s} * 1_000_000_000
"""


def _strangers(bench: _Bench) -> Iterator[Line]:
    """Three of four hosts are not as the others: they are named, and nothing is trained there."""
    whole = bench.whole(**_FEW)
    cpus = [0, 2, 1, 1, 1]
    with _running(bench, "strangers", cpus, prepare=_make_strangers, **_FEW) as run:
        yield from run.ends_like(whole)
        for host, what in zip(run.hosts[2:], _STRANGERS, strict=True):
            yield _avoided(run, host, what)


def _refused(bench: _Bench) -> Iterator[Line]:
    """All hosts that could train are strangers: nothing begins."""
    cpus = [0, 1, 1, 1]
    with _running(bench, "refused", cpus, prepare=_make_strangers, **_FEW) as run:
        code = run.sweep.finish()
        begun = run.sweep.events("trial_started")
        printed = console(run.sweep.folder)
        named = [host.name for host in run.hosts[1:] if host.name in printed]
        told = f"exit code {code}, {len(begun)} trials begun, named: {', '.join(named) or 'none'}"
        is_ok = code != 0 and not begun and len(named) == 3
        last = printed.strip().splitlines()[-1] if printed.strip() else ""
        yield Line("refused: no host is fit", f"{told}; {last[:300]}", is_ok=is_ok)


_CHANGED = "lr=config.learning_rate"
_STRANGERS = ("other code", "no package", "a folder that is not shared")


def _make_strangers(members: Sequence[Host], folder: Path) -> dict[Host, dict[str, str]]:
    """Make the last three hosts what ``_STRANGERS`` says."""
    other, without, apart = members[-3:]
    changed = other.tmp / "code"
    shutil.copytree(ROOT / "sg_ray", changed / "sg_ray", ignore=shutil.ignore_patterns("*.pyc"))
    optimiser = changed / "sg_ray" / "training" / "optimiser.py"
    text = optimiser.read_text(encoding="utf-8")
    assert _CHANGED in text
    optimiser.write_text(text.replace(_CHANGED, f"{_CHANGED} * 2"), encoding="utf-8")
    _uninstall(without)
    (apart.tmp / "outputs").mkdir()
    (folder / "outputs").mkdir()
    apart.bind(Path("/tmp/outputs"), folder / "outputs")
    return {other: {"PYTHONPATH": "/tmp/code"}, without: {"PYTHONPATH": ""}}


def _uninstall(host: Host) -> None:
    """Hide on a host what has its Python find this checkout."""
    for path in Path(sysconfig.get_path("purelib")).glob("__editable__*sg_ray*.pth"):
        host.bind(Path("/dev/null"), path)
    find = "from importlib.util import find_spec; print(find_spec('sg_ray'))"
    found = host.run(["env", "-u", "PYTHONPATH", sys.executable, "-P", "-c", find]).strip()
    if found != "None":
        raise RuntimeError(f"{host.name} still finds the package: {found}")


def _avoided(run: _Run, host: Host, what: str) -> Line:
    printed = (run.sweep.folder / "console.log").read_text(encoding="utf-8")
    named = [line.strip() for line in printed.splitlines() if host.name in line]
    num_there = run.sweep.num_trained_by_host().get(host.name, 0)
    num_lost = sum(host.address in event.reason for event in run.sweep.events("job_lost"))
    told = f"{num_there} trials trained there, {num_lost} lost; " + (
        f"told: {named[0][:300]}" if named else "not named"
    )
    is_ok = bool(named) and not num_there and not num_lost
    return Line(f"strangers: {what}", told, is_ok=is_ok)


def _group(bench: _Bench) -> Iterator[Line]:
    """A trial of two workers on two hosts, of which one has the name of its loopback address."""
    whole = bench.whole(**_GROUP)
    with _running(bench, "group", [0, 1, 1], prepare=_name_by_loopback, **_GROUP) as run:
        # The floor has a single epoch, and needs no group.
        run.sweep.wait_for(
            lambda: any(event.epoch > 1 for event in run.sweep.events("epoch")),
            "epochs of a group have ended",
        )
        workers = [len(host.processes("ray::RayTrainWorker")) for host in run.hosts]
        told = f"{' + '.join(map(str, workers[1:]))} workers on two hosts"
        yield Line("group: a name that is 127.0.1.1", told, is_ok=workers == [0, 1, 1])
        yield from run.ends_like(whole)


def _name_by_loopback(members: Sequence[Host], folder: Path) -> dict[Host, dict[str, str]]:
    """As Debian does at its installation."""
    del folder
    names = {host.name: host.address for host in members}
    last = members[-1]
    last.set_names({**names, last.name: "127.0.1.1"})
    return {}


def _slow(bench: _Bench) -> Iterator[Line]:
    """The link of a host is slow, and loses some of what is sent."""
    whole = bench.whole(**_FEW)
    with _running(bench, "slow", [0, 1, 1], prepare=_slow_link, **_FEW) as run:
        yield from run.ends_like(whole)
        counts = run.sweep.num_trained_by_host()
        told = f"50 ms each way, 1 of 100 packets lost: trials by host {counts}"
        yield Line("slow: a slow link that loses", told, is_ok=len(counts) == 2)


def _slow_link(members: Sequence[Host], folder: Path) -> dict[Host, dict[str, str]]:
    del folder
    members[-1].slow_down(delay_s=0.05, loss=0.01)
    return {}


_PARTS: dict[str, Callable[[_Bench], Iterator[Line]]] = {
    "plain": _plain,
    "exchange": _exchange,
    "cut30": _cut30,
    "cut300": _cut300,
    "clocks": _clocks,
    "strangers": _strangers,
    "refused": _refused,
    "group": _group,
    "slow": _slow,
}
PARTS = tuple(_PARTS)
