"""The default sweep as ``make sweep`` runs it after installation: ours and today's, in turn.

    python experiments/benchmarks/default_sweep.py [key=value ...]

Each runs in an empty folder, so that nothing is cached, tracked by MLflow in SQLite. Besides the
time to the end it measures the time to the first line with a trial's score, and compares what the
two verdicts say: who won, and for each pair of models (and of a model's finalists) which is better.
Numbers differ between the two; a statement for the other side is a contradiction. Each runs the
experiment of its own checkout, and ours is the smaller one: see ``experiments/README.md``.
"""

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import (
    NO_TODAY,
    Figure,
    Measured,
    Skipped,
    at_least,
    at_most,
    environment_of,
    print_figures,
    times_better,
)

ROOT = Path(__file__).parents[2]
UNDECIDED = "undecided"
_SCORE = re.compile(r"\d\.\d{4}\b")


@dataclass(frozen=True)
class Sweep:
    """One sweep: its seconds, those to the first line with a score, its trials, its verdict."""

    wall_s: float
    first_result_s: float
    num_trials: int
    verdict: Mapping[str, Any]

    @property
    def winner(self) -> str:
        """The family that is ranked first, the floor aside."""
        first = next(one for one in self.verdict["standings"] if not one["is_floor"])
        return _family(first)

    @property
    def statements(self) -> dict[str, str]:
        """Of each pair of families, and of each family's finalists, who is better, or nobody."""
        said: dict[str, str] = {}
        for question in self.verdict["questions"]:
            for one in question["comparisons"]:
                a, b = _family(one["a"]), _family(one["b"])
                better = "they differ" if a == b else a
                decided = one["outcome"] == "a"
                said[" - ".join(sorted((a, b)))] = better if decided else UNDECIDED
        return said


def measure(today: Path | None, settings: Sequence[str] = ()) -> Measured:
    """Run today's sweep and ours; ``settings`` make both smaller."""
    names = ("wall time", "first line of results", "the verdict's statements")
    if today is None:
        return [Skipped(f"{name}, today", NO_TODAY) for name in names]
    theirs = run_sweep(today, settings)
    ours = run_sweep(ROOT, settings)
    pairs = ours.statements.keys() & theirs.statements.keys()
    against = [p for p in pairs if _contradict(ours.statements[p], theirs.statements[p])]
    alike = sum(ours.statements[pair] == theirs.statements[pair] for pair in pairs)
    agreement = 0.0 if ours.winner != theirs.winner else 1 - len(against) / max(len(pairs), 1)
    trials = f"{ours.num_trials} trials, today {theirs.num_trials}"
    told = f"winner {ours.winner}, today {theirs.winner}; {alike} of {len(pairs)} the same"
    return [
        Figure(f"{names[0]}, today", ours.wall_s, theirs.wall_s, "s", at_most(200), note=trials),
        Figure(f"{names[1]}, today", ours.first_result_s, theirs.first_result_s, "s", at_most(45)),
        Figure(
            f"{names[2]}, today",
            agreement,
            1.0,
            "do not contradict",
            at_least(1),
            "more",
            note=told,
        ),
    ]


def measure_gpu(today: Path | None) -> Measured:  # noqa: ARG001 - ours against ours
    """Run the sweep on this machine's CPUs, then on its GPU at shares; the best of them counts."""
    if importlib.util.find_spec("ray") is None:
        return [Skipped("CPUs, wall time", "Ray is not installed")]
    cpu = run_sweep(ROOT, ["resources.gpus=0"])
    shares = {share: run_sweep(ROOT, [f"resources.gpus={share}"]).wall_s for share in (0.25, 0.125)}
    best = min(shares, key=lambda share: shares[share])
    note = ", ".join(f"gpus {share}: {wall_s:.0f} s" for share, wall_s in shares.items())
    goal = times_better(3)
    return [Figure("CPUs, wall time", shares[best], cpu.wall_s, "s", goal, note=note)]


def run_sweep(checkout: Path, settings: Sequence[str] = ()) -> Sweep:
    """Run the default sweep of a checkout in an empty folder. Raises RuntimeError if it fails."""
    script = checkout / "experiments" / "sweep.py"
    with tempfile.TemporaryDirectory(prefix="sg-ray-sweep-") as folder:
        first_result_s = 0.0
        lines: list[str] = []
        started = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, str(script), *settings],
            cwd=folder,
            env=environment_of(checkout),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                if not first_result_s and _SCORE.search(line):
                    first_result_s = time.perf_counter() - started
        wall_s = time.perf_counter() - started
        if process.returncode != 0:
            raise RuntimeError(f"{script} failed:\n{''.join(lines[-20:])}")
        (verdict,) = Path(folder).glob("outputs/*/verdict.json")
        return Sweep(
            wall_s,
            first_result_s,
            len(list(verdict.parent.glob("records/*.json"))),
            json.loads(verdict.read_text(encoding="utf-8")),
        )


def _contradict(one: str, other: str) -> bool:
    """Whether both decide, for different sides."""
    return UNDECIDED not in (one, other) and one != other


def _family(side: Mapping[str, Any]) -> str:
    """Return the family of a standing or a side of a comparison, of either version's verdict."""
    if "configuration" in side:
        return str(side["configuration"]["family"])
    return str(side.get("model") or side["family"])


if __name__ == "__main__":
    from suite import TODAY, checkout_of

    with checkout_of(TODAY) as _today:
        print_figures(measure(_today, sys.argv[1:]))
