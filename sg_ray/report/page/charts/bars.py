"""Shares of a whole as one bar, and rows of bars over one scale."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sg_ray.report.page.charts.svg import element, percent, picture, title


@dataclass(frozen=True)
class Part:
    """A part of a bar; ``style`` names classes of the page's style sheet."""

    name: str
    value: float
    style: str


def stacked_bar(parts: Sequence[Part], whole: float, *, label: str) -> Markup:
    """Draw parts side by side, ``whole`` being the full width. ``label`` is read out."""
    boxes, start = [], 0.0
    for part in parts:
        width = 100 * part.value / whole if whole > 0 else 0.0
        box = {"x": percent(start), "y": 0, "width": percent(width), "height": 18}
        boxes.append(element("rect", title(part.name), class_=part.style, **box))
        start += width
    return picture(label, *boxes, class_="bar")
