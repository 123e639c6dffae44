"""Scales: from values to positions, with round ticks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sg_ray.statistics.own_metrics import OWN_METRICS

MAX_TICKS = 5
UNBOUNDED = (-math.inf, math.inf)
LEAST_SPAN = 0.02
"""A score's axis spans at least so much, or noise would look dramatic."""


@dataclass(frozen=True)
class Scale:
    """Maps ``low`` .. ``high`` to ``start`` .. ``end`` of the drawing."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False
    min_step: float = 0.0
    """Least distance of two ticks: 1 for counts."""

    def __call__(self, value: float) -> float:
        """Return where ``value`` lies, held within the drawing."""
        low, high, held = self.low, self.high, min(max(value, self.low), self.high)
        if self.is_log:
            low, high, held = math.log10(low), math.log10(high), math.log10(held)
        return self.start + (held - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return round values on the scale."""
        if self.is_log:
            return _decades(self.low, self.high)
        return _round_values(self.low, self.high, self.min_step)


def scale(
    values: Iterable[float],
    start: float,
    end: float,
    *,
    is_log: bool = False,
    pad: float = 0.06,
    least_span: float = 0.0,
    bounds: tuple[float, float] = UNBOUNDED,
) -> Scale:
    """Return the scale that shows all ``values``, with a little room at both ends.

    It spans at least ``least_span``; what that adds stays within ``bounds``.
    """
    shown = [value for value in values if math.isfinite(value) and (value > 0 or not is_log)]
    low, high = (min(shown), max(shown)) if shown else (1.0, 2.0)
    if is_log:
        return Scale(low, high if high > low else low * 10, start, end, is_log=True)
    low, high = _widened(low, high, least_span, bounds)
    if high - low < 1e-9:
        low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
    room = pad * (high - low)
    return Scale(low - room, high + room, start, end)


def metric_scale(
    metric: str, values: Iterable[float], start: float, end: float, pad: float = 0.06
) -> Scale:
    """Return the scale of a metric: never so narrow that noise fills it."""
    bounds = UNBOUNDED if _is_own(metric) else _bounds(metric)
    return scale(values, start, end, pad=pad, least_span=LEAST_SPAN, bounds=bounds)


def _is_own(metric: str) -> bool:
    return OWN_METRICS.direction(metric.removeprefix("val_").removeprefix("test_")) is not None


def _bounds(metric: str) -> tuple[float, float]:
    return (0.0, math.inf) if metric.endswith("loss") else (-math.inf, 1.0)


def tick_text(value: float) -> str:
    """Return a short form of a tick's value."""
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e5):
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.4g}"


def _widened(
    low: float, high: float, span: float, bounds: tuple[float, float]
) -> tuple[float, float]:
    """Widen an interval to both sides alike, or to one where the other side is out of bounds."""
    missing = max(0.0, span - (high - low))
    below = min(missing, max(missing / 2, high + missing - bounds[1]))
    below = min(below, max(0.0, low - bounds[0]))
    return low - below, high + missing - below


def _round_values(low: float, high: float, min_step: float) -> list[float]:
    """Return multiples of 1, 2 or 5 x 10^k between two values, at most MAX_TICKS + 1."""
    raw = max((high - low) / MAX_TICKS, min_step)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Return powers of ten or, on a short scale, 1, 2 and 5 times these; at least both ends."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first >= 2:
        every = max(1, math.ceil((last - first + 1) / (MAX_TICKS + 2)))
        return [10.0**power for power in range(first, last + 1, every)]
    fine = [factor * 10.0**power for power in range(first - 1, last + 1) for factor in (1, 2, 5)]
    within = [value for value in fine if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    return within if len(within) > 1 else [low, high]
