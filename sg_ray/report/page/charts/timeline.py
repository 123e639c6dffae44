"""When trials ran: a row per model, a bar per trial, over the sweep's time."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sg_ray.report.page.charts.scales import Scale, scale, tick_text
from sg_ray.report.page.charts.svg import element, percent, picture, title

_LANE_PX, _GAP_PX = 7, 2


@dataclass(frozen=True)
class Span:
    """One trial's time, in the unit of the axis; ``style`` names classes of the style sheet."""

    name: str
    start: float
    end: float
    style: str


def time_scale(end: float) -> Scale:
    """Return the common scale of all rows: from 0 to ``end``, in percent of their width."""
    return scale([0, end], 0, 100, pad=0)


def timeline_row(spans: Sequence[Span], positions: Scale, *, label: str) -> Markup:
    """Draw spans as bars, those that overlap below each other. ``label`` is read out."""
    lanes: list[float] = []
    bars = []
    for span in sorted(spans, key=lambda one: one.start):
        lane = next((n for n, free in enumerate(lanes) if free <= span.start), len(lanes))
        lanes[lane : lane + 1] = [span.end]
        bars.append(_bar(span, lane, positions))
    height = max(1, len(lanes)) * (_LANE_PX + _GAP_PX) + _GAP_PX
    return picture(label, *bars, class_="timeline", height=height)


def timeline_axis(positions: Scale, unit: str) -> Markup:
    """Draw the scale below the rows."""
    ticks = [
        element("text", f"{tick_text(v)} {unit}" if v else "0", x=percent(positions(v)), y=12,
                text_anchor="start" if not v else "middle")
        for v in positions.ticks()
        if positions(v) < 96
    ]  # fmt: skip
    return element("svg", *ticks, class_="strip-axis", aria_hidden="true")


def _bar(span: Span, lane: int, positions: Scale) -> Markup:
    start, end = positions(span.start), positions(span.end)
    box = {
        "x": percent(start),
        "y": _GAP_PX + lane * (_LANE_PX + _GAP_PX),
        "width": percent(max(end - start, 0.25)),
        "height": _LANE_PX,
    }
    return element("rect", title(span.name), class_=span.style, **box)
