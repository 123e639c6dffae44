"""Parallel coordinates: one upright axis per hyperparameter, one line per trial."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sg_ray.report.page.charts.scales import Scale, metric_scale, scale, tick_text
from sg_ray.report.page.charts.svg import element, picture, title

HEIGHT, TOP, BOTTOM, SIDE = 250, 26, 18, 52
WIDTH, LEAST_GAP = 340, 118
NUM_SHADES = 5


@dataclass(frozen=True)
class Coordinate:
    """One axis: a number's (``is_log`` or not), a metric's, or the values of a choice."""

    name: str
    values: Sequence[Any]
    """Every trial's value."""
    is_log: bool = False
    choices: Sequence[Any] | None = None
    is_metric: bool = False

    def ticks(self) -> list[tuple[float, str]]:
        """Return (position on the page, text) of each tick."""
        positions = self._scale()
        if self.choices is not None:
            return [(positions(n), str(choice)) for n, choice in enumerate(self.choices)]
        return [(positions(value), tick_text(value)) for value in positions.ticks()]

    def place(self, value: Any) -> float:
        """Return where a value lies on the page."""
        number = self.choices.index(value) if self.choices is not None else float(value)
        return self._scale()(number)

    def _scale(self) -> Scale:
        if self.choices is not None:
            return scale([0, len(self.choices) - 1], HEIGHT - BOTTOM, TOP, pad=0.02)
        if self.is_metric:
            return metric_scale(self.name, self.values, HEIGHT - BOTTOM, TOP)
        return scale(self.values, HEIGHT - BOTTOM, TOP, is_log=self.is_log, pad=0.02)


@dataclass(frozen=True)
class Thread:
    """One trial's line: a value per coordinate, and its ``goodness`` from 0 to 1, None if cut."""

    name: str
    values: Mapping[str, Any]
    goodness: float | None


def parallel_coordinates(
    coordinates: Sequence[Coordinate], threads: Sequence[Thread], *, label: str
) -> Markup:
    """Draw the threads, the best on top and darkest. ``label`` is read out.

    A thread without a value for a coordinate ends before it.
    """
    num_gaps = max(1, len(coordinates) - 1)
    width = max(WIDTH, 2 * SIDE + LEAST_GAP * num_gaps)
    gap = (width - 2 * SIDE) / num_gaps
    places = {one.name: SIDE + gap * number for number, one in enumerate(coordinates)}
    lines = [
        _line(thread, coordinates, places)
        for thread in sorted(threads, key=lambda one: _order(one.goodness))
    ]
    axes = [part for one in coordinates for part in _axis(one, places[one.name])]
    view = f"0 0 {width} {HEIGHT}"
    size = f"min-width:{width - 20}px;max-width:{width + 40}px"
    return picture(label, *lines, *axes, class_="parallel", viewBox=view, style=size)


def _order(goodness: float | None) -> float:
    return -math.inf if goodness is None else goodness


def _line(thread: Thread, coordinates: Sequence[Coordinate], places: Mapping[str, float]) -> Markup:
    points = [
        f"{places[one.name]:.1f},{one.place(thread.values[one.name]):.1f}"
        for one in coordinates
        if one.name in thread.values
    ]
    return element(
        "polyline", title(thread.name), class_=_shade(thread.goodness), points=" ".join(points)
    )


def _shade(goodness: float | None) -> str:
    if goodness is None:
        return "thread cut"
    return f"thread shade-{min(NUM_SHADES - 1, int(goodness * NUM_SHADES))}"


def _axis(one: Coordinate, x: float) -> Iterator[Markup]:
    yield element("line", class_="upright", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM)
    yield element("text", one.name, class_="name", x=x, y=14, text_anchor="middle")
    for y, text in one.ticks():
        yield element("text", text, class_="halo", x=x + 5, y=y + 4)
    if one.is_log:
        yield element("text", "log scale", x=x, y=HEIGHT - 3, text_anchor="middle")
