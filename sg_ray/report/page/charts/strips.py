"""Rows of dots and intervals over one common scale, as wide as the page lets them be."""

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from sg_ray.report.page.charts.scales import Scale, metric_scale, scale, tick_text
from sg_ray.report.page.charts.svg import element, percent, picture, title

MARGIN_PERCENT = 4.0
_MIDDLE_PX = 13


@dataclass(frozen=True)
class Dot:
    """One seed's value; ``is_fresh`` unless the seed had a part in the choice."""

    seed: int
    value: float
    is_fresh: bool = True


@dataclass(frozen=True)
class Range:
    """An interval with its middle, None where there is none."""

    low: float
    high: float
    middle: float | None = None


def strip(
    dots: Iterable[Dot],
    positions: Scale,
    *,
    mean: float | None,
    interval: Range | None = None,
    floor: float | None = None,
) -> Markup:
    """Draw a dot per seed, a bar at the mean, its interval, and a dashed line at the floor."""
    shown = list(dots)
    parts = [_base_line()]
    if floor is not None:
        parts.append(_upright("floor-line", positions(floor), 0, 26, f"floor {floor:.4f}"))
    if interval is not None:
        parts.append(_band(interval, positions))
    if mean is not None:
        parts.append(_upright("mean", positions(mean), 3, 23, f"mean {mean:.4f}"))
    parts += [_dot(dot, positions) for dot in shown]
    return picture(_spoken(shown, interval), *parts, class_="strip")


def forest_row(interval: Range | None, middle: float | None, positions: Scale) -> Markup:
    """Draw a difference with its interval beside the line of no difference."""
    parts = [_base_line(), _upright("zero", positions(0.0), 0, 26, "no difference")]
    if interval is not None:
        low, high = positions(interval.low), positions(interval.high)
        spoken = f"{interval.low:+.4f} to {interval.high:+.4f}"
        parts.append(_horizontal("interval", low, high, spoken))
        parts += [_upright("interval", end, 8, 18, spoken) for end in (low, high)]
    if middle is not None:
        x = percent(positions(middle))
        parts.append(
            element("circle", title(f"{middle:+.4f}"), cx=x, cy=_MIDDLE_PX, r=5, class_="middle")
        )
    return picture(_spoken_difference(middle, interval), *parts, class_="strip forest")


def strip_axis(positions: Scale) -> Markup:
    """Draw the scale below a column of strips."""
    ticks = [
        element("text", tick_text(v), x=percent(positions(v)), y=12, text_anchor="middle")
        for v in positions.ticks()
    ]
    return element("svg", *ticks, class_="strip-axis", aria_hidden="true")


def strip_scale(metric: str, values: Iterable[float]) -> Scale:
    """Return the common scale of a column of strips, in percent of their width."""
    return metric_scale(metric, values, MARGIN_PERCENT, 100 - MARGIN_PERCENT)


def difference_scale(values: Iterable[float], least: float) -> Scale:
    """Return the common scale of differences: it shows zero and at least -least .. least."""
    return scale([*values, -least, least], MARGIN_PERCENT, 100 - MARGIN_PERCENT)


def _spoken(dots: list[Dot], interval: Range | None) -> str:
    seeds = (
        f"seed {dot.seed}{'' if dot.is_fresh else ' (of the search)'}: {dot.value:.4f}"
        for dot in dots
    )
    text = ", ".join(seeds) or "no seed"
    return text if interval is None else f"{text}; interval {interval.low:.4f}-{interval.high:.4f}"


def _spoken_difference(middle: float | None, interval: Range | None) -> str:
    if middle is None:
        return "difference not known"
    if interval is None:
        return f"difference {middle:+.4f}, no interval"
    return f"difference {middle:+.4f}, interval {interval.low:+.4f} to {interval.high:+.4f}"


def _base_line() -> Markup:
    return element("line", class_="axis", x1=0, x2="100%", y1=_MIDDLE_PX, y2=_MIDDLE_PX)


def _dot(dot: Dot, positions: Scale) -> Markup:
    words = f"seed {dot.seed}: {dot.value:.4f}{'' if dot.is_fresh else ', of the search'}"
    style = "fresh" if dot.is_fresh else "searched"
    x = percent(positions(dot.value))
    return element("circle", title(words), class_=style, cx=x, cy=_MIDDLE_PX, r=4.5)


def _band(interval: Range, positions: Scale) -> Markup:
    low, high = positions(interval.low), positions(interval.high)
    words = f"interval {interval.low:.4f} to {interval.high:.4f}"
    width = percent(max(high - low, 0.3))
    box = {"x": percent(low), "y": 6, "width": width, "height": 14, "rx": 2}
    return element("rect", title(words), class_="band", **box)


def _horizontal(style: str, low: float, high: float, words: str) -> Markup:
    ends = {"x1": percent(low), "x2": percent(high), "y1": _MIDDLE_PX, "y2": _MIDDLE_PX}
    return element("line", title(words), class_=style, **ends)


def _upright(style: str, x_percent: float, top: int, bottom: int, words: str) -> Markup:
    x = percent(x_percent)
    return element("line", title(words), class_=style, x1=x, x2=x, y1=top, y2=bottom)
