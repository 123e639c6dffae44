"""Charts as inline SVG, without any library: colours and fonts come from the page's style sheet.

A line chart has a fixed view box, narrow enough to be read on a phone. A strip has none: its
positions are percentages, so dots and text keep their size at every width.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from markupsafe import Markup

WIDTH, HEIGHT = 340, 220
LEFT, RIGHT, TOP, BOTTOM = 54, 8, 10, 36
MAX_TICKS = 5
STRIP_MARGIN_PERCENT = 4.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """Points of a chart, (x, y); ``style`` is a class of the page's style sheet."""

    name: str
    points: Sequence[Point]
    style: str
    shape: Literal["line", "dots"] = "line"


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
    values: Iterable[float], start: float, end: float, *, is_log: bool = False, pad: float = 0.06
) -> Scale:
    """Return the scale that shows all ``values``, with a little room at both ends."""
    shown = [value for value in values if math.isfinite(value) and (value > 0 or not is_log)]
    low, high = (min(shown), max(shown)) if shown else (1.0, 2.0)
    if is_log:
        return Scale(low, high if high > low else low * 10, start, end, is_log=True)
    if high - low < 1e-9:
        low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
    room = pad * (high - low)
    return Scale(low - room, high + room, start, end)


def chart(
    series: Sequence[Series],
    *,
    label: str,
    x_label: str,
    y_label: str,
    x_kind: Literal["count", "log"] = "count",
    y_limit: float = math.inf,
    marked_x: float | None = None,
) -> Markup:
    """Draw series over common axes. ``label`` is read out in place of the picture.

    Points above ``y_limit`` are drawn at the upper edge; ``marked_x`` gets a vertical line.
    """
    points = [point for one in series for point in one.points]
    extra = [] if marked_x is None else [marked_x]
    xs = [*(x for x, _ in points), *extra]
    x_scale = scale(xs, LEFT + 4, WIDTH - RIGHT - 4, is_log=x_kind == "log", pad=0)
    x_scale = replace(x_scale, min_step=1.0)
    y_scale = scale((min(y, y_limit) for _, y in points), HEIGHT - BOTTOM, TOP)
    mark = Markup("") if marked_x is None else _vertical(x_scale(marked_x))
    drawn = Markup("").join(_series(one, x_scale, y_scale) for one in series)
    template = Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{label}">'
        "{axes}{mark}{drawn}</svg>"
    )
    axes = _axes(x_scale, y_scale, x_label, y_label)
    return template.format(w=WIDTH, h=HEIGHT, label=label, axes=axes, mark=mark, drawn=drawn)


def strip(
    values: Mapping[int, float], mean: float | None, positions: Scale, floor: float | None
) -> Markup:
    """Draw one dot per seed, a bar at the mean, and a dashed line at the floor's mean."""
    spoken = ", ".join(f"seed {seed}: {value:.4f}" for seed, value in values.items()) or "no seed"
    parts = [Markup('<line class="axis" x1="0" x2="100%" y1="13" y2="13"/>')]
    if floor is not None:
        parts.append(_upright("floor-line", positions(floor), 0, 26, "floor"))
    if mean is not None:
        parts.append(_upright("mean", positions(mean), 4, 22, f"mean {mean:.4f}"))
    dot = Markup('<circle cx="{x:.2f}%" cy="13" r="4.5"><title>seed {s}: {v:.4f}</title></circle>')
    parts += [dot.format(x=positions(value), s=seed, v=value) for seed, value in values.items()]
    template = Markup('<svg class="strip" role="img" aria-label="{label}">{body}</svg>')
    return template.format(label=spoken, body=Markup("").join(parts))


def strip_axis(positions: Scale) -> Markup:
    """Draw the scale below a column of strips."""
    tick = Markup('<text x="{x:.2f}%" y="12" text-anchor="middle">{text}</text>')
    ticks = (tick.format(x=positions(v), text=tick_text(v)) for v in positions.ticks())
    body = Markup("").join(ticks)
    return Markup('<svg class="strip-axis" aria-hidden="true">{}</svg>').format(body)


def strip_scale(values: Iterable[float]) -> Scale:
    """Return the common scale of a column of strips, in percent of their width."""
    return scale(values, STRIP_MARGIN_PERCENT, 100 - STRIP_MARGIN_PERCENT)


def tick_text(value: float) -> str:
    """Return a short form of a tick's value."""
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e5):
        mantissa, _, exponent = f"{value:.0e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.6g}"


def _series(one: Series, x_scale: Scale, y_scale: Scale) -> Markup:
    places = [(x_scale(x), y_scale(y)) for x, y in one.points]
    title = Markup("<title>{}</title>").format(one.name)
    if one.shape == "line" and len(places) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        line = Markup('<polyline class="{style}" points="{path}">{title}</polyline>')
        return line.format(style=one.style, path=path, title=title)
    dot = Markup('<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="3.5">{title}</circle>')
    return Markup("").join(dot.format(style=one.style, x=x, y=y, title=title) for x, y in places)


def _axes(x_scale: Scale, y_scale: Scale, x_label: str, y_label: str) -> Markup:
    bottom = HEIGHT - BOTTOM
    grid = Markup('<line class="grid" x1="{l}" x2="{r}" y1="{y:.1f}" y2="{y:.1f}"/>')
    y_text = Markup('<text x="{x}" y="{y:.1f}" text-anchor="end">{text}</text>')
    x_text = Markup('<text x="{x:.1f}" y="{y}" text-anchor="middle">{text}</text>')
    parts = [
        part
        for tick in y_scale.ticks()
        for part in (
            grid.format(l=LEFT, r=WIDTH - RIGHT, y=y_scale(tick)),
            y_text.format(x=LEFT - 5, y=y_scale(tick) + 4, text=tick_text(tick)),
        )
    ]
    parts += [
        x_text.format(x=x_scale(t), y=bottom + 14, text=tick_text(t)) for t in x_scale.ticks()
    ]
    parts.append(x_text.format(x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 4, text=x_label))
    turned = Markup(
        '<text x="11" y="{y}" text-anchor="middle" transform="rotate(-90 11 {y})">{text}</text>'
    )
    parts.append(turned.format(y=(TOP + bottom) / 2, text=y_label))
    return Markup("").join(parts)


def _vertical(x: float) -> Markup:
    line = Markup('<line class="marked" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
    return line.format(x=x, top=TOP, bottom=HEIGHT - BOTTOM)


def _upright(style: str, x_percent: float, top: int, bottom: int, title: str) -> Markup:
    line = Markup(
        '<line class="{style}" x1="{x:.2f}%" x2="{x:.2f}%" y1="{top}" y2="{bottom}">'
        "<title>{title}</title></line>"
    )
    return line.format(style=style, x=x_percent, top=top, bottom=bottom, title=title)


def _round_values(low: float, high: float, min_step: float) -> list[float]:
    """Return multiples of 1, 2 or 5 x 10^k between two values, at most MAX_TICKS + 1."""
    raw = max((high - low) / MAX_TICKS, min_step)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    every = max(1, math.ceil((last - first + 1) / (MAX_TICKS + 2)))
    return [10.0**power for power in range(first, last + 1, every)]
