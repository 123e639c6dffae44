"""Whether an allocation is long enough for a sweep to get on in it."""

import re

from sg_ray.errors import InputError

START_S = 30
"""Until the first step: Python, Ray, data and features that are kept."""
_JOIN_S = 30
"""What several nodes take beyond that, until they know each other."""
EARLY_S = 60
"""So much earlier than asked for SLURM may send its warning, as its documentation says."""
_LEAST_S = 30
"""Of training that are worth a start."""
_LEAST_SHARE = 0.5
_QUEUED_AGAIN_S = 120
"""For which SLURM keeps a job that is queued again, beside what others have queued."""

_TIME = re.compile(
    r"(?:(?P<days>\d{1,4})-(?P<day_hours>\d{1,2})(?::(?P<day_minutes>\d{1,2}))?"
    r"|(?:(?P<hours>\d{1,5}):(?=\d{1,2}:))?(?P<minutes>\d{1,7}))"
    r"(?::(?P<seconds>\d{1,2}))?"
)
"""SLURM's: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S."""


def seconds_of(time_limit: str) -> int:
    """Return the seconds of a time as SLURM writes it. Raises InputError if it is none."""
    found = _TIME.fullmatch(time_limit)
    if found is None or (found["day_hours"] and found["seconds"] and not found["day_minutes"]):
        raise InputError(
            f"--time {time_limit}: no time as SLURM writes it. Give HOURS:MINUTES:SECONDS, such as "
            "04:00:00, minutes alone, or DAYS-HOURS."
        )
    number = {name: int(text or 0) for name, text in found.groupdict().items()}
    hours = 24 * number["days"] + number["day_hours"] + number["hours"]
    minutes = number["day_minutes"] + number["minutes"]
    return 3600 * hours + 60 * minutes + number["seconds"]


def check_time_limit(time_limit: str, signal_before_s: int, num_nodes: int) -> str | None:
    """Return a warning if most of each allocation is lost to its start and its end; else None.

    Raises InputError if nothing is left in between: the job would be queued again without end.
    """
    time_s = seconds_of(time_limit)
    start_s = START_S + (_JOIN_S if num_nodes > 1 else 0)
    lost_s = start_s + EARLY_S + signal_before_s
    told = (
        f"a start takes about {start_s} s, and the warning comes {signal_before_s} to "
        f"{signal_before_s + EARLY_S} s before the end"
    )
    if time_s < lost_s + _LEAST_S:
        raise InputError(
            f"--time {time_limit}: too short to get on in ({told}). Give at least "
            f"{_in_minutes(lost_s + _LEAST_S)}, or a smaller --signal-before (the seconds that it "
            "takes to save the positions of all trials)."
        )
    if time_s - lost_s < _LEAST_SHARE * time_s:
        return (
            f"--time {time_limit}: of each allocation {lost_s} s of {time_s} are lost: {told}. "
            f"SLURM then keeps the job waiting for about {_QUEUED_AGAIN_S} s. Longer allocations "
            "get on faster."
        )
    return None


def _in_minutes(seconds: int) -> str:
    """Return it as SLURM counts: in whole minutes."""
    return f"{-(-seconds // 60)} minutes"
