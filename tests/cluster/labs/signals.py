"""Each signal that ends work, to the driver, to its group and to every process, in mid-epoch.

``group`` is what a terminal's Ctrl-C does; ``tree`` is what SLURM does at its limit. Epochs are
long here on purpose: a signal that met the end of one would find nothing to save.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import psutil
from chaos_checks import violations
from chaos_processes import MARKER, Start, Victim
from lab import ROOT, Line
from tiny_sweep import MODELS, write_experiment

from sg_ray.host.signals import SAME_SIGNAL_S
from sg_ray.records.events import Event
from sg_ray.records.journal import read_events
from sg_ray.training.checkpoint import read_place

TITLE = "TERM, INT, USR1 and USR2 to driver, group and tree in the middle of an epoch"

VICTIMS: tuple[Victim, ...] = ("driver", "group", "tree")
_SIGNALS = {
    "term": signal.SIGTERM,
    "int": signal.SIGINT,
    "usr1": signal.SIGUSR1,
    "usr2": signal.SIGUSR2,
}
PARTS = (*_SIGNALS, "trial", "groups", "second", "kill")
_TIMES = 2
_KILLED: tuple[Victim, ...] = ("driver", "worker")

MOST_S = 20.0
"""From a signal to the exit; positions of these trials are saved in no time."""
_PATIENCE_S = 300.0
_LONGEST = 600
"""Characters of a difference that are shown."""
_INTO_EPOCH_S = 1.0
_GONE_S = 10.0
_NUM_TRIALS = 2


def missing() -> str | None:
    """Nothing: it takes this machine alone."""
    return None


def run(folder: Path, parts: Collection[str] = ()) -> Iterator[Line]:
    """Try each signal of ``parts`` on every victim, twice; then the other parts."""
    asked = parts or PARTS
    if "groups" in asked:  # compared with nothing: the order of their sums is not that of others
        yield from try_groups(folder / "groups")
    others = [name for name in asked if name != "groups"]
    whole = run_whole(folder) if others else folder
    for name in others:
        if name == "trial":
            yield try_one_trial(folder / name, whole)
        elif name == "second":
            yield try_second(folder / name, whole)
        elif name == "kill":
            for killed in _KILLED:
                yield try_kill(folder / f"kill-{killed}", whole, killed)
        else:
            for victim, number in product(VICTIMS, range(_TIMES)):
                yield try_signal(folder / f"{name}-{victim}-{number}", whole, name, victim)


def run_whole(folder: Path) -> Path:
    """Run the sweep that nobody interrupts; return its folder."""
    whole = folder / "whole"
    _write(whole)
    with _started(whole, "experiment.yaml") as start:
        assert start.driver.wait(_PATIENCE_S) == 0, _said(whole)
    return whole


def try_signal(
    folder: Path, whole: Path, name: str, victim: Victim, *, most_s: float = MOST_S
) -> Line:
    """Stop a sweep by a signal, look at what is left, go on, and compare."""
    _write(folder)
    with _started(folder, "experiment.yaml") as start:
        _wait_for_epochs(start, folder)
        time.sleep(_INTO_EPOCH_S)
        stop = _stop(start, folder, _SIGNALS[name], victim)
    problems = [*stop.problems(_SIGNALS[name], most_s), *go_on(folder, whole)]
    resumed = "resumed: bit-identical" if not problems else "; ".join(problems)[:_LONGEST]
    return Line(f"{_SIGNALS[name].name} to the {victim}", f"{stop}; {resumed}", not problems)


def try_kill(folder: Path, whole: Path, victim: Victim) -> Line:
    """Kill a sweep or one of its trials in mid-epoch, where positions are saved by time."""
    _write(folder, checkpoint_every_s=0.5)
    with _started(folder, "experiment.yaml") as start:
        _wait_for_epochs(start, folder)
        running = _running(folder)
        time.sleep(_INTO_EPOCH_S)
        num_kept = _num_kept(folder, running)
        start.hit(victim, signal.SIGKILL)
        code = start.driver.wait(_PATIENCE_S)
    problems = [] if num_kept == len(running) else ["no position was saved by time"]
    problems += go_on(folder, whole)
    what = f"exit {code}, {num_kept} of {len(running)} positions in mid-epoch"
    return Line(f"SIGKILL to the {victim}", "; ".join([what, *problems])[:_LONGEST], not problems)


def try_one_trial(folder: Path, whole: Path) -> Line:
    """Have one trial's process alone told to stop: the trial goes on in another, at no loss."""
    _write(folder, max_failures=0)
    with _started(folder, "experiment.yaml") as start:
        _wait_for_epochs(start, folder)
        time.sleep(_INTO_EPOCH_S)
        *_, trial = start.victims("worker")
        trial.send_signal(signal.SIGTERM)
        code = start.driver.wait(_PATIENCE_S)
    kinds = Counter(event.type for event in _events(folder))
    problems = [] if code == 0 else [f"exit {code}: {_said(folder)[-1000:]}"]
    problems += [] if kinds["trial_resumed"] else ["no trial went on from its position"]
    problems += ["it counts as a loss"] if kinds["job_lost"] else []
    problems += violations(folder, whole)
    what = f"exit {code}, {kinds['trial_resumed']} trial went on in another process"
    return Line("SIGTERM to one trial", "; ".join([what, *problems])[:_LONGEST], not problems)


def try_groups(folder: Path) -> Iterator[Line]:
    """Stop trials on several workers while they are set up, and in mid-epoch; go on."""
    _write(folder, resources={"num_workers": 2}, checkpoint_every_s=2.0)
    with _started(folder, "experiment.yaml") as start:
        _wait_until(start, folder, lambda: bool(_running(folder)))
        stop = _stop(start, folder, signal.SIGTERM, "driver")
    problems = [*stop.problems(signal.SIGTERM, MOST_S, has_begun=False)]
    yield Line(
        "SIGTERM to the driver, while a group is set up", _told(stop, problems), not problems
    )
    with _started(folder, *_resume(folder)) as start:
        _wait_until(start, folder, lambda: any(_running(folder).values()))
        time.sleep(_INTO_EPOCH_S)
        stop = _stop(start, folder, signal.SIGTERM, "tree")
    problems = [*stop.problems(signal.SIGTERM, MOST_S)]
    with _started(folder, *_resume(folder)) as start:
        code = start.driver.wait(_PATIENCE_S)
    problems += [f"resumed: exit {code}: {_said(folder)[-1000:]}"] if code else []
    problems += [f"resumed: {left}" for left in (folder / "outputs/tiny/groups").glob("*")]
    yield Line("SIGTERM to the tree, of a group", _told(stop, problems), not problems)


def _told(stop: "Stop", problems: Sequence[str]) -> str:
    return "; ".join([str(stop), *problems])[:_LONGEST]


def try_second(folder: Path, whole: Path) -> Line:
    """Stop a sweep whose trials do not hear it, then lose patience: a second signal."""
    _write(folder, grace_s=3600.0)
    with _started(folder, "experiment.yaml") as start:
        _wait_for_epochs(start, folder)
        for trial in start.victims("worker"):
            trial.suspend()
        start.driver.send_signal(signal.SIGTERM)
        time.sleep(2 * SAME_SIGNAL_S)
        is_patient = start.driver.poll() is None
        began_s = time.monotonic()
        start.driver.send_signal(signal.SIGTERM)
        code = start.driver.wait(_PATIENCE_S)
        seconds = time.monotonic() - began_s
        for process in start.look():
            process.resume()
        num_left = len(start.wait_until_gone(2 * _GONE_S))
    problems = [] if is_patient else ["it did not wait for its trials"]
    problems += [] if code == 128 + signal.SIGTERM else [f"exit code {code}"]
    problems += [f"{num_left} processes left"] if num_left else []
    problems += go_on(folder, whole)
    what = f"exit {code} after {seconds:.1f} s, {num_left} processes left"
    return Line("SIGTERM twice", "; ".join([what, *problems])[:_LONGEST], not problems)


def go_on(folder: Path, whole: Path) -> list[str]:
    """Resume a sweep; return what is other than in the one that nobody interrupted."""
    with _started(folder, *_resume(folder)) as again:
        code = again.driver.wait(_PATIENCE_S)
    return [f"resumed: exit {code}: {_said(folder)[-1000:]}"] if code else violations(folder, whole)


def _resume(folder: Path) -> tuple[str, ...]:
    return ("--resume", "tiny", f"output_dir={folder / 'outputs'}")


@dataclass(frozen=True)
class Stop:
    """What came of a signal."""

    exit_code: int
    seconds: float
    num_running: int
    num_kept: int
    mlflow: Counter[str]
    num_processes: int
    num_folders: int
    left: list[str]
    said: str

    def __str__(self) -> str:
        return (
            f"exit {self.exit_code} after {self.seconds:.1f} s, {self.num_kept} of "
            f"{self.num_running} positions in mid-epoch; left: {self.mlflow['RUNNING']} MLflow "
            f"runs, {self.num_processes} processes, {self.num_folders} folders"
        )

    def problems(
        self, number: signal.Signals, most_s: float, *, has_begun: bool = True
    ) -> Iterator[str]:
        """Yield what is not as it should be; what had not begun to train has no position."""
        if self.exit_code != 128 + number:
            yield f"exit code {self.exit_code}: {self.said[-1000:]}"
        if self.seconds > most_s:
            yield f"more than {most_s:.0f} s"
        if has_begun and not 0 < self.num_running == self.num_kept:
            yield "a position was lost"
        if self.mlflow["RUNNING"]:
            yield f"MLflow: {dict(self.mlflow)}"
        if self.num_processes or self.num_folders:
            yield f"something is left: {', '.join(self.left)}"
        if has_begun and "positions saved" not in self.said:
            yield f"it does not say that positions are saved: {self.said[-1000:]}"


def _write(folder: Path, **settings: Any) -> None:
    """Write an experiment whose epochs take seconds, two trials at a time."""
    folder.mkdir()
    config = {**MODELS["gnn"]["config"], "epochs": 5, "batch_size": 1}
    write_experiment(
        folder,
        cache_dir=str(folder.parent / "cache"),
        data={"source": "synthetic", "num_samples": 400},
        models={"gnn": {**MODELS["gnn"], "config": config}},
        max_concurrent_trials=_NUM_TRIALS,
        replicate={"top_k": 1, "seeds": [42]},
        **settings,
    )


@contextmanager
def _started(folder: Path, *arguments: str) -> Iterator[Start]:
    """Start the command; in the end nothing of it is left."""
    marker = folder.name
    shutil.rmtree(_temporary(folder), ignore_errors=True)
    _temporary(folder).mkdir()
    environment = {**os.environ, MARKER: marker, "PYTHONPATH": str(ROOT)}
    environment |= {"TMPDIR": str(_temporary(folder))}
    environment.pop("RAY_ADDRESS", None)
    with (folder / "console.log").open("ab") as log:
        driver = psutil.Popen(
            [sys.executable, "-m", "sg_ray", "sweep", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    start = Start(driver, marker)
    try:
        yield start
    finally:
        for process in start.look():
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _temporary(folder: Path) -> Path:
    """Return the temporary folder of a start: one for all, for Ray's sockets need short names."""
    return folder.parent / "t"


def _wait_for_epochs(start: Start, folder: Path) -> None:
    """Wait until both trials have begun, and each that runs has an epoch behind it."""

    def is_time() -> bool:
        num_begun = sum(e.type == "trial_started" and e.family == "gnn" for e in _events(folder))
        running = _running(folder)
        return num_begun == _NUM_TRIALS and bool(running) and all(running.values())

    _wait_until(start, folder, is_time)


def _wait_until(start: Start, folder: Path, is_time: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not is_time():
        assert start.driver.poll() is None, _said(folder)
        assert time.monotonic() < deadline, _said(folder)
        time.sleep(0.05)


def _running(folder: Path) -> dict[str, int]:
    """Return, of the trials of the network that have begun and are not over, their epochs."""
    events = _events(folder)
    begun = {e.trial_key for e in events if e.type == "trial_started" and e.family == "gnn"}
    begun -= {e.trial_key for e in events if e.type == "trial_finished"}
    epochs = Counter(e.trial_key for e in events if e.type == "epoch")
    return {key: epochs[key] for key in begun}


def _events(folder: Path) -> list[Event]:
    with suppress(FileNotFoundError):
        return list(read_events(folder / "outputs" / "tiny" / "events.jsonl"))
    return []


def _stop(start: Start, folder: Path, number: signal.Signals, victim: Victim) -> Stop:
    running = _running(folder)
    start.look()  # takes a moment, which is not the stop's
    began_s = time.monotonic()
    start.hit(victim, number)
    code = start.driver.wait(_PATIENCE_S)
    seconds = time.monotonic() - began_s
    left = start.wait_until_gone(_GONE_S)
    folders = list(_temporary(folder).glob("sg-ray-*"))
    return Stop(
        exit_code=code,
        seconds=seconds,
        num_running=len(running),
        num_kept=_num_kept(folder, running),
        mlflow=_mlflow(folder),
        num_processes=len(left),
        num_folders=len(folders),
        left=[*(p.name() for p in left), *(p.name for p in folders)],
        said=_said(folder),
    )


def _num_kept(folder: Path, running: Mapping[str, int]) -> int:
    """Return of how many trials a position beyond the end of their last epoch is kept."""
    return sum(_place(folder, key) > (epochs, 0) for key, epochs in running.items())


def _place(folder: Path, trial_key: str) -> tuple[int, int]:
    sweep = folder / "outputs" / "tiny"
    jobs = (sweep / "tune").glob(f"attempt-*/*{trial_key[:8]}*")
    places = [read_place(path.parent) for job in jobs for path in job.glob("*/last.pt")]
    places.append(read_place(sweep / "groups" / trial_key))
    return max((place for place in places if place), default=(0, 0))


def _mlflow(folder: Path) -> Counter[str]:
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        return Counter(status for (status,) in connection.execute("select status from runs"))


def _said(folder: Path) -> str:
    return (folder / "console.log").read_text(encoding="utf-8", errors="replace")
