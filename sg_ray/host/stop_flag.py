"""How the process of a trial is told to stop: by message, or by a signal of its own."""

import os
import signal
import threading
import time
from functools import cache
from typing import Literal

from sg_ray.host.signals import SAME_SIGNAL_S, SIGNALS

StopReason = Literal["stop", "preempted"]
"""All stop; or the machine is to be taken away, and the trial goes on elsewhere."""

_POLL_S = 1.0
_LAST_S = 5.0
"""What an orphan gets to save its position."""


class StopFlag:
    """What a training asks after each of its steps; any thread may tell it."""

    def __init__(self) -> None:
        self._message: StopReason | None = None
        self._signalled_at_s: float | None = None

    def __call__(self) -> StopReason | None:
        """Return why to stop; None to go on."""
        return self._message if self._signalled_at_s is None else "stop"

    def tell(self, reason: StopReason) -> None:
        """Take a message. That all stop is the last word."""
        if self._message != "stop":
            self._message = reason

    def take_signal(self, number: int) -> None:
        """Have the work in progress stop; at the second signal, end the process."""
        now_s = time.monotonic()
        if self._signalled_at_s is None:
            self._signalled_at_s = now_s
        elif now_s - self._signalled_at_s > SAME_SIGNAL_S:
            os._exit(128 + number)

    def begin(self) -> None:
        """Begin other work: a signal was for what went on then, a message holds for all."""
        self._signalled_at_s = None


@cache
def flag_of_this_process() -> StopFlag:
    """Return the one that ``hear_signals`` has signals tell."""
    return StopFlag()


def hear_signals() -> None:
    """Have each of ``SIGNALS`` tell this process's flag from now on; a second one ends it.

    So does the end of the process that has started this one, and this one follows soon: Ray would
    let it go on to the end of its epoch.

    They are heard whatever the main thread does, on which this must be called. Ray's own processes
    do not hear them (see ``helper_thread``), and hand that down to what they start.
    """
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: None)  # what is done, the thread does
    threading.Thread(target=_relay, args=(read_end, flag_of_this_process()), daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(
        target=_follow, args=(os.getppid(), flag_of_this_process()), daemon=True
    ).start()


def _follow(parent: int, flag: StopFlag) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    flag.tell("stop")
    time.sleep(_LAST_S)
    os._exit(1)


def _relay(read_end: int, flag: StopFlag) -> None:
    while number := os.read(read_end, 1):
        if number[0] in SIGNALS:
            flag.take_signal(number[0])
