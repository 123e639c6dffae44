"""Calls that may spend minutes inside a library, made so that a signal is heard meanwhile.

Python runs signal handlers on the main thread, between two of its steps. While that thread is
inside a library, Ctrl-C waits for it.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Set
from concurrent.futures import Future, wait
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeVar

_TURN_S = 0.05
_WARNINGS = frozenset({signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})

T = TypeVar("T")


class HelperThread:
    """A thread that makes calls for another one, which waits and hears signals.

    Ctrl-C and a batch system's warnings go to a whole group of processes: what a call starts does
    not hear them and is left to us. It may live no longer than this thread: Ray's processes ask
    Linux to end them with the thread that started them.

    ``leaves`` are the signals it does not hear, nor what it starts, whatever that does about them:
    a blocked signal stays blocked in another program.
    """

    def __init__(self, leaves: Set[signal.Signals] = _WARNINGS) -> None:
        self._leaves = leaves
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def call(self, function: Callable[[], T]) -> T:
        """Return what the function returns, or raise what it raises.

        If the waiting thread is interrupted, the call goes on alone: the process is about to end.
        """
        return wait_for(self.begin(function))

    def finish(self, function: Callable[[], T]) -> T:
        """As ``call``, but an interruption waits until the call is over."""
        outcome = self.begin(function)
        try:
            return wait_for(outcome)
        except KeyboardInterrupt:
            outcome.exception()
            raise

    def begin(self, function: Callable[[], T]) -> "Future[T]":
        """Have the call made, and return at once: ``wait_for`` waits for what comes of it."""
        outcome: Future[T] = Future()
        self._calls.put(lambda: _settle(outcome, function))
        return outcome

    def close(self) -> None:
        """Let the thread end once it has made the calls asked for."""
        self._calls.put(None)

    def _work(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, self._leaves)
        while (call := self._calls.get()) is not None:
            call()


@contextmanager
def helper_thread(leaves: Set[signal.Signals] = _WARNINGS) -> Iterator[HelperThread]:
    """Yield a thread that makes calls, and let it end afterwards; ``leaves`` as of the class."""
    helper = HelperThread(leaves)
    try:
        yield helper
    finally:
        helper.close()


def hearing_signals(function: Callable[[], T]) -> T:
    """Return what a function returns that may spend minutes inside a library."""
    with helper_thread() as helper:
        return helper.call(function)


def wait_for(outcome: "Future[T]") -> T:
    """Wait in short turns: a signal that another thread was given is handled between two."""
    while not wait([outcome], timeout=_TURN_S).done:
        pass
    return outcome.result()


def _settle(outcome: Future[T], function: Callable[[], T]) -> None:
    try:
        outcome.set_result(function())
    except BaseException as error:
        outcome.set_exception(error)
