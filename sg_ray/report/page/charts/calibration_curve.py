"""The reliability diagram: predicted probability against the share of positives."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from sg_ray.report.page.charts.scales import Scale, tick_text
from sg_ray.report.page.charts.svg import element, picture, title
from sg_ray.verdict.model import ReliabilityBin

WIDTH, HEIGHT = 300, 276
LEFT, RIGHT, TOP, BOTTOM = 54, 10, 10, 36
_LEAST_PX, _MOST_PX = 2.5, 10.0


def reliability_diagram(bins: Sequence[ReliabilityBin], *, label: str) -> Markup:
    """Draw a dot per bin, its area by the number of samples; on the diagonal is well calibrated.

    DeGroot and Fienberg, 1983. ``label`` is read out.
    """
    x_scale, y_scale = Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(0, 1, HEIGHT - BOTTOM, TOP)
    filled = [one for one in bins if one.num_samples]
    most = max((one.num_samples for one in filled), default=1)
    path = " ".join(
        f"{x_scale(b.mean_probability):.1f},{y_scale(b.positive_share):.1f}" for b in filled
    )
    ends = {"x1": x_scale(0), "y1": y_scale(0), "x2": x_scale(1), "y2": y_scale(1)}
    parts = [
        *_axes(x_scale, y_scale),
        element("line", title("well calibrated"), class_="diagonal", **ends),
        element("g", element("polyline", points=path), class_="other"),
        *(_dot(one, most, x_scale, y_scale) for one in filled),
    ]
    return picture(label, *parts, class_="chart square", viewBox=f"0 0 {WIDTH} {HEIGHT}")


def _dot(one: ReliabilityBin, most: int, x_scale: Scale, y_scale: Scale) -> Markup:
    radius = max(_LEAST_PX, _MOST_PX * (one.num_samples / most) ** 0.5)
    words = (
        f"{one.num_samples} functions: predicted {one.mean_probability:.2f}, "
        f"vulnerable {one.positive_share:.2f}"
    )
    place = {"cx": x_scale(one.mean_probability), "cy": y_scale(one.positive_share), "r": radius}
    return element("circle", title(words), class_="bubble", **place)


def _axes(x_scale: Scale, y_scale: Scale) -> Iterator[Markup]:
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        x, y = x_scale(tick), y_scale(tick)
        yield element("line", class_="grid-line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y)
        yield element("text", tick_text(tick), x=LEFT - 5, y=y + 4, text_anchor="end")
        yield element("text", tick_text(tick), x=x, y=HEIGHT - BOTTOM + 14, text_anchor="middle")
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield element("text", "predicted probability", x=middle, y=HEIGHT - 4, text_anchor="middle")
    y = (TOP + HEIGHT - BOTTOM) / 2
    turn = f"rotate(-90 11 {y:g})"
    yield element("text", "share vulnerable", x=11, y=y, text_anchor="middle", transform=turn)
