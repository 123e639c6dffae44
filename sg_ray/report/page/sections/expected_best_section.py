"""What a search of another size would be expected to find."""

from collections.abc import Sequence

from sg_ray.report.page.charts.line_chart import Axis, Series, line_chart
from sg_ray.report.page.content import Sweep
from sg_ray.report.page.sections.section import Figure, Legend, Section


def section(sweep: Sweep) -> Section | None:
    """Return expected best against trials and against hours; None without a verdict."""
    curves = [one for one in (sweep.verdict.expected_best if sweep.verdict else ()) if one.trials]
    if not curves:
        return None
    by_trials = [(one.model, list(zip(one.trials, one.expected, strict=True))) for one in curves]
    by_hours = [(one.model, list(zip(one.hours, one.expected, strict=True))) for one in curves]
    content = {
        "figures": [
            _figure(sweep, "Against trials", Axis("trials of the search", "count"), by_trials),
            _figure(sweep, "Against hours", Axis("hours of training"), by_hours),
        ],
        "legend": [Legend(one.model, sweep.model_styles.get(one.model, "")) for one in curves],
    }
    return Section("expected", "Expected best of a search", "expected_best.html.jinja", content)


def _figure(
    sweep: Sweep, title: str, x: Axis, curves: Sequence[tuple[str, Sequence[tuple[float, float]]]]
) -> Figure:
    series = [
        Series(model, points, f"line best {sweep.model_styles.get(model, '')}")
        for model, points in curves
    ]
    spoken = "; ".join(
        f"{model} {points[0][1]:.4f} at {points[0][0]:.3g}, {points[-1][1]:.4f} at "
        f"{points[-1][0]:.3g}"
        for model, points in curves
    )
    drawing = line_chart(
        series,
        label=f"Expected best {sweep.objective} against {x.label}: {spoken}",
        x=x,
        y=Axis(f"best {sweep.objective}", metric=sweep.objective),
    )
    return Figure(title, f"Expected best validation {sweep.objective}", drawing)
