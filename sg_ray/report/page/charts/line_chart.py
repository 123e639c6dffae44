"""Lines and dots over common axes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from markupsafe import Markup

from sg_ray.report.page.charts.scales import UNBOUNDED, Scale, metric_scale, scale, tick_text
from sg_ray.report.page.charts.svg import element, picture, title

WIDTH, HEIGHT = 340, 220
LEFT, RIGHT, TOP, BOTTOM = 54, 8, 10, 36

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """Points of a chart, (x, y); ``style`` names classes of the page's style sheet."""

    name: str
    points: Sequence[Point]
    style: str
    shape: Literal["line", "dots"] = "line"
    ends_with_cross: bool = False
    """Whether the last point is where something was given up."""


@dataclass(frozen=True)
class Axis:
    """One axis of a chart. ``metric`` or ``least_span`` keep it from being too narrow."""

    label: str
    kind: Literal["plain", "count", "log"] = "plain"
    metric: str | None = None
    least_span: float = 0.0
    bounds: tuple[float, float] = UNBOUNDED
    limit: float = math.inf
    """Values above it are drawn at the edge."""

    def scale(self, values: Sequence[float], start: float, end: float, pad: float) -> Scale:
        """Return the scale of the axis that shows all ``values``."""
        shown = [min(value, self.limit) for value in values]
        if self.metric is not None:
            return metric_scale(self.metric, shown, start, end, pad)
        found = scale(
            shown,
            start,
            end,
            is_log=self.kind == "log",
            pad=pad,
            least_span=self.least_span,
            bounds=self.bounds,
        )
        return replace(found, min_step=1.0) if self.kind == "count" else found


def line_chart(
    series: Sequence[Series], *, label: str, x: Axis, y: Axis, marked_x: float | None = None
) -> Markup:
    """Draw series over common axes. ``label`` is read out in place of the picture.

    ``marked_x`` gets a vertical line.
    """
    points = [point for one in series for point in one.points]
    extra = [] if marked_x is None else [marked_x]
    x_scale = x.scale([*(a for a, _ in points), *extra], LEFT + 4, WIDTH - RIGHT - 4, pad=0)
    y_scale = y.scale([b for _, b in points], HEIGHT - BOTTOM, TOP, pad=0.06)
    parts = [
        *_axes(x_scale, y_scale, x.label, y.label),
        *([] if marked_x is None else [_vertical(x_scale(marked_x))]),
        *(_series(one, x_scale, y_scale) for one in series),
    ]
    return picture(label, *parts, class_="chart", viewBox=f"0 0 {WIDTH} {HEIGHT}")


def _series(one: Series, x_scale: Scale, y_scale: Scale) -> Markup:
    places = [(x_scale(x), y_scale(y)) for x, y in one.points]
    parts = list(_marks(one, places))
    if one.ends_with_cross and places:
        parts.append(_cross(*places[-1]))
    return element("g", title(one.name), *parts, class_=one.style)


def _marks(one: Series, places: Sequence[Point]) -> Iterator[Markup]:
    if one.shape == "line" and len(places) > 1:
        yield element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places))
        return
    for x, y in places:
        yield element("circle", cx=x, cy=y, r=3.5)


def _cross(x: float, y: float) -> Markup:
    return element("path", d=f"M{x - 4:.1f},{y - 4:.1f}l8,8m0,-8l-8,8", class_="cross")


def _axes(x_scale: Scale, y_scale: Scale, x_label: str, y_label: str) -> Iterator[Markup]:
    bottom = HEIGHT - BOTTOM
    for tick in y_scale.ticks():
        y = y_scale(tick)
        yield element("line", class_="grid-line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y)
        yield element("text", tick_text(tick), x=LEFT - 5, y=y + 4, text_anchor="end")
    for tick in x_scale.ticks():
        place = x_scale(tick)
        yield element("text", tick_text(tick), x=place, y=bottom + 14, text_anchor="middle")
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield element("text", x_label, x=middle, y=HEIGHT - 4, text_anchor="middle")
    y = (TOP + bottom) / 2
    turn = f"rotate(-90 11 {y:g})"
    yield element("text", y_label, x=11, y=y, text_anchor="middle", transform=turn)


def _vertical(x: float) -> Markup:
    return element("line", class_="marked", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM)
