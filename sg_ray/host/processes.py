"""Processes that this one has started, directly or not."""

import time
from collections.abc import Callable, Iterable, Set
from contextlib import suppress

import psutil

_POLL_S = 0.05
_KILLED_S = 5.0


def descendants(beside: Set[psutil.Process] = frozenset()) -> frozenset[psutil.Process]:
    """Return the running processes below this one, but ``beside`` and what those have started.

    Empty where the system does not list its processes.
    """
    try:
        below = psutil.Process().children(recursive=True)  # parents before their children
    except (psutil.Error, OSError):
        return frozenset()
    left_out: set[int] = set()
    found: set[psutil.Process] = set()
    for process in below:
        with suppress(psutil.Error):
            if process in beside or process.ppid() in left_out:
                left_out.add(process.pid)
            elif is_alive(process):
                found.add(process)
    return frozenset(found)


def trees(pids: Iterable[int]) -> frozenset[psutil.Process]:
    """Return the running processes of these ids, and all that they have started."""
    found: set[psutil.Process] = set()
    for pid in pids:
        with suppress(psutil.Error, OSError):
            root = psutil.Process(pid)
            found.update([root, *root.children(recursive=True)])
    return frozenset(found)


def ender() -> Callable[[], None]:
    """Return what ends, at once, all that is started below this process from now on."""
    beside = descendants()
    return lambda: end(descendants(beside), patience_s=0)


def is_alive(process: psutil.Process) -> bool:
    """Return True until it has ended; one that waits to be collected by its parent has.

    Unless some of its threads go on: they still hold its files. A later process of the same id is
    another one.
    """
    try:
        has_ended = process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
        return bool(process.is_running() and not has_ended)
    except psutil.Error:
        return False


def end(processes: Set[psutil.Process], patience_s: float) -> None:
    """Wait until ``processes``, which are this one's own, have ended; then kill those that stay.

    Those that are killed are gone afterwards, unless the system keeps them (a disk that hangs).
    They are watched, not collected as ``psutil.wait_procs`` would: who started one waits for its
    exit status itself.
    """
    if _are_gone(processes, patience_s):
        return
    for process in processes:
        if is_alive(process):
            with suppress(psutil.NoSuchProcess):
                process.kill()
    _are_gone(processes, _KILLED_S)


def _are_gone(processes: Set[psutil.Process], patience_s: float) -> bool:
    """Wait until these have ended; return whether they have in time."""
    deadline = time.monotonic() + patience_s
    while any(is_alive(process) for process in processes):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True
