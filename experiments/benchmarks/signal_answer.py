"""How long does a command take to end in order, from a signal in each of its stages?

    python experiments/benchmarks/signal_answer.py [--signal USR1] [STAGE ...]

Starts the real command, waits for the stage's first sign, sends the signal to the command alone,
and prints seconds to its end, the exit code, and what processes of its own it left.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from sg_ray.data.jsonl import write_jsonl
from sg_ray.data.samples import Sample
from sg_ray.data.synthetic import generate
from sg_ray.records.journal import read_events

ROOT = Path(__file__).parents[2]
_PATIENCE_S = 300.0
_POLL_S = 0.02
_MANY = 6_000
_TINY = (
    *("lr_range.enabled=false", "search.num_trials=1", "replicate.top_k=1", "replicate.seeds=[42]"),
    *("replicate.max_seeds=null", "replicate.variance_seeds=0", "data.num_samples=240"),
    "tracking.enabled=false",  # its end has a limit of its own
)
_LONG = ("models.gnn.config.epochs=200", "models.gnn.config.early_stopping_patience=null")

Sign = Callable[[Path], bool]
"""Whether a stage has begun, by the folder that the command works in."""


@dataclass(frozen=True)
class Stage:
    """A command, what shows that its stage has begun, and how much later the signal comes."""

    name: str
    command: Sequence[str]
    sign: Sign
    delay_s: float = 0.5


def told(event_type: str, stage: str | None = None) -> Sign:
    """Return whether the journal has an event (of a stage)."""

    def has(folder: Path) -> bool:
        return any(
            event.type == event_type and stage in (None, event.data.get("stage"))
            for journal in folder.rglob("events.jsonl")
            for event in read_events(journal)
        )

    return has


def printed(text: str) -> Sign:
    """Return whether the command has printed a text."""
    return lambda folder: text in (folder / "console.log").read_text(errors="replace")


def sweep(*settings: str) -> list[str]:
    """Return a sweep of the graph network, alone and small, with ``settings`` on top."""
    return ["sweep", "experiment.yaml", "families=[gnn]", *_TINY, *settings]


def train(*settings: str) -> list[str]:
    """Return a training of the graph network."""
    return ["train", "gnn", "experiment.yaml", *_TINY, *settings]


STAGES = (
    Stage("reading data", sweep("data.path=large"), told("stage", "prepare"), 1.0),
    Stage(
        "training a tokenizer",
        [*sweep("data.path=letters"), "families=[transformer]"],
        told("stage", "prepare"),
        3.0,
    ),
    Stage(
        "making features in processes",
        sweep(f"data.num_samples={_MANY}"),
        told("stage", "prepare"),
        4.0,
    ),
    Stage("starting Ray", sweep(), told("plan"), 0.3),
    Stage("range test of a sweep", sweep("lr_range.enabled=true"), told("stage", "lr_range"), 3.0),
    Stage("trials of a sweep", sweep(*_LONG), told("epoch")),
    Stage("trials of a sweep, MLflow", sweep(*_LONG, "tracking.enabled=true"), told("epoch")),
    Stage("export", sweep(), told("test_scored"), 0.0),
    Stage("verdict and report", sweep(), told("ranked"), 0.0),
    Stage("range test of train", train("--find-lr", *_LONG), printed("graphs: "), 1.0),
    Stage("epochs of train", train(*_LONG), told("epoch")),
    Stage("preflight, Ray", ["preflight", "experiment.yaml", *_TINY], printed("mlflow"), 2.0),
    Stage("preflight, a step", ["preflight", "experiment.yaml", *_TINY], printed("ray "), 0.2),
    Stage("report", ["report", "../whole/outputs/quick"], lambda _: True, 3.0),
    Stage(
        "reproduce", ["reproduce", "../whole/outputs/quick/records/KEY"], printed(" epoch 1"), 0.0
    ),
)


def measure(stage: Stage, number: signal.Signals, folder: Path) -> str:
    """Run the stage's command, signal it, and return a row of the table."""
    folder.mkdir()
    _write_inputs(stage, folder)
    with (folder / "console.log").open("wb") as log:
        process = psutil.Popen(
            [sys.executable, "-m", "sg_ray", *_with_record(stage.command, folder)],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    if not _comes(stage, process, folder):
        return f"| {stage.name} | the stage did not come | {process.poll()} | |"
    time.sleep(stage.delay_s)
    below = process.children(recursive=True)
    sent_at_s = time.monotonic()
    process.send_signal(number)
    code = process.wait(timeout=_PATIENCE_S)
    seconds = time.monotonic() - sent_at_s
    _, left = psutil.wait_procs(below, timeout=5)
    for orphan in left:
        orphan.kill()
    return f"| {stage.name} | {seconds:.1f} | {code} | {len(left)} |"


def _comes(stage: Stage, process: psutil.Popen, folder: Path) -> bool:
    deadline = time.monotonic() + _PATIENCE_S
    while not stage.sign(folder):
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _write_inputs(stage: Stage, folder: Path) -> None:
    (folder / "experiments").symlink_to(ROOT / "experiments")
    (folder / "search_spaces").symlink_to(ROOT / "search_spaces")
    text = (ROOT / "experiments" / "quick.yaml").read_text().replace("../", f"{ROOT}/")
    (folder / "experiment.yaml").write_text(text)
    if "data.path=large" in stage.command:
        _write_data(folder / "large", generate(60_000, 0))
    if "data.path=letters" in stage.command:
        samples = generate(400, 0)
        letters = "".join(chr(97 + (i * i) % 26) for i in range(80_000))
        long = [Sample(f"int f(){{ return {letters}{i}; }}", i % 2, f"{i}") for i in range(4)]
        _write_data(folder / "letters", [*long, *samples])


def _write_data(folder: Path, samples: Sequence[Sample]) -> None:
    num_valid = len(samples) // 10
    write_jsonl(folder / "train.jsonl", samples[:-num_valid])
    write_jsonl(folder / "valid.jsonl", samples[-num_valid:])


def _with_record(command: Sequence[str], folder: Path) -> list[str]:
    records = folder.parent / "whole" / "outputs" / "quick" / "records"
    newest = max(records.glob("*.json"), default=None, key=lambda path: path.stat().st_mtime)
    return [text.replace("KEY", newest.name) if newest else text for text in command]


def _run_whole(folder: Path) -> None:
    """Make a finished sweep, for the commands that need one."""
    folder.mkdir()
    _write_inputs(STAGES[3], folder)
    command = [sys.executable, "-m", "sg_ray", *sweep("models.gnn.config.epochs=20")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Measure every stage, or those named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stages", nargs="*", help=", ".join(stage.name for stage in STAGES))
    parser.add_argument("--signal", default="INT", choices=["INT", "TERM", "USR1", "USR2"])
    arguments = parser.parse_args()
    number = signal.Signals[f"SIG{arguments.signal}"]
    wanted = [s for s in STAGES if not arguments.stages or s.name in arguments.stages]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if any("whole" in text for stage in wanted for text in stage.command):
            _run_whole(folder / "whole")
        print(f"| {number.name} while | seconds to the end | exit code | processes left |")
        print("|---|---|---|---|")
        for at, stage in enumerate(wanted):
            print(measure(stage, number, folder / f"stage-{at}"), flush=True)
            tail = (folder / f"stage-{at}" / "console.log").read_text(errors="replace")
            print("   ", tail.strip().splitlines()[-1:], file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
