"""Signals that end work in order: Ctrl-C, a batch system's end and its warnings before it.

The exit code says which signal it was.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

_STDERR = 2
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""USR1 and USR2 are what SLURM and other batch systems warn with, some time before the end.

HUP says that the terminal has gone; ``nohup`` has it ignored, and so it stays.
"""

SAME_SIGNAL_S = 1.0
"""Signals that come together count as one: a batch system sends its own to all processes, and a
script that hears it passes it on."""


@dataclass
class StopRequest:
    """Asked for by the first signal, for a step's end; the second ends the process at once.

    While ``raises`` is set, the first signal raises KeyboardInterrupt instead: there is no
    position to save.
    """

    number: int = signal.SIGINT
    is_asked: bool = False
    raises: bool = True
    on_step: Callable[[], None] = lambda: None
    """Called whenever the work asks whether to go on: here, that is after each of its steps."""
    at_once: Callable[[], None] = lambda: None
    """Called before the second signal ends the process: what it has started does not outlive it."""
    _asked_at_s: float = 0.0

    @property
    def exit_code(self) -> int:
        """Exit code by the shells' convention: 130 for SIGINT, 138 for SIGUSR1, 143 for SIGTERM."""
        return 128 + self.number

    def __call__(self) -> bool:
        """Return True once a signal has come."""
        self.on_step()
        return self.is_asked

    def hear(self) -> None:
        """Take the signals (again): libraries install handlers of their own.

        Off the main thread it does nothing: Python allows no handlers there.
        """
        if _is_main_thread():
            for number in SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        now_s = time.monotonic()
        if self.is_asked and now_s - self._asked_at_s > SAME_SIGNAL_S:
            with suppress(Exception):
                self.at_once()
            os._exit(128 + number)
        if self.is_asked:
            return
        self.number, self.is_asked, self._asked_at_s = number, True, now_s
        what = "" if self.raises else ": what runs saves its position"
        with suppress(OSError):  # written past Python's stream, which may be in use right now
            os.write(_STDERR, f"stopping{what}; once more to stop at once\n".encode())
        if self.raises:
            raise KeyboardInterrupt


@contextmanager
def stopping(request: StopRequest) -> Iterator[None]:
    """Let each of ``SIGNALS`` ask for a stop until the block's end."""
    if not _is_main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    request.hear()
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
