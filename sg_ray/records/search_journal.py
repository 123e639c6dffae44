"""Optuna's journal of a search before Optuna reads it: what is damaged is mended, or named.

Optuna counts trials by the lines that made them. One that is lost or there twice would shift all
later lines to other trials, so nothing is passed over here: blank and doubled lines, which hold
nothing new, are taken out, and for anything else the file is refused.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sg_ray.errors import InputError
from sg_ray.files import atomic_path, drop_torn_line
from sg_ray.reading import Line, json_lines
from sg_ray.sweep_folder import SweepFolder

_LOGGER = logging.getLogger(__name__)

_CREATE_TRIAL = 4
_NUM_OPERATIONS = 10
"""Operations of Optuna's journal are numbered from 0."""
_REMEDY = (
    "Restore it from a copy, or delete it: the search then asks for its points anew, and those "
    "that are on record are not trained again."
)


def release_journals(folder: SweepFolder) -> None:
    """Delete Optuna's locks of a sweep's journals, which a driver that was killed has left.

    Whoever calls this holds the sweep's own lock, so nobody holds them.
    """
    for lock in folder.search_locks:
        lock.unlink(missing_ok=True)


def mend_search_journal(path: Path, first_points: Sequence[Any]) -> None:
    """Take blank and doubled lines out of a search's journal, with a warning.

    ``first_points`` are the values of the points that the search began with, in order: only of
    those may equal lines follow each other. Raises InputError that names the first line that is
    damaged.
    """
    if not path.exists():
        return
    lines = read_search_journal(path)
    if not lines:
        _LOGGER.warning("%s is empty: the search asks for its points anew", path)
    if not path.read_bytes().endswith(b"\n"):
        _LOGGER.warning("%s: the last line was cut off, and is dropped", path)
    kept = _without_doubles(lines, first_points)
    dropped = sorted({line.number for line in lines} - {line.number for line in kept})
    drop_torn_line(path)
    if dropped:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"".join(line.content for line in kept))
        shown = ", ".join(map(str, dropped))
        _LOGGER.warning("%s: blank or doubled lines were taken out: %s", path, shown)


def read_search_journal(path: Path) -> list[Line]:
    """Return the journal's lines, blank ones among them, without a last one that was cut off.

    Raises InputError that names the first line that is no operation of Optuna's.
    """
    lines = [line for line in json_lines(path) if line.is_whole]
    for line in lines:
        problem = None if _is_blank(line) else _problem_of(line)
        if problem is not None:
            raise unreadable(path, f"line {line.number}: {problem}")
    return lines


def unreadable(path: Path, reason: str) -> InputError:
    """Return the error for a journal that cannot be used."""
    return InputError(f"{path}: not a valid journal of a search ({reason}). {_REMEDY}")


def _is_blank(line: Line) -> bool:
    return not line.content.strip()


def _problem_of(line: Line) -> str | None:
    if line.problem is not None:
        return line.problem
    operation = line.value.get("op_code")
    if operation not in range(_NUM_OPERATIONS) or "worker_id" not in line.value:
        return "no operation of Optuna's"
    return None


def _without_doubles(lines: Iterable[Line], first_points: Sequence[Any]) -> list[Line]:
    kept: list[Line] = []
    for line in lines:
        if _is_blank(line):
            continue
        is_equal = bool(kept) and kept[-1].content == line.content
        if not (is_equal and not _is_a_second_point(line, kept, first_points)):
            kept.append(line)
    return kept


def _is_a_second_point(line: Line, before: Sequence[Line], first_points: Sequence[Any]) -> bool:
    """Return True if ``line`` makes one of the first points, whose values equal those before."""
    made = [_values_made(other) for other in (*before, line)]
    asked = [json.loads(json.dumps(values)) for values in first_points]
    return _values_made(line) is not None and [v for v in made if v is not None] in (
        asked[:count] for count in range(1, len(asked) + 1)
    )


def _values_made(line: Line) -> Any:
    """Return the values of a point that this line puts in the queue; None if it does not."""
    if line.value["op_code"] != _CREATE_TRIAL:
        return None
    return line.value.get("system_attrs", {}).get("fixed_params")
