"""The processes of one start of a sweep: found, hit, and looked for afterwards."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import psutil

MARKER = "SG_RAY_CHAOS"
"""Environment variable that every process of a start inherits; its value names the start."""

Victim = Literal["driver", "worker", "raylet", "group", "tree", "memory"]
"""``group`` is the driver's process group, as Ctrl-C in a terminal hits it; ``tree`` is all that
was started, as SLURM does at its limit; ``memory`` is the worker, by Ray's memory monitor."""
_POLL_S = 0.05


@dataclass
class Start:
    """A running driver and all that it has started, remembered also after its parent's death."""

    driver: psutil.Popen
    marker: str
    seen: set[psutil.Process] = field(default_factory=set)

    def look(self) -> set[psutil.Process]:
        """Return the processes of this start that run now, and remember them."""
        self.seen |= {process for process in psutil.process_iter() if self._owns(process)}
        self.seen |= set(_below(self.driver.pid))
        return {process for process in self.seen if _runs(process)}

    def victims(self, victim: Victim) -> list[psutil.Process]:
        """Return the processes that ``victim`` means; none if there is none now."""
        if victim == "driver":
            return [process for process in self.look() if process.pid == self.driver.pid]
        return [process for process in self.look() if _is(process, victim)]

    def hit(self, victim: Victim, number: signal.Signals) -> bool:
        """Send the signal; False if there is nobody (any more) to get it."""
        if victim == "group":
            return self._hit_group(number)
        processes = list(self.look()) if victim == "tree" else self.victims(victim)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return bool(processes)

    def wait_until_gone(self, patience_s: float) -> set[psutil.Process]:
        """Wait until nothing of this start runs; return what still does after ``patience_s``."""
        deadline = time.monotonic() + patience_s
        while (left := self.look()) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return left

    def _hit_group(self, number: signal.Signals) -> bool:
        """Do as Ctrl-C in a terminal does; SIGKILL is a power cut for all."""
        everything = self.look()
        try:
            os.killpg(self.driver.pid, number)
        except ProcessLookupError:
            return False
        if number == signal.SIGKILL:
            for process in everything:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        return True

    def _owns(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARKER) == self.marker
        except psutil.Error:
            return False


def _below(pid: int) -> Iterator[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        yield from psutil.Process(pid).children(recursive=True)


def _is(process: psutil.Process, victim: Victim) -> bool:
    try:
        if victim == "raylet":
            return process.name() == "raylet"
        return process.cmdline()[:1] != [] and process.cmdline()[0].startswith(
            "ray::ResourceTrainable"  # what Tune makes of TrialActor
        )
    except psutil.Error:
        return False


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
