"""When a training saves its position in the middle of an epoch, and how long that takes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Saving:
    """What is saved beside the position at the end of each epoch. Positions change no numbers."""

    every_s: float | None = None
    """In the middle of an epoch, the position is saved once so much time has gone by; None: not."""
    check: Callable[[], None] = _nothing
    """Called before anything is written; it raises if somebody else works in the folder by now."""
    put_away: Callable[[], object] = _nothing
    """Called once a position in the middle of an epoch, by time or at a stop, is in the folder: to
    take it where it outlives the machine."""


AT_EPOCHS = Saving()
"""At the end of each epoch and at a stop, in a folder that nobody else works in."""


@dataclass
class Pace:
    """How fast a training hears and saves, as measured."""

    longest_gap_s: float = 0.0
    """The longest time between two steps' ends, be there a validation between them or not."""
    save_s: float = 0.0
    """What it took at most to save a position."""
    _asked_at_s: float | None = None
    _saved_at_s: float = field(default_factory=time.monotonic)

    def asked(self) -> None:
        """Take note that the training asks whether to go on."""
        now_s = time.monotonic()
        if self._asked_at_s is not None:
            self.longest_gap_s = max(self.longest_gap_s, now_s - self._asked_at_s)
        self._asked_at_s = now_s

    def is_due(self, every_s: float | None) -> bool:
        """Return whether the last position is older than ``every_s``; None: never."""
        return every_s is not None and time.monotonic() - self._saved_at_s >= every_s

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Measure how long the position takes that is saved in this block."""
        began_s = time.monotonic()
        yield
        self._saved_at_s = time.monotonic()
        self.save_s = max(self.save_s, self._saved_at_s - began_s)
