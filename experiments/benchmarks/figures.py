"""What every module of the benchmark suite hands back: figures, each beside its baseline.

A module offers ``measure(today)``. It measures ours and the baselines in the same run and returns
a :class:`Figure` for each baseline, or a :class:`Skipped` where one could not be measured here.
``today`` is the root of a checkout of the commit that the suite compares with, or None where there
is none: what needs it is then skipped, in words. Run by itself, a module prints the same lines::

    if __name__ == "__main__":
        print_figures(measure(None))
"""

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal


@dataclass(frozen=True)
class Goal:
    """A limit that a figure's ratio, or ours itself, is to keep."""

    of: Literal["ratio", "ours"]
    comparison: Literal[">=", "<="]
    limit: float

    def met_by(self, ours: float, ratio: float) -> bool:
        """Whether these keep the limit."""
        value = ratio if self.of == "ratio" else ours
        return value >= self.limit if self.comparison == ">=" else value <= self.limit


def times_better(limit: float) -> Goal:
    """Ours is at least so many times better than the baseline (below 1: at most so much worse)."""
    return Goal("ratio", ">=", limit)


def at_most(limit: float) -> Goal:
    """Ours itself is at most this, in the figure's unit."""
    return Goal("ours", "<=", limit)


def at_least(limit: float) -> Goal:
    """Ours itself is at least this, in the figure's unit."""
    return Goal("ours", ">=", limit)


@dataclass(frozen=True)
class Figure:
    """One measured number beside its baseline, both in ``unit`` and of the same run.

    ``name`` tells the figure among those of its row, as "today" or "PyG RGCNConv" (the suite puts
    the row's name before it). ``better`` says which way is better: "less" for seconds and bytes,
    "more" for rates. ``floor`` is what arithmetic, bytes or launches alone would allow, in
    ``unit``. A ``goal`` of None is one that asks for the figure alone.
    """

    name: str
    ours: float
    baseline: float
    unit: str
    goal: Goal | None
    better: Literal["less", "more"] = "less"
    floor: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times better ours is than the baseline, whichever way is better."""
        over, under = (
            (self.baseline, self.ours) if self.better == "less" else (self.ours, self.baseline)
        )
        return over / under if under else math.inf

    @property
    def met(self) -> bool:
        """Whether the goal is met; one that asks for the figure alone is."""
        return self.goal is None or self.goal.met_by(self.ours, self.ratio)

    def goal_text(self) -> str:
        """The goal as it is printed and stored: ``>= 3x``, ``<= 200 s``."""
        if self.goal is None:
            return "stated"
        unit = "x" if self.goal.of == "ratio" else f" {self.unit}"
        return f"{self.goal.comparison} {self.goal.limit:g}{unit}"

    def line(self, row: str = "") -> str:
        """The line that is printed of it."""
        name = f"{row}: {self.name}" if row else self.name
        parts = [
            f"{name}: ours {self.ours:.4g} {self.unit}, baseline {self.baseline:.4g} {self.unit}",
            f"ratio {self.ratio:.3g}",
            f"goal {self.goal_text()} {'met' if self.met else 'MISSED'}",
        ]
        if self.floor is not None:
            word = "floor" if self.better == "less" else "ceiling"
            parts.append(f"{word} {self.floor:.4g} {self.unit}")
        if self.note:
            parts.append(self.note)
        return "; ".join(parts)


@dataclass(frozen=True)
class Skipped:
    """A figure that could not be measured here, and why."""

    name: str
    reason: str

    def line(self, row: str = "") -> str:
        """The line that is printed of it."""
        name = f"{row}: {self.name}" if row else self.name
        return f"{name}: skipped: {self.reason}"


Measured = Sequence[Figure | Skipped]

NO_TODAY = "no checkout of the commit that is compared with"
"""The reason to give where ``today`` is None."""


@dataclass(frozen=True)
class Spent:
    """What one call took: seconds on the clock, and of CPU in this process and ended children."""

    wall_s: float
    cpu_s: float


def in_turn(ways: Sequence[Callable[[], object]], rounds: int = 3) -> list[Spent]:
    """Call all ``ways`` in turn, ``rounds`` times (A B A B ...); the medians of each.

    In turn, so that a machine that gets slower in the meantime does so for all of them.
    """
    spent: list[list[Spent]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, so_far in zip(ways, spent, strict=True):
            so_far.append(_spent_by(way))
    return [Spent(median(s.wall_s for s in all_), median(s.cpu_s for s in all_)) for all_ in spent]


def environment_of(checkout: Path) -> dict[str, str]:
    """The environment in which this interpreter runs the sources of ``checkout``."""
    return {**os.environ, "PYTHONPATH": str(checkout)}


def print_figures(measured: Iterable[Figure | Skipped]) -> None:
    """Print a line for each."""
    for one in measured:
        print(one.line(), flush=True)


def _spent_by(way: Callable[[], object]) -> Spent:
    wall, cpu = time.perf_counter(), _cpu_s()
    way()
    return Spent(time.perf_counter() - wall, _cpu_s() - cpu)


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
