"""A live view of a sweep: a table that redraws itself on a terminal, plain lines anywhere else.

ASCII only, and it never stops a sweep: a reader that goes away ends the view, nothing more.
"""

import math
import sys
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from sg_ray.files import short_hash
from sg_ray.live.progress import TRIAL_STAGES, Progress
from sg_ray.live.stream import SafeStream, as_ascii
from sg_ray.live.time_left import time_left_s
from sg_ray.records.events import (
    Event,
    FinalistDropped,
    JobLost,
    LearningRateFound,
    NodeReported,
    StageStarted,
    SweepFinished,
    SweepWaiting,
    TrialFinished,
    WeightsLetGo,
    WinnerTested,
)
from sg_ray.records.planned import up_to
from sg_ray.verdict.words.sentences import count_of

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

MIN_SECONDS_BETWEEN_LINES = 1.0
_MB = 2**20
REDRAWS_PER_SECOND = 2
LEAST_COLUMNS = 60
"""A narrower terminal gets plain lines: a table would break every word."""


class LiveView:
    """Shows a sweep's events as they come; a listener for ``sg_ray.records.journal.Journal``.

    ``past`` are the events of a sweep that is resumed. On a stream that is not a terminal one line
    is written per stage, learning rate and finished trial, at most one a second for the latter; so
    it is without ``redraws``.
    """

    def __init__(
        self,
        objective: str,
        *,
        past: Iterable[Event] = (),
        stream: TextIO | None = None,
        redraws: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = Progress(objective)
        self.stream = SafeStream(stream or sys.stdout)
        self._redraws = redraws and self.stream.isatty()
        self._clock = clock
        self._started_s = clock()
        self._last_line_s = float("-inf")
        self._num_untold = 0
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
        if self._redraws and (live := _live(self.stream, self._table)) is not None:
            self._live = live
            self._live.start()

    def stop(self) -> None:
        """Show the last state and end."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif self._progress.num_finished and self._progress.status:
            self._write(self._summary())
        self.stream.flush()

    def __call__(self, event: Event) -> None:
        """Take one event in and show it."""
        with self._lock:
            before = (self._progress.model, self._progress.stage)
            self._progress.apply(event)
            is_table = self._live is not None
            is_told = not is_table or isinstance(event, JobLost | NodeReported | WeightsLetGo)
            line = self._line(event, before) if is_told else None
        if line is not None:
            self._write(line)

    def show_preparing(self, kind: str, done: int, total: int) -> None:
        """Show how far the features of one kind are."""
        with self._lock:
            self._progress.preparing = f"{kind} {done}/{total}"
        if self._live is None and done >= total:
            self._write(f"  {kind}: {total} functions")

    def _write(self, line: str) -> None:
        """Write a line, above the table where there is one."""
        if self._live is not None:
            self._live.console.print(line, soft_wrap=True)
            return
        self.stream.write(line + "\n")
        self.stream.flush()

    def _line(self, event: Event, before: tuple[str, str]) -> str | None:
        progress = self._progress
        match event:
            case StageStarted() if before != (progress.model, progress.stage):
                planned = f", {event.num_trials} trials" if event.stage in TRIAL_STAGES else ""
                return f"[{_clock_text(self._elapsed_s())}] stage {_title(progress)}{planned}"
            case LearningRateFound():
                return f"  learning rate of {event.model}: {self._rate(event)}"
            case TrialFinished() if self._may_write(event.status):
                return self._trial_line(event)
            case FinalistDropped() if event.config_hash not in self._told_drops:
                self._told_drops.add(event.config_hash)
                return (
                    f"  {event.model}-{short_hash(event.config_hash)} dropped after "
                    f"{event.after_seeds} fresh seeds: {short_hash(event.against)} is better"
                )
            case JobLost():
                where = "" if event.host is None else f" on {event.host}"
                return f"  {event.name} was lost{where}, and is tried again: {event.reason}"
            case NodeReported():
                return f"  {_node_news(event)}"
            case SweepWaiting():
                return f"  {_waiting(event.wait_s, event.reason)}"
            case WinnerTested():
                return f"  {_on_test(event)}"
            case WeightsLetGo() if event.num_bytes >= _MB:
                return (
                    f"  let go of the weights of {count_of(len(event.trial_keys), 'trial')} that "
                    f"lost, {event.num_bytes / _MB:,.0f} MB; keep_weights=all would keep them"
                )
            case SweepFinished():
                return f"[{_clock_text(self._elapsed_s())}] sweep {event.status}"
        return None

    def _rate(self, event: LearningRateFound) -> str:
        """Return the rate, where it is from and, of the default, why the range test has none."""
        rate = self._progress.learning_rates[event.model]
        if event.reason is None:
            return rate
        why = event.reason.partition("\n")[0]
        return f"{rate}, for the range test found none: {why}"

    def _may_write(self, status: str) -> bool:
        now_s = self._clock()
        is_due = now_s - self._last_line_s >= MIN_SECONDS_BETWEEN_LINES
        if is_due:
            self._last_line_s = now_s
        is_told = is_due or status == "failed"
        if not is_told:
            self._num_untold += 1
        return is_told

    def _trial_line(self, event: TrialFinished) -> str:
        objective = self._progress.objective
        trial = self._progress.trials.get(event.trial_key)
        name = trial.name if trial is not None else event.trial_key
        value = event.metrics.get(objective)
        score = f" {objective} {_number(value)}" if value is not None else ""
        untold, self._num_untold = self._num_untold, 0
        more = f" (and {untold} more)" if untold else ""
        return f"  {name} {event.status}{score}{more} | {self._summary()}"

    def _summary(self) -> str:
        progress = self._progress
        best = ", ".join(f"{model} {value:.4f}" for model, value in progress.best.items())
        times = _times(self._elapsed_s(), time_left_s(progress))
        told = f", best single trial {best}" if best else ""
        return f"{_trials(progress)}{told}, {times}"

    def _elapsed_s(self) -> float:
        return self._clock() - self._started_s

    def _table(self) -> "Table":
        with self._lock:
            return _table(self._progress, self._elapsed_s())


def _live(stream: SafeStream, table: "Callable[[], Table]") -> "Live | None":
    """Return what redraws the table; None on a terminal that is too narrow or cannot redraw."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream, highlight=False, emoji=False, markup=False)  # type: ignore[arg-type]
    if console.is_dumb_terminal or console.width < LEAST_COLUMNS:
        return None
    return Live(
        get_renderable=table,
        console=console,
        refresh_per_second=REDRAWS_PER_SECOND,
        vertical_overflow="crop",
    )


def _table(progress: Progress, elapsed_s: float) -> "Table":
    from rich import box
    from rich.table import Table

    title = f"{_title(progress)}: {progress.preparing or _trials(progress)}"
    times = _times(elapsed_s, time_left_s(progress))
    caption = f"{as_ascii(_waiting(*progress.waiting))}\n{times}" if progress.waiting else times
    table = Table(title=title, caption=caption, box=box.ASCII, title_justify="left")
    best = f"best {progress.objective} of one trial"
    for column in ("model", "trials", "running", "learning rate", best):
        table.add_column(column, overflow="fold")
    for model in progress.models:
        outcomes = sorted(progress.outcomes(model).items())
        running = (
            f"{trial.name_in_model} epoch {trial.epoch}" for trial in progress.running(model)
        )
        table.add_row(
            as_ascii(model),
            as_ascii(", ".join(f"{number} {status}" for status, number in outcomes)),
            as_ascii("\n".join(running)),
            progress.learning_rates.get(model, ""),
            _number(progress.best.get(model)),
        )
    return table


def _title(progress: Progress) -> str:
    return f"{progress.stage} {progress.model}".strip()


def _trials(progress: Progress) -> str:
    return f"{progress.num_finished}/{up_to(*progress.num_planned)} trials"


def _on_test(event: WinnerTested) -> str:
    """Return the winner's scores on the test split, and of how many seeds they are the means."""
    seeds = f" (means over {count_of(event.num_seeds, 'seed')})" if event.num_seeds > 1 else ""
    metrics = ", ".join(f"{name} {_number(value)}" for name, value in event.metrics.items())
    note = "; note: the floor is ranked above it" if event.is_below_floor else ""
    return f"test split, {event.model}{seeds}: {metrics}{note}"


def _node_news(event: NodeReported) -> str:
    match event.news:
        case "joined":
            return f"node {event.host} joined, and passed its check"
        case "lost":
            return f"node {event.host} is gone: what ran there is tried again elsewhere"
        case "avoided":
            return f"node {event.host} is not used: {event.reason}"
        case "noted":
            return f"node {event.host}: {event.reason}"


def _waiting(wait_s: int, reason: str) -> str:
    return f"no trial has begun for {_clock_text(wait_s)}: {reason}"


def _times(elapsed_s: float, left_s: tuple[float, float] | None) -> str:
    elapsed = f"{_clock_text(elapsed_s)} elapsed"
    if left_s is None:
        return elapsed
    least, most = (_clock_text(math.ceil(seconds)) for seconds in left_s)
    return f"{elapsed}, about {least if least == most else f'{least} to {most}'} left"


def _clock_text(seconds: float) -> str:
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _number(value: float | None) -> str:
    return f"{value:.4f}" if value is not None else "-"
