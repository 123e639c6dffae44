"""Work that is not a sweep, as it goes: features being made, steps and epochs of a training.

On a terminal bars that redraw themselves; anywhere else a line when something is done. ASCII only,
and a reader that goes away ends the view, nothing more.
"""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from sg_ray.live.stream import SafeStream
from sg_ray.statistics.own_metrics import OWN_METRICS

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from sg_ray.training.loop import EpochResult

_METRICS = ("train_loss", "val_loss", "val_accuracy", "val_f1", "val_roc_auc")


class WorkView:
    """Shows how far the work is; to be left before its results are written."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = SafeStream(stream or sys.stdout)
        self._bars = _bars(self._stream)
        self._tasks: dict[str, TaskID] = {}
        self._epoch = 1
        self._num_steps = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def show_features(self, kind: str, done: int, total: int) -> None:
        """Show how many of the ``total`` functions have their features of ``kind``."""
        if self._bars is not None:
            self._show(kind, done, total)
        elif done >= total:
            self.write(f"{kind}: {total} functions")

    def expect_steps(self, num_steps: int) -> None:
        """Take note of how many steps an epoch has, before the first is taken."""
        self._num_steps = num_steps

    def show_step(self) -> None:
        """Show that one more step of the epoch has been taken."""
        if self._bars is not None and self._num_steps:
            name = f"epoch {self._epoch}"
            task = self._tasks.get(name)
            done = 0 if task is None else int(self._bars.tasks[task].completed)
            self._show(name, done + 1, self._num_steps)

    def show_epoch(self, result: "EpochResult") -> None:
        """Write one line an epoch, in place of its bar."""
        task = self._tasks.pop(f"epoch {self._epoch}", None)
        if self._bars is not None and task is not None:
            self._bars.update(task, visible=False)
        self._epoch = result.epoch + 1
        names = (*_METRICS, *(f"val_{name}" for name in OWN_METRICS))
        shown = (f"{name} {result.metrics[name]:.4f}" for name in names if name in result.metrics)
        mark = "  *" if result.is_best else ""
        self.write(f"epoch {result.epoch}  {'  '.join(shown)}{mark}")

    def write(self, line: str) -> None:
        """Write a line, above the bars where there are any."""
        if self._bars is not None:
            self._bars.console.print(line, soft_wrap=True)
            return
        self._stream.write(line + "\n")
        self._stream.flush()

    def _show(self, name: str, done: int, total: int) -> None:
        assert self._bars is not None
        self._bars.start()  # not before there is something to show
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total)
        self._bars.update(self._tasks[name], completed=done)


def _bars(stream: SafeStream) -> "Progress | None":
    """Return bars for a terminal that can redraw them; None for anything else."""
    if not stream.isatty():
        return None
    from rich import progress
    from rich.console import Console

    console = Console(file=stream, highlight=False, emoji=False, markup=False)  # type: ignore[arg-type]
    if console.is_dumb_terminal:
        return None
    return progress.Progress(
        progress.TextColumn("{task.description:<10}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=console,
    )
