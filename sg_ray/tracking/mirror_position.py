"""How far a sweep's journal has been mirrored, and what it holds from there on.

A place in the journal is told in bytes from its beginning.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sg_ray.records.events import Event
from sg_ray.records.journal import parse_event


class Position(BaseModel):
    """Content of ``tracking.json``: how far which journal has been mirrored to where."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    store: str = ""
    """Hash of the store's URI, without its credentials."""
    experiment: str = ""
    sweep_id: str = ""
    offset: int = Field(default=0, ge=0)
    """Bytes of the journal that have been mirrored."""
    run_ids: Mapping[str, str] = Field(default_factory=dict)
    """MLflow run by trial key; the sweep's own under the empty key."""
    unsent: tuple[int, ...] = ()
    """Where in the journal the events begin whose files are not stored yet."""


def read_position(path: Path) -> Position:
    """Read ``tracking.json``; of a file that is missing or damaged, the journal's beginning."""
    try:
        return Position.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return Position()


def events_from(journal: Path, offset: int, limit: int) -> tuple[list[tuple[int, Event]], int]:
    """Return at most ``limit`` whole events from byte ``offset``, and the offset after them.

    Each comes with the offset at which it begins. What is no event is passed over; whoever opens
    the journal tells of it.
    """
    events: list[tuple[int, Event]] = []
    for line in _whole_lines(journal, offset):
        if len(events) == limit:
            break
        if (event := parse_event(line)) is not None:
            events.append((offset, event))
        offset += len(line)
    return events, offset


def begins_a_line(journal: Path, offset: int) -> bool:
    """Whether a line may begin there: not so if the journal was mended by hand, or is another."""
    if offset == 0:
        return True
    with journal.open("rb") as file:
        file.seek(offset - 1)
        return file.read(1) == b"\n"


def count_events(journal: Path, offset: int) -> int:
    """Return how many whole events follow byte ``offset``."""
    return sum(parse_event(line) is not None for line in _whole_lines(journal, offset))


def _whole_lines(journal: Path, offset: int) -> Iterator[bytes]:
    if not journal.exists():
        return
    with journal.open("rb") as file:
        file.seek(offset)
        for line in file:
            if line.endswith(b"\n"):
                yield line
