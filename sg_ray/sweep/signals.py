"""SIGTERM and SIGINT: work ends in order, and says by its exit code which signal ended it."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType


def stop_path(sweep_dir: Path) -> Path:
    """File whose existence tells trials, on every machine, to save their position and end."""
    return sweep_dir / ".stop"


@dataclass
class StopRequest:
    """Asked for by the first signal, for a step's end; the second ends the process at once.

    While ``raises`` is set, the first signal raises KeyboardInterrupt instead: there is no
    position to save.
    """

    number: int = signal.SIGINT
    is_asked: bool = False
    raises: bool = True
    file: Path | None = None
    """Made when a stop is asked for: see ``stop_path``."""

    @property
    def exit_code(self) -> int:
        """Exit code by the shells' convention: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.number

    def __call__(self) -> bool:
        """Return True once a signal has come."""
        return self.is_asked


@contextmanager
def stopping(request: StopRequest) -> Iterator[None]:
    """Let SIGINT and SIGTERM ask for a stop.

    Use it (again) after ``ray.init``, which installs a handler of its own. Off the main thread it
    does nothing: Python allows no handlers there.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        if request.is_asked:
            os._exit(128 + number)
        request.number, request.is_asked = number, True
        if request.raises:
            raise KeyboardInterrupt
        if request.file is not None:
            request.file.touch()
        print(
            "stopping, positions are saved; once more to stop at once", file=sys.stderr, flush=True
        )

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
