"""Processes that this one has started, directly or not, as Linux lists them in /proc."""

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_POLL_S = 0.1


@dataclass(frozen=True)
class Process:
    """A process. Its start (clock ticks since boot) tells it from a later one of the same id."""

    pid: int
    started_at_ticks: int

    @property
    def is_running(self) -> bool:
        """True until it has ended; one that waits to be collected by its parent has."""
        entry = _read(self.pid)
        return entry is not None and entry.process == self


@dataclass(frozen=True)
class _Entry:
    process: Process
    parent: int


def descendants(beside: Set[Process] = frozenset()) -> frozenset[Process]:
    """Return the running processes below this one, but ``beside`` and what those have started.

    Empty where there is no /proc.
    """
    children: dict[int, list[Process]] = defaultdict(list)
    for entry in _entries():
        children[entry.parent].append(entry.process)
    found: set[Process] = set()
    waiting = [os.getpid()]
    while waiting:
        below = set(children[waiting.pop()]) - beside
        found.update(below)
        waiting.extend(process.pid for process in below)
    return frozenset(found)


def end(processes: Set[Process], patience_s: float) -> None:
    """Wait until ``processes``, which are this one's own, have ended; then kill those that stay."""
    deadline = time.monotonic() + patience_s
    while any(process.is_running for process in processes):
        if time.monotonic() > deadline:
            for process in processes:
                if process.is_running:
                    with suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
            return
        time.sleep(_POLL_S)


def _entries() -> Iterator[_Entry]:
    for folder in _PROC.glob("[0-9]*"):
        entry = _read(int(folder.name))
        if entry is not None:
            yield entry


def _read(pid: int) -> _Entry | None:
    """Return a process; None if there is none, or it has ended and waits to be collected."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, parent, *rest = text.rpartition(")")[2].split()  # the name before it may hold anything
    return None if state == "Z" else _Entry(Process(pid, int(rest[17])), int(parent))
