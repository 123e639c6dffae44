"""Chaos: a real sweep, killed again and again at random moments, must end as if it never was.

    python tests/sweep/chaos.py [--rounds 3] [--seed 0] [--folder DIR]

One round is one sweep. A plan of shots (who is hit, by which signal, at which stage, how long
after the stage's first sign of life) is drawn from the seed; after each shot that ends the driver,
``--resume`` goes on. One kind of shot takes memory until Ray's monitor ends the worker; and once a
round the journal gets an event that MLflow refuses. In the end the folder, the records, the journal
and MLflow are compared with those of one uninterrupted run. Prints every shot, what went wrong, and
what the kills cost.

The last round is on a small cluster of hosts made of this machine, whose nodes are killed, join and
are cut off; it takes root.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
from chaos_checks import repeated_epochs, violations
from chaos_processes import MARKER, Start, Victim
from memory_pressure import fill_memory, strict_memory_monitor
from tiny_sweep import MODELS, write_experiment

from sg_ray.records.events import Event, LearningRateFound
from sg_ray.records.journal import Journal, read_events

ROOT = Path(__file__).parents[2]
_POLL_S = 0.03
_STARTUP_PATIENCE_S = 120.0
_VICTIM_PATIENCE_S = 20.0
_END_PATIENCE_S = 90.0
"""A driver that lost its raylet, or was asked to stop, must have ended by then."""
_GONE_PATIENCE_S = 120.0

Stage = Literal[
    "start", "prepare", "ray", "lr_range", "search", "replicate", "test", "export", "mirror"
]
MAX_DELAY_S: dict[Stage, float] = {
    "start": 4.0,
    "prepare": 1.0,
    "ray": 5.0,
    "lr_range": 2.0,
    "search": 1.0,
    "replicate": 0.6,
    "test": 0.2,
    "export": 0.5,
    "mirror": 0.3,
}
"""The longest wait from a stage's first sign to the shot; stages in the order of a sweep."""

WITH_RAY: tuple[Stage, ...] = ("lr_range", "search", "replicate", "test")
Kind = tuple[Victim, signal.Signals]
KINDS: tuple[Kind, ...] = (
    ("driver", signal.SIGKILL),
    ("worker", signal.SIGKILL),
    ("raylet", signal.SIGKILL),
    ("group", signal.SIGKILL),
    ("driver", signal.SIGTERM),
    ("worker", signal.SIGTERM),
    ("group", signal.SIGINT),
    ("tree", signal.SIGTERM),
    ("driver", signal.SIGINT),
    ("group", signal.SIGTERM),
    ("memory", signal.SIGKILL),
    ("driver", signal.SIGUSR1),
    ("group", signal.SIGUSR2),
)
LONG_ROUND: tuple[Stage, ...] = (
    *("start", "prepare", "ray", "lr_range", "lr_range"),
    *("search", "search", "search", "search", "replicate", "replicate", "replicate"),
    *("test", "export", "mirror"),
)


@dataclass(frozen=True)
class Shot:
    """Who is hit by what, and when: so long after the first sign of a stage."""

    victim: Victim
    signal: signal.Signals
    stage: Stage
    delay_s: float

    def __str__(self) -> str:
        where = f"{self.stage} + {self.delay_s:.2f} s"
        return f"{self.signal.name} to {self.victim} at {where}"


@dataclass
class Tally:
    """What was fired, what it cost, and what went wrong."""

    hits: list[Shot] = field(default_factory=list)
    missed: list[Shot] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    num_starts: int = 0
    num_epochs_repeated: int = 0
    num_poisoned: int = 0
    overhead_s: list[float] = field(default_factory=list)
    node_faults: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        by_kind = Counter(f"{shot.victim} {shot.signal.name}" for shot in self.hits)
        by_stage = Counter(shot.stage for shot in self.hits)
        return "\n".join(
            [
                f"{len(self.hits)} kills ({len(self.missed)} came too late), "
                f"{self.num_starts} starts of {len(self.overhead_s)} sweeps",
                "by kind:  " + ", ".join(f"{k} {n}" for k, n in sorted(by_kind.items())),
                "by stage: " + ", ".join(f"{s} {by_stage[s]}" for s in MAX_DELAY_S),
                f"epochs trained more than once: {self.num_epochs_repeated}; "
                f"events that MLflow cannot take: {self.num_poisoned}",
                "overhead: " + ", ".join(f"{s:.0f} s" for s in self.overhead_s)
                + f"; {sum(self.overhead_s) / max(1, len(self.hits)):.1f} s a kill",
                "on a cluster: " + (", ".join(f"{n} x {k}" for k, n in self.node_faults.items())
                or "not tried"),
                *(f"WRONG: {problem}" for problem in self.problems),
            ]
        )  # fmt: skip


def plan(stages: Sequence[Stage], rng: np.random.Generator, kinds: Iterator[Kind]) -> list[Shot]:
    """Draw one round's shots, in the order of the stages; ``kinds`` goes on from round to round."""
    shots = []
    for stage in stages:
        victim, number = next(kind for kind in kinds if _is_there(kind[0], stage))
        shots.append(Shot(victim, number, stage, float(rng.uniform(0, MAX_DELAY_S[stage]))))
    order = list(MAX_DELAY_S)
    return sorted(shots, key=lambda shot: order.index(shot.stage))


def _is_there(victim: Victim, stage: Stage) -> bool:
    return victim in ("driver", "group") or stage in WITH_RAY


class Sweep:
    """One sweep under fire: its folder, its driver, and the shots that are left."""

    def __init__(
        self, folder: Path, shots: Sequence[Shot], tally: Tally, num_trials: int = 0
    ) -> None:
        """``num_trials`` is how many there will be in the end."""
        self._folder, self._shots, self._tally = folder, list(shots), tally
        self._num_trials = num_trials
        self._journal = folder / "outputs" / "tiny" / "events.jsonl"
        self._new_from = 0
        self._is_poisoned = False

    def run(self) -> float:
        """Start and kill until all shots are fired, then let it end; return the seconds it ran."""
        seconds = 0.0
        with private_ray(self._folder) as environment:
            while True:
                begun_s = time.monotonic()
                is_over = self._attempt(environment)
                seconds += time.monotonic() - begun_s
                if is_over:
                    return seconds

    def _attempt(self, environment: dict[str, str]) -> bool:
        """Start it once; return True if it was not shot at and ended."""
        self._tally.num_starts += 1
        self._new_from = len(self._events())
        if self._new_from and not self._is_poisoned:
            self._poison_journal()
        if any(shot.victim == "memory" for shot in self._shots):
            environment = {**environment, **strict_memory_monitor()}
        start = start_driver(self._folder, environment)
        self._hits_before = len(self._tally.hits)
        try:
            last = self._fire(start)
            code = self._wait(start)
            self._check_code(last, code)
        finally:
            self._check_gone(start)
        return last is None and not self._shots

    def _fire(self, start: Start) -> Shot | None:
        """Fire shots until one should end the driver; return that, or None if it ended itself."""
        begun_s = time.monotonic()
        while self._shots:
            shot = self._shots[0]
            if not self._wait_for(shot, start, begun_s):
                self._drop_those_too_late(start)
                return None
            self._shots.pop(0)
            if not self._hit(start, shot):
                self._tally.missed.append(shot)
                continue
            self._tally.hits.append(shot)
            print(f"  {shot}", flush=True)
            self._new_from = len(self._events())
            if shot.victim not in ("worker", "memory"):
                return shot
        return None

    def _hit(self, start: Start, shot: Shot) -> bool:
        """Fire; False if there is nobody (any more) to be hit."""
        if shot.victim == "memory":
            num_before = len(self._events())
            fill_memory(
                lambda: self._has_lost_for_memory(num_before) or start.driver.poll() is not None
            )
            return self._has_lost_for_memory(num_before)
        return start.hit(shot.victim, shot.signal)

    def _has_lost_for_memory(self, since: int) -> bool:
        new = self._events()[since:]
        return any("out of memory" in e.reason for e in new if e.type == "job_lost")

    def _poison_journal(self) -> None:
        """Append an event whose name MLflow refuses: what follows must reach it all the same."""
        self._is_poisoned = True
        self._tally.num_poisoned += 1
        with closing(Journal(self._journal)) as journal:
            facts = {"learning_rate": 1e-3, "source": "default", "curve": []}
            journal.append(LearningRateFound(model="no name\t for MLflow?", **facts))

    def _wait_for(self, shot: Shot, start: Start, begun_s: float) -> bool:
        """Wait for the shot's moment; False if the driver ended before."""
        deadline = time.monotonic() + _STARTUP_PATIENCE_S
        while not self._has_begun(shot.stage):
            if start.driver.poll() is not None:
                return False
            if time.monotonic() > deadline:
                self._tally.problems.append(f"{self._folder.name}: {shot.stage} did not come")
                start.hit("group", signal.SIGKILL)
                return False
            time.sleep(_POLL_S)
        time.sleep(shot.delay_s)
        deadline = time.monotonic() + _VICTIM_PATIENCE_S
        while shot.victim in ("worker", "raylet", "memory") and not start.victims(shot.victim):
            if start.driver.poll() is not None or time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
        return start.driver.poll() is None

    def _has_begun(self, stage: Stage) -> bool:
        """Return True if this start, since the last shot, gave a sign of being in the stage."""
        if stage == "start":
            return True
        new = self._events()[self._new_from :]
        types = {event.type for event in new}
        stage_of = {
            event.trial_key: event.stage
            for event in self._events()
            if event.type == "trial_started"
        }
        match stage:
            case "prepare":
                return bool(types)
            case "ray":
                return "plan" in types
            case "lr_range":
                return any(e.type == "stage" and e.stage == "lr_range" for e in new)
            case "test":
                return self._is_trained() and "plan" in types
            case "export":
                return self._is_trained() and bool(types & {"test_scored", "data_checked"})
            case "mirror":
                return "ranked" in types
        trial_events = [e for e in new if e.type in ("trial_started", "trial_resumed", "epoch")]
        return any(stage_of.get(event.trial_key) == stage for event in trial_events)

    def _is_trained(self) -> bool:
        """Return True once every trial has ended."""
        num_done = sum(event.type == "trial_finished" for event in self._events())
        return num_done >= self._num_trials

    def _drop_those_too_late(self, start: Start) -> None:
        """A sweep that is done can still be killed at its start and at its end, nowhere else."""
        if start.driver.wait() != 0:
            return
        possible = ("start", "prepare", "export", "mirror")
        self._tally.missed += [shot for shot in self._shots if shot.stage not in possible]
        self._shots = [shot for shot in self._shots if shot.stage in possible]

    def _wait(self, start: Start) -> int | None:
        patience_s = 600.0 if not self._shots else _END_PATIENCE_S
        try:
            return int(start.driver.wait(timeout=patience_s))
        except psutil.TimeoutExpired:
            self._tally.problems.append(f"{self._folder.name}: the driver did not end")
            start.hit("group", signal.SIGKILL)
            start.driver.wait()
            return None

    def _check_code(self, shot: Shot | None, code: int | None) -> None:
        allowed = _exit_codes(shot)
        if code not in allowed:
            self._tally.problems.append(
                f"{self._folder.name}: exit code {code} after {shot or 'no shot'}; "
                f"see {self._folder / 'console.log'}"
            )

    def _check_gone(self, start: Start) -> None:
        left = start.wait_until_gone(_GONE_PATIENCE_S)
        for process in left:
            self._tally.problems.append(f"{self._folder.name}: still runs: {process}")
            process.kill()

    def _events(self) -> list[Event]:
        return list(read_events(self._journal))


def _exit_codes(shot: Shot | None) -> tuple[int, ...]:
    """Return what a driver may exit with. 0: the sweep was done before the shot counted.

    -n: Python's own handler, before and after our code runs.
    """
    if shot is None:
        return (0,)
    if shot.victim == "raylet":
        return tuple(range(256))
    if shot.signal == signal.SIGKILL:
        return (-signal.SIGKILL, 0)
    return (128 + shot.signal, -shot.signal, 0)


def start_driver(folder: Path, environment: dict[str, str]) -> Start:
    """Start the sweep in ``folder``, or go on with it."""
    marker = uuid.uuid4().hex
    begun = (folder / "outputs" / "tiny" / "sweep.yaml").exists()
    arguments = ["--resume", str(folder / "outputs" / "tiny")] if begun else ["experiment.yaml"]
    with (folder / "console.log").open("ab") as log:
        driver = psutil.Popen(
            [sys.executable, str(ROOT / "experiments" / "sweep.py"), *arguments],
            cwd=folder,
            env={**environment, MARKER: marker},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Start(driver, marker)


@contextmanager
def private_ray(folder: Path) -> Iterator[dict[str, str]]:
    """Yield an environment with temporary folders of its own.

    Ray's is short: it holds sockets, whose paths may have 107 characters.
    """
    (folder / "tmp").mkdir()
    short = tempfile.TemporaryDirectory(prefix="ch", dir="/tmp", ignore_cleanup_errors=True)
    with short as ray_dir:
        yield {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(folder / "tmp"),
            "RAY_TMPDIR": ray_dir,
        }


def write_sweep(folder: Path) -> None:
    """Write the experiment: some 26 trials, every stage, one at a time."""
    folder.mkdir(parents=True)
    write_experiment(
        folder,
        max_concurrent_trials=1,  # the order decides what the search suggests
        families=["transformer", "gnn", "fusion"],
        models={family: _longer(settings) for family, settings in MODELS.items()},
        lr_range={"num_steps": 30, "num_seeds": 1, "cache_dir": str(folder / "lr_cache")},
        max_failures=20,  # a worker may be hit again before it comes to an end
        search={"num_trials": 4, "pruning": {"min_epochs": 2}},
        replicate={"top_k": 2, "seeds": [42, 7], "max_seeds": 3, "variance_seeds": 1},
    )


def _longer(settings: dict[str, Any]) -> dict[str, Any]:
    """Let trials last until a shot comes, on a fast machine too."""
    return {**settings, "config": {**settings["config"], "epochs": 12}}


def run_rounds(
    folder: Path,
    rounds: Sequence[Sequence[Stage]],
    seed: int,
    kinds: Sequence[Kind] | None = None,
    *,
    with_nodes: bool = False,
) -> Tally:
    """Run one sweep uninterrupted, and one a round under fire; compare and count.

    ``kinds`` are the kinds of shots in turn; by default all there are, in a drawn order. With
    ``with_nodes`` one more round is run on a cluster.
    """
    tally, rng = Tally(), np.random.default_rng(seed)
    whole = folder / "whole"
    write_sweep(whole)
    whole_s = Sweep(whole, [], Tally()).run()
    num_trials = len(list((whole / "outputs" / "tiny" / "records").glob("*.json")))
    print(f"uninterrupted: {whole_s:.0f} s, {num_trials} trials", flush=True)
    drawn = [KINDS[number] for number in rng.permutation(len(KINDS))]
    in_turn = cycle(kinds or drawn)
    for number, stages in enumerate(rounds, start=1):
        killed = folder / f"round-{number}"
        write_sweep(killed)
        print(f"round {number}", flush=True)
        seconds = Sweep(killed, plan(stages, rng, in_turn), tally, num_trials).run()
        tally.overhead_s.append(seconds - whole_s)
        tally.problems += [f"{killed.name}: {text}" for text in violations(killed, whole)]
        events = list(read_events(killed / "outputs" / "tiny" / "events.jsonl"))
        tally.num_epochs_repeated += repeated_epochs(events)
    if with_nodes:
        _round_among_nodes(folder / "nodes", whole, tally, rng)
    return tally


def _round_among_nodes(killed: Path, whole: Path, tally: Tally, rng: np.random.Generator) -> None:
    """Run one more sweep on a cluster of hosts, if this machine can be made into some."""
    sys.path.append(str(ROOT / "tests" / "cluster"))  # where hosts of labs are made
    from chaos_nodes import run_among_nodes
    from lab import missing_namespaces

    if lacks := missing_namespaces():
        print(f"no round on a cluster: {lacks}", flush=True)
        return
    print("round on a cluster", flush=True)
    write_sweep(killed)
    (killed / "tmp").mkdir()  # as in the others
    chaos = run_among_nodes(killed, rng)
    tally.node_faults.update(chaos.faults)
    problems = [*chaos.problems, *violations(killed, whole)]
    tally.problems += [f"{killed.name}: {text}" for text in problems]


def main() -> int:
    """Run the long form; return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep everything there (default: temporary)")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="sg-ray-chaos-"))
    rounds = [LONG_ROUND] * arguments.rounds
    tally = run_rounds(folder, rounds, arguments.seed, with_nodes=True)
    print(tally)
    if tally.problems:
        print(f"seed {arguments.seed}; everything lies in {folder}", file=sys.stderr)
        return 1
    if arguments.folder is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
