"""How long a stop waits for running trials to save their positions, and which of them have."""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sg_ray.files import files_below
from sg_ray.jobs.job import AnyJob
from sg_ray.jobs.positions import saved_positions
from sg_ray.sweep_folder import LAST, SweepFolder

FLOOR_S = 30.0
"""What trials get that have not saved yet, so that nobody knows how long it takes."""
_GROWTH_S = 10.0
"""So long a position that was seen to grow is waited for."""
_LOOK_S = 1.0

Place = Callable[[AnyJob], Path]
"""Where a job's position lies, as the driver sees it."""


def places_of(folder: SweepFolder, attempt: Path) -> Place:
    """Return where the jobs of a start have their positions."""

    def place(job: AnyJob) -> Path:
        if job.resources.is_group:
            return folder.group(job.spec.trial_key)
        return attempt / job.name

    return place


class Grace:
    """The time from a stop to the end of those who have not saved their position by then."""

    def __init__(self, given_s: float | None, place: Place) -> None:
        """``given_s`` None is what saves and steps took, as ``learn`` hears."""
        self._given_s, self._place = given_s, place
        self._longest_gap_s = self._save_s = 0.0
        self._ends_at_s = self._looked_at_s = 0.0
        self._before: dict[str, str | int | None] = {}
        self._sizes: dict[str, int] = {}

    @property
    def length_s(self) -> float:
        """How long it is, unless positions grow."""
        if self._given_s is not None:
            return self._given_s
        return max(FLOOR_S, 2 * self._longest_gap_s + 3 * self._save_s)

    def learn(self, result: Mapping[str, Any]) -> None:
        """Take note of how long an epoch's steps, and saves of its positions, took."""
        self._longest_gap_s = max(self._longest_gap_s, result.get("longest_gap_s", 0.0))
        self._save_s = max(self._save_s, result.get("save_s", 0.0))

    def begin(self, jobs: Iterable[AnyJob]) -> None:
        """Begin to wait for these jobs."""
        self._before = {job.name: self._newest(job) for job in jobs}
        self._ends_at_s = time.monotonic() + self.length_s

    def is_over(self, jobs: Iterable[AnyJob]) -> bool:
        """Return whether to wait no longer for these jobs, which are those still running."""
        now_s = time.monotonic()
        if now_s - self._looked_at_s >= _LOOK_S:
            self._looked_at_s = now_s
            sizes = {job.name: _size(self._place(job)) for job in jobs}
            if any(size != self._sizes.get(name, size) for name, size in sizes.items()):
                self._ends_at_s = max(self._ends_at_s, now_s + _GROWTH_S)
            self._sizes = sizes
        return now_s > self._ends_at_s

    def has_saved(self, job: AnyJob) -> bool:
        """Return whether a job's position has come to the disk since the stop."""
        return self._newest(job) != self._before.get(job.name)

    def _newest(self, job: AnyJob) -> str | int | None:
        """Return what is another once the job has saved another position."""
        place = self._place(job)
        if not job.resources.is_group:
            return next((path.name for path in reversed(saved_positions(place))), None)
        last = place / LAST
        return last.stat().st_mtime_ns if last.exists() else None


def _size(folder: Path) -> int:
    """Return the bytes of all that lies in a folder, also while it changes."""
    total = 0
    for path in files_below(folder):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total
