"""Sweeps as jobs of a real SLURM: stopped in every way it knows, and gone on with."""

import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from chaos_checks import repeated_epochs, violations
from hosts import Host
from lab import ROOT, Line, missing_namespaces, missing_programs
from slurm_cluster import (
    PROGRAMS,
    SLURMD_TIMEOUT_S,
    USERS,
    Cluster,
    User,
    slurm_cluster,
    wait_until,
)
from tiny_sweep import write_experiment

from sg_ray.records.events import Event
from sg_ray.records.journal import read_events

TITLE = "jobs of Debian's SLURM, two nodes, two users"
_PYTHON = "python"
_SWEEP_S = 600.0
"""For a sweep of a minute, queued again; the machine may be busy."""
_QUIET_S = 60.0
_LONGEST = 300
"""Characters of a difference that are shown."""


def missing() -> str | None:
    """Return what this machine lacks."""
    return missing_programs(*PROGRAMS) or missing_namespaces()


@dataclass(frozen=True)
class Sweep:
    """A user's experiment, in a folder whose name has what shells and SLURM take apart."""

    cluster: Cluster
    user: User
    folder: Path

    @property
    def events(self) -> list[Event]:
        """The journal so far."""
        path = self.folder / "outputs" / "tiny" / "events.jsonl"
        return list(read_events(path)) if path.exists() else []

    @property
    def num_epochs(self) -> int:
        """How many epochs are journaled."""
        return sum(event.type == "epoch" for event in self.events)

    def submit(self, *options: str) -> "Job":
        """Write and submit the script as a user does."""
        command = [_PYTHON, "-m", "sg_ray", "slurm", self.folder / "experiment.yaml", *options]
        printed = self.cluster.run_as(self.user, [*command, "--submit"])
        number = re.search(r"Submitted batch job (\d+)", printed)
        assert number is not None, printed
        return Job(self, int(number[1]))

    def again(self) -> "Job":
        """Submit the script that is there."""
        script = self.folder / "outputs" / "tiny.sbatch"
        printed = self.cluster.run_as(self.user, ["sbatch", script])
        return Job(self, int(printed.split()[-1]))


@dataclass(frozen=True)
class Job:
    """A job that was submitted."""

    sweep: Sweep
    number: int

    @property
    def state(self) -> str:
        """SLURM's word for it."""
        return self.sweep.cluster.job(self.number)["JobState"]

    @property
    def num_restarts(self) -> int:
        """How often it was queued again."""
        return int(self.sweep.cluster.job(self.number)["Restarts"])

    @property
    def log(self) -> str:
        """What its rounds have printed."""
        path = self.sweep.folder / "outputs" / f"tiny.slurm-{self.number}.log"
        return path.read_text() if path.exists() else ""

    def train(self, num_epochs: int) -> None:
        """Wait until so many epochs more are journaled."""
        wanted = self.sweep.num_epochs + num_epochs
        try:
            wait_until(lambda: self.sweep.num_epochs >= wanted, "epochs", within_s=_SWEEP_S)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; job {self.number} is {self.state}: {self.log}") from error

    def end(self, *states: str, within_s: float = _SWEEP_S) -> str:
        """Wait until it has ended; return its state."""
        over = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", *states}
        try:
            wait_until(lambda: self.state in over, f"one of {over}", within_s=within_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; job {self.number} is {self.state}: {self.log}") from error
        return self.state

    def ask(self, program: str, *arguments: str) -> None:
        """Have the user give an order about it."""
        self.sweep.cluster.run_as(self.sweep.user, [program, *arguments, str(self.number)])


def _new_sweep(cluster: Cluster, name: str, user: User, *, num_epochs: int) -> Sweep:
    folder = cluster.home(user) / f"{name} of a $USER & 100%"
    folder.mkdir()
    gnn = {
        "config": {
            "learning_rate": 5e-3, "epochs": num_epochs, "early_stopping_patience": None,
            "num_layers": 2, "hidden_dim": 32, "graphs": {"vocab_size": 400},
        }
    }  # fmt: skip
    write_experiment(
        folder,
        models={"gnn": gnn},
        data={"source": "synthetic", "num_samples": 1600},
        replicate={"top_k": 1, "seeds": [42, 7, 1], "race_alpha": None},
    )
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user.number, user.number)
    return Sweep(cluster, user, folder)


@dataclass(frozen=True)
class Lab:
    """A cluster, and the uninterrupted sweep that the others are compared with."""

    cluster: Cluster
    num_epochs: int
    whole: Sweep

    def sweep(self, name: str, user: User = USERS[0]) -> Sweep:
        """Return the same sweep in a folder of its own."""
        return _new_sweep(self.cluster, name, user, num_epochs=self.num_epochs)

    def judged(self, what: str, job: Job, *told: str, is_ok: bool = True) -> Line:
        """Return the line of a job: how it ended, whether its sweep is the uninterrupted one."""
        state, sweep = job.end(), job.sweep
        problems = violations(sweep.folder, self.whole.folder) if state == "COMPLETED" else []
        repeated = repeated_epochs(sweep.events)
        if repeated:
            problems.append(f"{repeated} epochs trained twice")
        problems = [problem[:_LONGEST] for problem in problems]
        problems += _left_behind(self.cluster)
        if state != "COMPLETED":
            problems.append(f"{state}: {job.log}")
        result = "; ".join([*told, f"queued again {job.num_restarts} times", *problems])
        if not problems:
            result += "; bit-identical, no epoch twice, MLflow exact, nothing left behind"
        return Line(what, result, is_ok=is_ok and not problems)


def _left_behind(cluster: Cluster) -> list[str]:
    """Return what users still have on the nodes, once that had time to go."""
    try:
        wait_until(lambda: not _rests(cluster), "", within_s=_QUIET_S)
    except TimeoutError:
        return [f"left behind: {rest}" for rest in _rests(cluster)]
    return []


def _rests(cluster: Cluster) -> list[str]:
    shared = {*cluster.folder.parts, *ROOT.parts, *Path(sys.prefix).parts}  # seen from all hosts
    found = []
    for node in cluster.nodes:
        found += [f"{node.name}: process {line[:100]}" for line in _processes(node)]
        names = {path.name for path in node.tmp.iterdir()} - shared
        found += [f"{node.name}: /tmp/{name}" for name in sorted(names)]
    return found


def _processes(node: Host, word: str = "") -> list[str]:
    """Return the command lines of users' processes in which ``word`` stands."""
    numbers = ",".join(str(user.number) for user in USERS)
    listed = node.run(["ps", "-ww", "-o", "args=", "-u", numbers], check=False)
    return [line for line in listed.splitlines() if word in line]


def _stopped(what: str, order: Callable[[Job], None]) -> "Part":
    """Return a part: an order in mid-training, then as many rounds as it takes."""

    def part(lab: Lab, name: str) -> Iterator[Line]:
        job = lab.sweep(name).submit("--cpus", "2")
        job.train(3)
        order(job)
        stopped_s = wait_until(lambda: not _rests(lab.cluster), "stopped", within_s=_SWEEP_S)
        wait_until(lambda: job.num_restarts == 1, "queued again", within_s=_SWEEP_S)
        yield lab.judged(what, job, f"stopped after {stopped_s:.0f} s")

    return part


def _cancel(lab: Lab, name: str) -> Iterator[Line]:
    job = lab.sweep(name).submit("--cpus", "2")
    job.train(3)
    job.ask("scancel")
    stopped_s = wait_until(lambda: not _rests(lab.cluster), "stopped", within_s=_SWEEP_S)
    state = job.end()
    time.sleep(5)  # it would be queued again by now
    is_ok = state == job.state == "CANCELLED" and job.num_restarts == 0
    told = f"stopped after {stopped_s:.0f} s, queued again {job.num_restarts} times; submitted anew"
    yield lab.judged("scancel", job.sweep.again(), told, is_ok=is_ok)


def _limit(lab: Lab, name: str) -> Iterator[Line]:
    started = time.monotonic()
    job = lab.sweep(name).submit("--cpus", "2", "--time", "3", "--signal-before", "60")
    job.end(within_s=1200)
    took_s, whole = time.monotonic() - started, lab.whole.events
    whole_s = (whole[-1].at_ms - whole[0].at_ms) / 1000
    told = f"{whole_s:.0f} s without a limit, {took_s:.0f} s with it"
    yield lab.judged("limit of 3 minutes", job, told, is_ok=job.num_restarts > 0)


def _one_cpu(lab: Lab, name: str) -> Iterator[Line]:
    job = lab.sweep(name).submit("--cpus", "1")
    job.end()
    at_once, usual = _most_at_once(job.sweep.events), _most_at_once(lab.whole.events)
    told = f"at most {at_once} trial at once, with two CPUs {usual}"
    yield lab.judged("--cpus 1", job, told, is_ok=(at_once, usual) == (1, 2))


def _most_at_once(events: list[Event]) -> int:
    running: set[str] = set()
    most = 0
    for event in events:
        match event.type:
            case "trial_started":
                running.add(event.trial_key)
            case "trial_finished":
                running.discard(event.trial_key)
        most = max(most, len(running))
    return most


def _two_nodes(lab: Lab, name: str) -> Iterator[Line]:
    job = lab.sweep(name).submit("--nodes", "2", "--cpus", "1")
    most: Counter[str] = Counter()
    while job.state in ("PENDING", "RUNNING", "COMPLETING"):
        for node in lab.cluster.nodes:
            most[node.name] = max(most[node.name], len(_trials(node)))
        time.sleep(1)
    told = ", ".join(f"{number} trials at once on {node}" for node, number in most.items())
    yield lab.judged("--nodes 2", job, told, is_ok=set(most.values()) == {1})


def _trials(node: Host) -> list[str]:
    """Return the processes of trials on a node."""
    return _processes(node, "ray::TrialActor")


def _node_down(lab: Lab, name: str) -> Iterator[Line]:
    job, lost = lab.sweep(name).submit("--nodes", "2", "--cpus", "1"), lab.cluster.nodes[1]
    job.train(3)
    lost.kill()  # SLURM's daemon, too
    for path in lost.tmp.glob("sg-ray-*"):  # its disk is that of a machine which starts anew
        shutil.rmtree(path)
    noticed_s = wait_until(lambda: job.num_restarts == 1, "queued again", within_s=_SWEEP_S)
    lab.cluster.start_node(lost)
    told = f"queued again after {noticed_s:.0f} s (SlurmdTimeout {SLURMD_TIMEOUT_S} s)"
    yield lab.judged("a node of two is killed", job, told)


def _two_users(lab: Lab, name: str) -> Iterator[Line]:
    """Two jobs share both nodes: each has a head on the same node, or a worker beside a head."""
    jobs = [lab.sweep(name, user).submit("--nodes", "2", "--cpus", "1") for user in USERS]
    for job in jobs:
        job.train(1)
    told, shared = _shared(lab.cluster)
    is_same_node = len({lab.cluster.job(job.number)["BatchHost"] for job in jobs}) == 1
    for job in jobs:
        job.end()
    for job in jobs:
        yield lab.judged(
            f"two users on both nodes, {job.sweep.user.name}", job, *told, *shared,
            is_ok=is_same_node and not shared,
        )  # fmt: skip


def _shared(cluster: Cluster) -> tuple[list[str], list[str]]:
    """Return what the two users' jobs have on the nodes, counted; and what both of them have."""
    told, shared = [], []
    for node in cluster.nodes:
        ports, tokens, folders = {}, {}, {}
        for user in USERS:
            ports[user] = _ports(node, user)
            tokens[user] = _tokens(node, user)
            folders[user] = {p for p in node.tmp.glob("sg-ray-*") if p.stat().st_uid == user.number}
            if any(path.stat().st_mode & 0o077 for path in folders[user]):
                shared.append(f"{node.name}: others may look into {user.name}'s folder")
            if any(token in line for token in tokens[user] for line in _processes(node)):
                shared.append(f"{node.name}: ps shows the token")
            if (len(tokens[user]), len(folders[user])) != (1, 1) or not ports[user]:
                shared.append(f"{node.name}: {user.name} has not one token, one folder and ports")
        told.append(f"{node.name}: {' and '.join(str(len(of)) for of in ports.values())} ports")
        for what, of in {"ports": ports, "tokens": tokens, "folders": folders}.items():
            if both := of[USERS[0]] & of[USERS[1]]:
                shared.append(f"{node.name}: {len(both)} {what} are both users'")
    return told, shared


def _ports(node: Host, user: User) -> set[int]:
    """Return the ports on which a user's processes listen."""
    listed = node.run(["cat", "/proc/net/tcp", "/proc/net/tcp6"])
    words = [line.split() for line in listed.splitlines()]
    return {
        int(word[1].rpartition(":")[2], 16)
        for word in words
        if word[3] == "0A" and word[7] == str(user.number)
    }


def _tokens(node: Host, user: User) -> set[str]:
    """Return the tokens in the environments of a user's processes."""
    environments = "cat $(ps -o pid= -u $0 | sed 's/ *//;s,.*,/proc/&/environ,') 2>/dev/null"
    text = node.run(["sh", "-c", environments, str(user.number)], check=False)
    return set(re.findall(r"\0RAY_AUTH_TOKEN=([^\0]+)", text))


Part = Callable[[Lab, str], Iterator[Line]]
_PARTS: dict[str, Part] = {
    "onecpu": _one_cpu,
    "usr1": _stopped(
        "scancel --batch --signal=USR1", lambda job: job.ask("scancel", "--batch", "--signal=USR1")
    ),
    "usr1full": _stopped(
        "scancel --full --signal=USR1", lambda job: job.ask("scancel", "--full", "--signal=USR1")
    ),
    "requeue": _stopped("scontrol requeue", lambda job: job.ask("scontrol", "requeue")),
    "cancel": _cancel,
    "twonodes": _two_nodes,
    "nodedown": _node_down,
    "twousers": _two_users,
    "limit": _limit,
}
PARTS = tuple(_PARTS)
_NUM_EPOCHS = 12
_NUM_EPOCHS_OF_LIMIT = 220


def run(folder: Path, parts: Collection[str] = ()) -> Iterator[Line]:
    """Try it, or some of its parts."""
    with slurm_cluster(folder, num_nodes=2) as cluster:
        labs: dict[int, Lab] = {}
        for name in parts or PARTS:
            num_epochs = _NUM_EPOCHS_OF_LIMIT if name == "limit" else _NUM_EPOCHS
            if num_epochs not in labs:
                labs[num_epochs] = _lab(cluster, num_epochs)
            yield from _PARTS[name](labs[num_epochs], name)


def _lab(cluster: Cluster, num_epochs: int) -> Lab:
    """Run the uninterrupted sweep, as a job without a limit."""
    whole = _new_sweep(cluster, f"{num_epochs} epochs", USERS[0], num_epochs=num_epochs)
    job = whole.submit("--cpus", "2")
    if (state := job.end()) != "COMPLETED":
        raise RuntimeError(f"the uninterrupted sweep: {state}: {job.log}")
    return Lab(cluster, num_epochs, whole)
