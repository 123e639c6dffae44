"""Memory that runs short, for real: Ray's monitor is set a little above what is in use, and met.

The machine itself is never short: what is taken stays far from what it has.
"""

import time
from collections.abc import Callable

import psutil

MARGIN_MB = 2_500
"""From what is in use to the limit: more than a driver, Ray and a worker take by themselves."""
_STEP_MB = 64
_LEFT_TO_OTHERS_MB = 3_000
_PATIENCE_S = 30.0
_POLL_S = 0.02
_MB = 2**20


def strict_memory_monitor() -> dict[str, str]:
    """Return the environment of a Ray that ends workers a little above what is in use now."""
    memory = psutil.virtual_memory()
    in_use = memory.total - memory.available + MARGIN_MB * _MB
    return {
        "RAY_memory_usage_threshold": f"{in_use / memory.total:.3f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }


def fill_memory(is_enough: Callable[[], bool]) -> None:
    """Take memory until ``is_enough`` says so, or for half a minute, then give it back."""
    taken: list[bytearray] = []
    deadline = time.monotonic() + _PATIENCE_S
    while not is_enough() and time.monotonic() < deadline:
        if psutil.virtual_memory().available > _LEFT_TO_OTHERS_MB * _MB:
            taken.append(bytearray(b"x") * (_STEP_MB * _MB))
        time.sleep(_POLL_S)
