"""SIGTERM and SIGINT: work ends in order, and says by its exit code which signal ended it."""

import os
import signal
import sys
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

    def handle(number: int, _frame: FrameType | None) -> None:
        received.number = number
        os.kill(os.getpid(), signal.SIGINT)

    with _handled(handle, signal.SIGTERM):
        yield received


@dataclass
class StopRequest(Received):
    """Asked for by the first signal, at a step's end; the second ends the process at once.

    While ``raises`` is set, the first signal raises KeyboardInterrupt instead: there is no
    position to save.
    """

    is_asked: bool = False
    raises: bool = True

    def __call__(self) -> bool:
        """Return True once a signal has come."""
        return self.is_asked


@contextmanager
def stopping(request: StopRequest) -> Iterator[None]:
    """Let SIGINT and SIGTERM ask for a stop. Use it after ``ray.init``, as above."""

    def handle(number: int, _frame: FrameType | None) -> None:
        if request.is_asked:
            os._exit(128 + number)
        request.number, request.is_asked = number, True
        if request.raises:
            raise KeyboardInterrupt
        print("stopping after this step; once more to stop at once", file=sys.stderr, flush=True)

    with _handled(handle, signal.SIGINT, signal.SIGTERM):
        yield


@contextmanager
def _handled(handler: "signal._HANDLER", *numbers: int) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
