"""What the text tables share: columns, flat names, and which metrics do not belong in them."""

from collections.abc import Mapping, Sequence
from typing import Any

_MACHINE_UNITS = ("_s", "_ms", "_mb")
"""Ends of the names of metrics in seconds, per second, or megabytes."""


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as text, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def is_of_machine(metric: str) -> bool:
    """Whether a metric tells of the machine (time, speed, memory) and not of the model."""
    return metric.endswith(_MACHINE_UNITS)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one mapping, names joined by dots."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
