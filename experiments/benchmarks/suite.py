"""The benchmark suite: every row beside its baselines, measured in the same run.

    make bench                          # all rows that need no GPU, 22 minutes on two cores
    make bench ONLY="gnn-cpu features"  # some of them
    make bench ARGS=gpu                 # the rows that need one

A line is printed for each baseline: ours, the baseline, how many times better ours is, the goal and
whether it is met, and the floor where one can be computed. outputs/bench/results.json keeps them.
A row that cannot run here is printed with the reason, and left out of the file. Each row runs in a
process of its own; if one fails the others go on, and the exit code is 1.

"Today" is the commit that the rows improve on, checked out for the run into a temporary folder.
"""

import argparse
import importlib
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from figures import Figure, Goal, Measured, Skipped, environment_of
from rows import ROWS, Row

ROOT = Path(__file__).parents[2]
TODAY = "8307633"
"""The commit that the rows improve on."""
PATIENCE = 3
"""A row that takes so many times its budget is ended."""
_GRACE_S = 20


def main(arguments: Sequence[str] | None = None, rows: Sequence[Row] = ROWS) -> int:
    """Run the rows that were asked for; return 1 if one of them failed, 2 for a wrong name."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("device", nargs="?", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="run these rows alone")
    parser.add_argument("--out", type=Path, default=Path("outputs") / "bench")
    parser.add_argument("--table", action="store_true", help="show the last results as Markdown")
    parser.add_argument("--measure", metavar="MODULE:FUNCTION", help=argparse.SUPPRESS)
    parser.add_argument("--today", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.measure:
        _measure_here(given.measure, given.today, given.out)
        return 0
    if given.table:
        print(table_of(json.loads((given.out / "results.json").read_text(encoding="utf-8"))))
        return 0
    wrong = sorted(set(given.only or ()) - {row.name for row in rows})
    if wrong:
        known = ", ".join(row.name for row in rows)
        print(f"no such row: {', '.join(wrong)}. Known: {known}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    chosen = [row for row in rows if given.only is None or row.name in given.only]
    given.out.mkdir(parents=True, exist_ok=True)
    print(_machine())
    with checkout_of(TODAY) as today:
        return _run(chosen, given.device, today, given.out)


def _run(rows: Sequence[Row], device: str, today: Path | None, out: Path) -> int:
    """Run the rows one after another, and write the results after each."""
    results: dict[str, Any] = {}
    num_failed = 0
    path = out / "results.json"
    _write(path, results)
    for row in rows:
        reason = _cannot_run(row, device)
        if reason is not None:
            print(f"{row.name}: skipped: {reason} (goal {row.goal})", flush=True)
            continue
        print(f"{row.name}: {row.what} | baseline: {row.baseline} | goal: {row.goal}", flush=True)
        started = time.perf_counter()
        measured = _measure_apart(row, today, out)
        num_failed += measured is None
        for one in measured or ():
            print(f"  {one.line(row.name)}", flush=True)
        results.update(entries_of(row.name, measured or ()))
        _write(path, results)
        spent_s = time.perf_counter() - started
        print(f"  {spent_s:.0f} s (budget {row.budget_s} s)", flush=True)
    missed = [name for name, entry in results.items() if not entry["met"]]
    print(f"{path}: {len(results)} figures, {len(missed)} miss their goal", flush=True)
    return 1 if num_failed else 0


def entries_of(row: str, measured: Measured) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a row's figures as ``results.json`` holds them; a ratio to nothing is null."""
    for one in measured:
        if isinstance(one, Figure):
            yield (
                f"{row}: {one.name}",
                {
                    "ours": one.ours,
                    "baseline": one.baseline,
                    "ratio": one.ratio if math.isfinite(one.ratio) else None,
                    "goal": one.goal_text(),
                    "met": one.met,
                },
            )


def table_of(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return ``results.json`` as a table for experiments/README.md."""
    lines = ["| | ours | baseline | ratio | goal | |", "|---|---|---|---|---|---|"]
    for name, one in results.items():
        ratio = "-" if one["ratio"] is None else f"{one['ratio']:.3g}"
        met = "met" if one["met"] else "missed"
        numbers = f"{one['ours']:.4g} | {one['baseline']:.4g} | {ratio}"
        lines.append(f"| {name} | {numbers} | {one['goal']} | {met} |")
    return "\n".join(lines)


def _cannot_run(row: Row, device: str) -> str | None:
    """Return why a row is not run; None if it is."""
    if row.device != device:
        wanted = "make bench ARGS=gpu" if row.device == "gpu" else "make bench"
        return f"it is a row of `{wanted}`"
    if row.device == "gpu" and not _has_gpu():
        return "torch sees no CUDA device here"
    module = row.measure.partition(":")[0]
    return None if (Path(__file__).parent / f"{module}.py").exists() else f"no {module}.py here"


def _has_gpu() -> bool:
    """Ask in another process: one that has started CUDA keeps a part of the GPU."""
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _measure_apart(row: Row, today: Path | None, out: Path) -> Measured | None:
    """Measure a row in a process of its own; None, once the reason is told, if that fails."""
    log = (out / f"{row.name}.log").absolute()
    command = [sys.executable, str(Path(__file__).absolute()), "--measure", row.measure]
    command += [] if today is None else ["--today", str(today)]
    with tempfile.TemporaryDirectory(prefix="sg-ray-bench-") as scratch:
        answer = Path(scratch) / "figures.json"
        with log.open("w", encoding="utf-8") as text:
            process = subprocess.Popen(
                [*command, "--out", str(answer)],
                cwd=scratch,
                env=environment_of(ROOT),
                stdin=subprocess.DEVNULL,
                stdout=text,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(PATIENCE * row.budget_s)
                reason = None if code == 0 else f"exit code {code}"
            except subprocess.TimeoutExpired:
                reason = f"it takes more than {PATIENCE * row.budget_s} s"
            finally:
                _end(process)
        if reason is None:
            return _from_plain(json.loads(answer.read_text(encoding="utf-8")))
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    print(f"  FAILED: {reason}: {' '.join(last)}; see {log}", flush=True)
    return None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a row's process group: itself gently, so that it can clean up, then what it left."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _measure_here(reference: str, today: Path | None, answer: Path) -> None:
    """Call ``module:function`` and write what it returns."""
    module, _, function = reference.partition(":")
    measured: Measured = getattr(importlib.import_module(module), function)(today)
    plain = [{"kind": type(one).__name__, **asdict(one)} for one in measured]
    _write(answer, plain)


def _from_plain(plain: Sequence[Mapping[str, Any]]) -> Measured:
    return [_one_from_plain(dict(one)) for one in plain]


def _one_from_plain(plain: dict[str, Any]) -> Figure | Skipped:
    if plain.pop("kind") == Skipped.__name__:
        return Skipped(**plain)
    goal = plain.pop("goal")
    return Figure(**plain, goal=None if goal is None else Goal(**goal))


@contextmanager
def checkout_of(commit: str, repository: Path = ROOT) -> Iterator[Path | None]:
    """Yield a checkout of ``commit`` in a temporary folder, gone afterwards; None if there is none.

    A shallow clone has not got it, nor have sources without a repository.
    """
    folder = Path(tempfile.mkdtemp(prefix="sg-ray-today-"))
    checkout = folder / "checkout"
    try:
        failure = _git(repository, "worktree", "add", "--quiet", "--detach", checkout, commit)[1]
        if failure is not None:
            print(f"today ({commit}) cannot be checked out: {failure}", flush=True)
        yield checkout if failure is None else None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _git(repository, "worktree", "prune")


def _machine() -> str:
    """Return what the run is to be read with: commit, processor, load."""
    commit, failure = _git(ROOT, "describe", "--always", "--dirty")
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    told = f"Python {platform.python_version()}, {cores} cores, load {load:.1f}"
    return f"{'no commit' if failure else commit}, {told}"


def _git(repository: Path, *words: str | Path) -> tuple[str, str | None]:
    """Return what a git command printed, and why it failed, if it did."""
    command = ["git", "-C", str(repository), *map(str, words)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return "", str(error)
    failure = (done.stderr.strip() or "git failed") if done.returncode else None
    return done.stdout.strip(), failure


def _write(path: Path, content: object) -> None:
    """Write JSON that is there whole or not at all."""
    whole = path.with_suffix(".new")
    whole.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    whole.replace(path)


if __name__ == "__main__":
    sys.exit(main())
