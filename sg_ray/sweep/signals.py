"""SIGTERM ends a sweep the way Ctrl-C does: bookkeeping done, a resume goes on."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Received:
    """The signal that ended the work; SIGINT until another came."""

    number: int = signal.SIGINT

    @property
    def exit_code(self) -> int:
        """Exit code by the shells' convention: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.number


@contextmanager
def sigterm_as_sigint() -> Iterator[Received]:
    """Turn SIGTERM into SIGINT, which Tune and Python know how to end on.

    Use it after ``ray.init``, which installs a handler of its own. Off the main thread it does
    nothing: Python allows no handlers there.
    """
    received = Received()
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        received.number = number
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)
