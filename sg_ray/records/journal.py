"""The sweep's journal: append-only ``events.jsonl`` with fixed timestamps.

Consoles follow it live and the MLflow mirror replays it. An event says once what happened once:
the same epoch of the same trial, met again after a kill, is not written again. Nothing in it gives
away the user's home folder or a secret, and no sample's source ever goes in.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from sg_ray.errors import InputError
from sg_ray.files import drop_torn_line, to_plain
from sg_ray.reading import Line, TimeMs, explain_first, json_line, json_lines, read_object
from sg_ray.redaction import redact
from sg_ray.sweep_folder import SweepFolder

Level = Literal["info", "warning", "error"]

_LEVEL_OF_STATUS: Mapping[str, Level] = {
    "failed": "error",
    "collapsed": "warning",
    "interrupted": "warning",
}


class Event(BaseModel):
    """One line of the journal.

    Types and their ``data``:

    - ``sweep_started``: name, plan (the resolved configuration as a dict), once per sweep;
      sweep_id, if an earlier journal's place is taken
    - ``sweep_resumed``: nothing; a driver goes on with a sweep begun before
    - ``data_checked``: fingerprint, notes (sentences about the data)
    - ``plan``: stages, a list of ``sg_ray.records.planned.PlannedStage`` (it may shrink)
    - ``stage``: family, stage, num_trials planned (it may grow)
    - ``lr_range``: family, learning_rate, source ("range test", "cache", "default"), curve
    - ``trial_started``: family, stage, config, config_hash, seed, streams (once per trial);
      ``streams`` are the seeds of single streams, and may be missing
    - ``trial_resumed``: epoch, the number of epochs in the checkpoint that it goes on from
    - ``epoch``: epoch (from 1), metrics (name -> number or null)
    - ``trial_finished``: status, epochs, metrics; the record file holds the rest
    - ``job_lost``: name, reason; its process or machine died, and it is handed out again
    - ``waiting``: wait_s, reason; there are trials to run, and none has begun for so long
    - ``trial_taken_back``: reason; the trial's end does not count, for a process or machine was at
      fault. It is tried again, and finishes once more
    - ``dropped``: family, config_hash, against, after_seeds: the race gave a finalist up
    - ``test_scored``: family, metrics of the winner on the test split
    - ``ranked``: status, as the end will have it; leaderboard.csv and best/ are written
    - ``sweep_finished``: status ("completed", "failed" or "interrupted")

    ``trial_key`` is set on trial_started, trial_resumed, epoch, trial_finished,
    trial_taken_back, and on job_lost if the job is a trial. A line of the journal also says
    ``level``, which follows from the rest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    at_ms: TimeMs
    type: str
    trial_key: str | None = None
    data: Mapping[str, Any]

    @property
    def level(self) -> Level:
        """How loud the event is: "error" if something failed, "warning" if it did not go well.

        Not a field: what identifies a sweep in MLflow is a hash of its first event's fields.
        """
        if self.type == "lr_range" and self.data.get("source") == "default":
            return "warning"  # the range test found no rate
        return _LEVEL_OF_STATUS.get(str(self.data.get("status")), "info")

    def as_line(self) -> str:
        """Return the journal's line."""
        return json.dumps({"level": self.level, **self.model_dump()}, allow_nan=False) + "\n"

    @model_validator(mode="before")
    @classmethod
    def _drop_level(cls, values: Any) -> Any:
        """Read lines with and, from earlier versions, without the level."""
        if isinstance(values, dict):
            return {name: value for name, value in values.items() if name != "level"}
        return values


ONCE_PER_TRIAL = ("trial_started", "trial_finished")
ONCE_PER_SWEEP = ("sweep_started",)
FIRST = ("sweep_started", "training_started")
"""What a whole journal begins with; it identifies the sweep or training."""

_REQUIRED: Mapping[str, Mapping[str, type]] = {
    "plan": {"stages": list},
    "stage": {"stage": str},
    "lr_range": {"family": str},
    "epoch": {"epoch": int, "metrics": dict},
    "trial_finished": {"status": str},
    "job_lost": {"name": str, "reason": str},
    "waiting": {"wait_s": int, "reason": str},
    "dropped": {"family": str, "config_hash": str},
    "test_scored": {"family": str, "metrics": dict},
    "sweep_finished": {"status": str},
}
"""What readers of an event rely on."""

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
        self._seen: set[tuple[Any, ...] | None] = set()
        for event in past:
            self._note(event)
        self._last_ms = max((event.at_ms for event in past), default=0)
        now_ms = time.time_ns() // 1_000_000
        self._clock_began_ms = max(now_ms, self._last_ms + 1) - _uptime_ms()
        self._file = path.open("a", encoding="utf-8")

    def append(self, type: str, trial_key: str | None = None, **data: Any) -> None:
        """Write one event now, unless it says again what was said before."""
        event = Event(
            at_ms=self._next_ms(),
            type=type,
            trial_key=trial_key,
            data=redact(to_plain(data)),
        )
        identity = _identity(event)
        if identity is None or identity not in self._seen:
            self._note(event)
            self._file.write(event.as_line())
            self._file.flush()
        for listener in self._listeners:
            listener(event)

    def _note(self, event: Event) -> None:
        """Take note of what has been said, and of what may be said again."""
        self._seen.add(_identity(event))
        if event.type == "trial_taken_back":
            self._seen.discard(("trial_finished", event.trial_key))

    def _next_ms(self) -> int:
        """Return the time, but later than any before: clocks are set back.

        From the journal's opening on it is counted by a clock that nobody sets, so that durations
        are true even where the dates are not.
        """
        self._last_ms = max(self._clock_began_ms + _uptime_ms(), self._last_ms + 1)
        return self._last_ms

    def close(self) -> None:
        """Sync and close the file."""
        self._file.flush()
        os.fsync(self._file.fileno())
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


def lost_beginning(folder: SweepFolder) -> dict[str, str]:
    """Return what a journal must say at its start to belong to the runs that MLflow has already.

    That is the ``sweep_id`` of tracking.json, which a journal whose first line is damaged, or that
    was deleted, does not give any more. Empty if nothing has been mirrored.
    """
    try:
        found = read_object(folder.position_of_mirror, what="position", remedy="")
    except InputError:
        return {}
    sweep_id = found.get("sweep_id")
    return {"sweep_id": sweep_id} if isinstance(sweep_id, str) and sweep_id else {}


def parse_event(content: bytes) -> Event | None:
    """Return the event of a journal's line; None if it is none."""
    return _event_of(json_line(1, content))[0]


def _event_of(line: Line) -> tuple[Event | None, str | None]:
    """Return a line's event, or what keeps it from being one."""
    if line.problem is not None:
        return None, line.problem
    try:
        event = Event.model_validate(line.value)
    except ValidationError as error:
        return None, explain_first(error)
    for name, kind in _REQUIRED.get(event.type, {}).items():
        if not isinstance(event.data.get(name), kind):
            return None, f"an event {event.type} without a valid {name}"
    return event, None


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


def _identity(event: Event) -> tuple[Any, ...] | None:
    if event.type == "epoch":
        return (event.type, event.trial_key, event.data["epoch"])
    if event.type in ONCE_PER_TRIAL:
        return (event.type, event.trial_key)
    if event.type == "dropped":
        return (event.type, event.data["family"], event.data["config_hash"])
    if event.type in ONCE_PER_SWEEP:
        return (event.type,)
    return None
