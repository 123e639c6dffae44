"""Learning curves, and what the learning-rate range tests saw."""

import math
from collections.abc import Iterable, Iterator

from sg_ray.records.events import LearningRateFound
from sg_ray.records.leaderboard import is_number
from sg_ray.records.record import RunRecord
from sg_ray.report.page.charts.line_chart import Axis, Point, Series, line_chart
from sg_ray.report.page.content import Sweep
from sg_ray.report.page.sections.section import Figure, Section

LOSS_SHOWN = 2.0
"""Range tests blow up: losses are drawn up to this many times the loss at the lowest rates."""
LEAST_LOSS_SPAN = 0.2
"""A batch's loss is noisy: less than this is no trend."""


def learning_curves(sweep: Sweep) -> Section | None:
    """Return the objective over epochs of each trial; the best configuration stands out."""
    figures = list(_learning_curves(sweep))
    return Section("curves", "Learning curves", "figures.html.jinja", figures) if figures else None


def range_tests(sweep: Sweep) -> Section | None:
    """Return the latest range test of each family."""
    tests = (event for event in sweep.events if isinstance(event, LearningRateFound))
    latest = {test.model: test for test in tests}
    figures = [_range_figure(sweep, test) for test in latest.values()]
    if not figures:
        return None
    return Section("range", "Learning-rate range tests", "figures.html.jinja", figures)


def _learning_curves(sweep: Sweep) -> Iterator[Figure]:
    for model in sweep.models:
        trained = [r for r in sweep.records if r.model == model and r.counts_as_seed]
        records = [record for record in trained if len(record.history) > 1]
        if not records:
            continue
        first = next((row for row in sweep.rows if row.model == model), None)
        best = None if first is None else first.config_hash
        series = [_learning_curve(record, sweep.objective, best) for record in records]
        num_best = sum("best" in one.style for one in series)
        drawing = line_chart(
            sorted(series, key=lambda one: "best" in one.style),  # drawn last, on top
            label=f"{model}: {sweep.objective} over epochs, {len(records)} trials",
            x=Axis("epoch", "count"),
            y=Axis(sweep.objective, metric=sweep.objective),
        )
        strong = f"the {num_best} of {'' if first is None else first.title}"
        caption = f"{len(series)} trials; strong: {strong}; dotted: cut short"
        yield Figure(model, caption, drawing, sweep.model_styles.get(model, ""))


def _learning_curve(record: RunRecord, metric: str, best: str | None) -> Series:
    style = "line best" if record.config_hash == best else "line other"
    points = _points((epoch.get("epoch"), epoch.get(metric)) for epoch in record.history)
    name = f"{record.title} seed {record.seed} {record.status}"
    return Series(name, points, style if record.status == "completed" else "line cut")


def _range_figure(sweep: Sweep, test: LearningRateFound) -> Figure:
    series = [
        Series(
            f"seed {curve.get('seed')}",
            _points(zip(curve["learning_rates"], curve["losses"], strict=False)),
            "line other",
        )
        for curve in test.curve
        if curve.get("learning_rates") and curve.get("losses")
    ]
    starts = [one.points[0][1] for one in series if one.points]
    label = f"{test.model}: training loss against learning rate, {len(series)} seeds"
    drawing = line_chart(
        series,
        label=label,
        x=Axis("learning rate", "log"),
        y=Axis(
            "training loss",
            least_span=LEAST_LOSS_SPAN,
            bounds=(0.0, math.inf),
            limit=LOSS_SHOWN * max(starts, default=1.0),
        ),
        marked_x=test.learning_rate,
    )
    caption = f"{test.learning_rate:.2e} from {test.source}"
    caption += f" ({test.reason})" if test.reason else ""
    return Figure(test.model, caption, drawing, sweep.model_styles.get(test.model, ""))


def _points(pairs: Iterable[tuple[float | None, float | None]]) -> list[Point]:
    return [(x, y) for x, y in pairs if is_number(x) and is_number(y)]
