"""The sweep's journal: append-only ``events.jsonl`` with fixed timestamps.

Consoles follow it live and the MLflow mirror replays it. An event says once what happened once:
the same epoch of the same trial, met again after a kill, is not written again. Nothing in it gives
away the user's home folder or a secret, and no sample's source ever goes in.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

from pydantic import ValidationError

from sg_ray.errors import InputError
from sg_ray.files import drop_torn_line, to_plain
from sg_ray.reading import Line, explain_first, json_line, json_lines, read_object
from sg_ray.records.events import Event, Identity, TrialTakenBack, event_of
from sg_ray.redaction import redact
from sg_ray.sweep_folder import SweepFolder

_LOGGER = logging.getLogger(__name__)
_NUM_TOLD = 3
"""Damaged lines that are told one by one."""


class Journal:
    """Appends events to ``events.jsonl`` and hands each to the listeners."""

    def __init__(self, path: Path, listeners: tuple[Callable[[Event], None], ...] = ()) -> None:
        self.path = path
        self._listeners = listeners
        path.parent.mkdir(parents=True, exist_ok=True)
        past = list(read_events(path, tell=True))
        drop_torn_line(path)
        self._seen: set[Identity | None] = set()
        for event in past:
            self._note(event)
        self._last_ms = max((event.at_ms for event in past), default=0)
        now_ms = time.time_ns() // 1_000_000
        self._clock_began_ms = max(now_ms, self._last_ms + 1) - _uptime_ms()
        self._file = path.open("a", encoding="utf-8")

    def append(self, event: Event) -> None:
        """Write an event that happened now, unless it says again what was said before."""
        told = event_of({**redact(to_plain(event)), "at_ms": self._next_ms()})
        if told.identity is None or told.identity not in self._seen:
            self._note(told)
            self._file.write(told.as_line())
            self._file.flush()
        for listener in self._listeners:
            listener(told)

    def _note(self, event: Event) -> None:
        """Take note of what has been said, and of what may be said again."""
        self._seen.add(event.identity)
        if isinstance(event, TrialTakenBack):
            self._seen.discard(event.takes_back)

    def _next_ms(self) -> int:
        """Return the time, but later than any before: clocks are set back.

        From the journal's opening on it is counted by a clock that nobody sets, so that durations
        are true even where the dates are not.
        """
        self._last_ms = max(self._clock_began_ms + _uptime_ms(), self._last_ms + 1)
        return self._last_ms

    def sync(self) -> None:
        """Have the disk hold all that was appended."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and close the file."""
        self.sync()
        self._file.close()


def _uptime_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def read_events(path: Path, *, tell: bool = False) -> Iterator[Event]:
    """Yield the events of a journal; a torn last line (a kill during a write) is left out.

    So is what is no event, or an event for the second time: nothing is lost by it but a view, for
    the records are the truth. ``tell`` warns of those lines. Raises InputError if the file cannot
    be read.
    """
    if not path.exists():
        return
    damaged: list[str] = []
    seen: set[bytes] = set()
    for line in json_lines(path):
        event, problem = _event_of(line)
        if line.content in seen:
            problem = "it repeats an earlier line"
        if not line.is_whole:
            problem = "it is cut off"
        seen.add(line.content)
        if event is not None and problem is None:
            yield event
        else:
            damaged.append(f"line {line.number} ({problem})")
    if tell and not seen:
        damaged.append("all lines (it is empty)")
    if tell and damaged:
        _warn(path, damaged)


def sweep_id_of(folder: SweepFolder) -> str:
    """Return as what a journal that begins now is to be known in MLflow.

    A new name, unless the folder is mirrored already and its journal was deleted, or its first line
    damaged: then the one that tracking.json has kept.
    """
    try:
        kept = read_object(folder.position_of_mirror, what="position", remedy="").get("sweep_id")
    except InputError:
        kept = None
    return kept if isinstance(kept, str) and kept else uuid4().hex[:16]


def parse_event(content: bytes) -> Event | None:
    """Return the event of a journal's line; None if it is none."""
    return _event_of(json_line(1, content))[0]


def _event_of(line: Line) -> tuple[Event | None, str | None]:
    """Return a line's event, or what keeps it from being one."""
    if line.problem is not None:
        return None, line.problem
    try:
        return event_of(line.value), None
    except ValidationError as error:
        return None, explain_first(error)


def _warn(path: Path, damaged: list[str]) -> None:
    shown = ", ".join(damaged[:_NUM_TOLD])
    more = f" and {len(damaged) - _NUM_TOLD} more" if len(damaged) > _NUM_TOLD else ""
    _LOGGER.warning(
        "%s: %s%s passed over: no valid events. Results are not touched, for the records hold "
        "them; what these lines said may be missing in MLflow and in the page's timeline.",
        path,
        shown,
        more,
    )
