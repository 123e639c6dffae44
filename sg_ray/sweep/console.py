"""A live view of a sweep: a table that redraws itself on a terminal, plain lines anywhere else.

ASCII only, and it never stops a sweep: a reader that goes away ends the view, nothing more.
"""

import contextlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import fmean
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO, get_args

from sg_ray.sweep.events import Event
from sg_ray.sweep.leaderboard import is_number
from sg_ray.sweep.records import Stage
from sg_ray.training.metrics import is_better
from sg_ray.training.seeding import seed_name

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

MIN_SECONDS_BETWEEN_LINES = 1.0
REDRAWS_PER_SECOND = 2
TRIAL_STAGES = get_args(Stage)
UNFINISHED = ("running", "interrupted")


@dataclass
class Trial:
    """What the view knows of one trial; ``status`` is "running" or how it ended."""

    family: str
    stage: str
    name: str
    started_at_ms: int
    status: str = "running"
    epoch: int = 0


@dataclass
class Progress:
    """What the events so far say about a sweep. Events met twice change nothing."""

    objective: str
    stage: str = "prepare"
    family: str = ""
    status: str = ""
    planned: dict[tuple[str, str], int] = field(default_factory=dict)
    """Trials planned, by family and stage."""
    trials: dict[str, Trial] = field(default_factory=dict)
    preparing: str = ""
    """What is being made of how many samples, while features are made."""
    best: dict[str, float] = field(default_factory=dict)
    learning_rates: dict[str, str] = field(default_factory=dict)
    durations_s: dict[str, list[float]] = field(default_factory=dict)
    """Seconds that finished trials took, by family."""

    def apply(self, event: Event) -> None:
        """Take one event into account; a type not known here is passed over."""
        handler = getattr(self, f"_on_{event.type}", None)
        if handler is not None:
            handler(event)

    def interrupt(self) -> None:
        """Take note that the process that ran the trials so far has ended."""
        self.status = ""
        for trial in self._with_status("running"):
            trial.status = "interrupted"

    @property
    def families(self) -> list[str]:
        """Families met so far, in order."""
        planned = [family for family, _ in self.planned if family]
        started = [trial.family for trial in self.trials.values()]
        return list(dict.fromkeys([*self.learning_rates, *planned, *started]))

    @property
    def num_finished(self) -> int:
        """Trials that ended, in whichever way."""
        return sum(trial.status not in UNFINISHED for trial in self.trials.values())

    @property
    def num_planned(self) -> int:
        """Trials planned, at least those seen."""
        if self.status == "completed":  # pruning may have left fewer finalists than planned
            return self.num_finished
        seen = Counter((trial.family, trial.stage) for trial in self.trials.values())
        stages = {*seen, *self.planned}
        return sum(max(seen[stage], self.planned.get(stage, 0)) for stage in stages)

    def running(self, family: str) -> list[Trial]:
        """Trials of ``family`` that run now."""
        return [trial for trial in self._with_status("running") if trial.family == family]

    def outcomes(self, family: str) -> Counter[str]:
        """Finished trials of ``family``, by status."""
        statuses = (trial.status for trial in self.trials.values() if trial.family == family)
        return Counter(status for status in statuses if status not in UNFINISHED)

    def eta_s(self) -> float | None:
        """Seconds left at each family's mean trial; None before the first."""
        durations_s = [seconds for family in self.durations_s.values() for seconds in family]
        if not durations_s or self.status:
            return None
        finished = Counter(
            (trial.family, trial.stage)
            for trial in self.trials.values()
            if trial.status not in UNFINISHED
        )
        left_s = sum(
            max(0, num_planned - finished[family, stage])
            * fmean(self.durations_s.get(family, durations_s))
            for (family, stage), num_planned in self.planned.items()
        )
        return left_s / max(1, len(self._with_status("running")))

    def _with_status(self, status: str) -> list[Trial]:
        return [trial for trial in self.trials.values() if trial.status == status]

    def _on_plan(self, event: Event) -> None:
        for stage in event.data["stages"]:
            self.planned[str(stage["family"]), str(stage["stage"])] = int(stage["num_trials"])

    def _on_stage(self, event: Event) -> None:
        self.preparing = ""
        self.stage, self.family = str(event.data["stage"]), str(event.data.get("family") or "")
        if self.stage in TRIAL_STAGES:
            self.planned[self.family, self.stage] = int(event.data["num_trials"])

    def _on_lr_range(self, event: Event) -> None:
        rate = event.data.get("learning_rate")
        value = f"{rate:.2e}" if isinstance(rate, int | float) else "none"
        self.learning_rates[str(event.data["family"])] = f"{value} ({event.data.get('source')})"

    def _on_trial_started(self, event: Event) -> None:
        data, key = event.data, event.trial_key or ""
        if key in self.trials and self.trials[key].status != "interrupted":
            return
        family = str(data["family"])
        seeds = seed_name(data["seed"], data.get("streams") or {})
        name = f"{str(data['config_hash'])[:8]}-{seeds}"
        self.trials[key] = Trial(family, str(data["stage"]), name, event.at_ms)

    def _on_epoch(self, event: Event) -> None:
        trial = self.trials.get(event.trial_key or "")
        if trial is not None:
            trial.epoch = max(trial.epoch, int(event.data["epoch"]))

    def _on_trial_finished(self, event: Event) -> None:
        trial = self.trials.get(event.trial_key or "")
        if trial is None or trial.status not in UNFINISHED:
            return
        was_running, trial.status = trial.status == "running", str(event.data["status"])
        if was_running and trial.status != "failed":
            seconds = (event.at_ms - trial.started_at_ms) / 1000
            self.durations_s.setdefault(trial.family, []).append(seconds)
        value = (event.data.get("metrics") or {}).get(self.objective)
        if trial.status != "completed" or trial.stage == "variance" or not is_number(value):
            return
        if is_better(self.objective, value, self.best.get(trial.family)):
            self.best[trial.family] = value

    def _on_sweep_finished(self, event: Event) -> None:
        self.status = str(event.data.get("status", "completed"))


class LiveView:
    """Shows a sweep's events as they come; a listener for ``sg_ray.sweep.events.Journal``.

    ``past`` are the events of a sweep that is resumed. On a stream that is not a terminal one line
    is written per stage, learning rate and finished trial, at most one a second for the latter.
    """

    def __init__(
        self,
        objective: str,
        *,
        past: Iterable[Event] = (),
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = Progress(objective)
        self._stream = _SafeStream(stream or sys.stdout)
        self._clock = clock
        self._started_s = clock()
        self._last_line_s = float("-inf")
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._told_drops: set[str] = set()
        for event in past:
            self._progress.apply(event)
        self._progress.interrupt()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to show; on a terminal the view redraws itself from a thread."""
        self._started_s = self._clock()
        if self._stream.isatty():
            self._live = _live(self._stream, self._table)
            self._live.start()

    def stop(self) -> None:
        """Show the last state and end."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif self._progress.num_finished and self._progress.status:
            self._write(self._summary())
        self._stream.flush()

    def __call__(self, event: Event) -> None:
        """Take one event in and show it."""
        with self._lock:
            before = (self._progress.family, self._progress.stage)
            self._progress.apply(event)
            line = None if self._live is not None else self._line(event, before)
        if line is not None:
            self._write(line)

    def show_preparing(self, kind: str, done: int, total: int) -> None:
        """Show how far the features of one kind are."""
        with self._lock:
            self._progress.preparing = f"{kind} {done}/{total}"
        if self._live is None and done >= total:
            self._write(f"  {kind}: {total} functions")

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    def _line(self, event: Event, before: tuple[str, str]) -> str | None:
        progress, data = self._progress, event.data
        if event.type == "stage" and before != (progress.family, progress.stage):
            planned = f", {data['num_trials']} trials" if progress.stage in TRIAL_STAGES else ""
            return f"[{_clock_text(self._elapsed_s())}] stage {_title(progress)}{planned}"
        if event.type == "lr_range":
            family = str(data["family"])
            return f"  learning rate of {family}: {progress.learning_rates[family]}"
        if event.type == "trial_finished" and self._may_write(str(data["status"])):
            return self._trial_line(event)
        if event.type == "dropped" and event.data["config_hash"] not in self._told_drops:
            self._told_drops.add(event.data["config_hash"])
            return (
                f"  {data['family']}-{data['config_hash']} dropped after {data['after_seeds']} "
                f"fresh seeds: {data['against']} is better"
            )
        if event.type == "test_scored":
            metrics = ", ".join(f"{k} {_number(v)}" for k, v in data["metrics"].items())
            return f"  test split, {data['family']}: {metrics}"
        if event.type == "sweep_finished":
            return f"[{_clock_text(self._elapsed_s())}] sweep {progress.status}"
        return None

    def _may_write(self, status: str) -> bool:
        now_s = self._clock()
        is_due = now_s - self._last_line_s >= MIN_SECONDS_BETWEEN_LINES
        if is_due:
            self._last_line_s = now_s
        return is_due or status == "failed"

    def _trial_line(self, event: Event) -> str:
        key, objective = event.trial_key or "", self._progress.objective
        trial = self._progress.trials.get(key)
        name = f"{trial.family}-{trial.name}" if trial is not None else key
        value = (event.data.get("metrics") or {}).get(objective)
        score = f" {objective} {_number(value)}" if is_number(value) else ""
        return f"  {name} {event.data['status']}{score} | {self._summary()}"

    def _summary(self) -> str:
        progress = self._progress
        best = ", ".join(f"{family} {value:.4f}" for family, value in progress.best.items())
        return (
            f"{progress.num_finished}/{progress.num_planned} trials"
            f"{f', best {best}' if best else ''}, {_times(self._elapsed_s(), progress.eta_s())}"
        )

    def _elapsed_s(self) -> float:
        return self._clock() - self._started_s

    def _table(self) -> "Table":
        with self._lock:
            return _table(self._progress, self._elapsed_s())


def _live(stream: "_SafeStream", table: "Callable[[], Table]") -> "Live":
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream, highlight=False, emoji=False, markup=False)  # type: ignore[arg-type]
    return Live(
        get_renderable=table,
        console=console,
        refresh_per_second=REDRAWS_PER_SECOND,
        vertical_overflow="crop",
    )


def _table(progress: Progress, elapsed_s: float) -> "Table":
    from rich import box
    from rich.table import Table

    trials = f"{progress.num_finished}/{progress.num_planned} trials"
    title = f"{_title(progress)}: {progress.preparing or trials}"
    caption = _times(elapsed_s, progress.eta_s())
    table = Table(title=title, caption=caption, box=box.ASCII, title_justify="left")
    for column in ("family", "trials", "running", "learning rate", f"best {progress.objective}"):
        table.add_column(column, overflow="fold")
    for family in progress.families:
        outcomes = sorted(progress.outcomes(family).items())
        running = (f"{trial.name} epoch {trial.epoch}" for trial in progress.running(family))
        table.add_row(
            _ascii(family),
            _ascii(", ".join(f"{number} {status}" for status, number in outcomes)),
            _ascii("\n".join(running)),
            progress.learning_rates.get(family, ""),
            _number(progress.best.get(family)),
        )
    return table


def _title(progress: Progress) -> str:
    return f"{progress.stage} {progress.family}".strip()


def _times(elapsed_s: float, eta_s: float | None) -> str:
    left = "" if eta_s is None else f", about {_clock_text(eta_s)} left"
    return f"{_clock_text(elapsed_s)} elapsed{left}"


def _clock_text(seconds: float) -> str:
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _number(value: Any) -> str:
    return f"{value:.4f}" if is_number(value) else "-"


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii")


class _SafeStream:
    """A text stream that writes ASCII whatever its encoding is, and falls silent once it fails."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._has_failed = False
        self.encoding = "ascii"

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        try:
            return self._stream.isatty()
        except ValueError:  # closed
            return False

    def fileno(self) -> int:
        """Return the descriptor of the stream."""
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write, unless the reader has gone."""
        self._guarded(lambda: self._stream.write(_ascii(text)))
        return len(text)

    def flush(self) -> None:
        """Flush, unless the reader has gone."""
        self._guarded(self._stream.flush)

    def _guarded(self, action: Callable[[], object]) -> None:
        if self._has_failed:
            return
        try:
            action()
        except (OSError, ValueError) as error:  # reader gone, disk full, stream closed
            self._has_failed = True
            if isinstance(error, BrokenPipeError):
                _lead_nowhere(self._stream)


def _lead_nowhere(stream: TextIO) -> None:
    """Point the stream's descriptor at the null device.

    Python flushes stdout once more at exit and would fail there (see "Note on SIGPIPE" in the
    documentation of its signal module).
    """
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
