"""One offline HTML page about a sweep: no script, no request, light and dark, printable."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sg_ray.files import write_text
from sg_ray.report.charts import Point, Series, chart, strip, strip_axis, strip_scale
from sg_ray.report.content import RangeTest, Sweep, read_sweep, varied_settings
from sg_ray.sweep.leaderboard import Row, format_mean, is_number
from sg_ray.sweep.records import RunRecord
from sg_ray.training.metrics import is_better

TEMPLATE = "page.html.jinja"
TABLE_METRICS = ("val_roc_auc", "val_f1", "val_accuracy", "val_mcc")
MAX_STRIPS = 20
LOSS_SHOWN = 2.0
"""Range tests blow up: losses are drawn up to this many times the loss at the lowest rates."""


@dataclass(frozen=True)
class Figure:
    """A chart with its caption."""

    title: str
    caption: str
    drawing: Markup


@dataclass(frozen=True)
class Strips:
    """The seeds of each row in one metric, over a common scale."""

    metric: str
    lines: Sequence[tuple[Row, str, Markup]]
    axis: Markup


def build_report(sweep_dir: Path) -> Path:
    """Write ``report.html`` into a sweep's folder and return its path.

    The sweep need not be finished. Raises InputError if one of its records is not valid.
    """
    sweep = read_sweep(sweep_dir)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = _number
    environment.filters["duration"] = _duration
    template = files("sg_ray.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        sweep=sweep,
        metrics=_table_metrics(sweep),
        mean=_mean,
        settings=lambda row: varied_settings(sweep.rows, row),
        lead=_lead(sweep),
        strips=[s for m in dict.fromkeys([sweep.objective, "val_f1"]) if (s := _strips(sweep, m))],
        learning_curves=list(_learning_curves(sweep)),
        histories=list(_histories(sweep)),
        range_tests=[(test, _range_chart(test)) for test in sweep.range_tests],
        tested=[row for row in sweep.rows if row.test],
    )
    path = sweep_dir / "report.html"
    write_text(path, page.encode("utf-8", "replace").decode("utf-8"))
    return path


def _table_metrics(sweep: Sweep) -> list[str]:
    present = {metric for row in sweep.rows for metric in row.means}
    wanted = dict.fromkeys([sweep.objective, *TABLE_METRICS])
    return [metric for metric in wanted if metric in present or metric == sweep.objective]


def _lead(sweep: Sweep) -> float | None:
    """Return by how much the winner's mean is better than the floor's, in the objective."""
    if sweep.winner is None or sweep.floor is None:
        return None
    best, floor = (row.means.get(sweep.objective) for row in (sweep.winner, sweep.floor))
    if best is None or floor is None:
        return None
    return best - floor if is_better(sweep.objective, 1.0, 0.0) else floor - best


def _strips(sweep: Sweep, metric: str) -> Strips | None:
    seeds = [(row, sweep.seeds_of(row, metric)) for row in sweep.rows[:MAX_STRIPS]]
    values = [value for _, by_seed in seeds for value in by_seed.values()]
    if not values:
        return None
    positions = strip_scale(values)
    floor = sweep.floor.means.get(metric) if sweep.floor is not None else None
    lines = [
        (row, _mean(row, metric), strip(by_seed, row.means.get(metric), positions, floor))
        for row, by_seed in seeds
    ]
    return Strips(metric, lines, strip_axis(positions))


def _learning_curves(sweep: Sweep) -> Iterator[Figure]:
    """Yield, per family, the objective over epochs of each trial; the best row stands out."""
    for family in sweep.families:
        records = [r for r in sweep.records if r.family == family and len(r.history) > 1]
        if not records:
            continue
        best = next((row.config_hash for row in sweep.rows if row.family == family), None)
        series = [_learning_curve(record, sweep.objective, best) for record in records]
        label = f"{family}: {sweep.objective} over epochs, {len(records)} trials"
        drawing = chart(
            sorted(series, key=lambda one: one.style == "best"),  # drawn last, on top
            label=label,
            x_label="epoch",
            y_label=sweep.objective,
        )
        num_best = sum(one.style == "best" for one in series)
        caption = (
            f"{len(series)} trials; strong: the {num_best} of {best}; dotted: pruned or failed"
        )
        yield Figure(family, caption, drawing)


def _learning_curve(record: RunRecord, metric: str, best: str | None) -> Series:
    style = "best" if record.config_hash == best else "other"
    points = _points((epoch.get("epoch"), epoch.get(metric)) for epoch in record.history)
    name = f"{record.config_hash} seed {record.seed} {record.status}"
    return Series(name, points, style if record.status == "completed" else "cut")


def _histories(sweep: Sweep) -> Iterator[Figure]:
    """Yield, per family, the objective of each search trial in order, and the best so far."""
    for family in sweep.families:
        trials = [r for r in sweep.records if r.family == family and r.stage == "search"]
        numbered = list(enumerate(trials, start=1))
        points = {
            style: _points((n, r.metrics.get(sweep.objective)) for n, r in numbered if keep(r))
            for style, keep in (("done", _is_completed), ("hollow", _is_cut))
        }
        if not points["done"]:
            continue
        series = [
            Series("best so far", _best_so_far(points["done"], sweep.objective), "other"),
            Series("completed", points["done"], "done", "dots"),
            Series("pruned or failed", points["hollow"], "hollow", "dots"),
        ]
        label = f"{family}: {sweep.objective} of {len(trials)} search trials"
        drawing = chart(series, label=label, x_label="trial", y_label=sweep.objective)
        yield Figure(family, f"{len(trials)} trials; hollow: pruned or failed", drawing)


def _range_chart(test: RangeTest) -> Markup | None:
    series = [
        Series(
            f"seed {curve.get('seed')}",
            _points(zip(curve["learning_rates"], curve["losses"], strict=False)),
            "other",
        )
        for curve in test.curves
        if curve.get("learning_rates") and curve.get("losses")
    ]
    starts = [one.points[0][1] for one in series if one.points]
    if not starts:
        return None
    return chart(
        series,
        label=f"{test.family}: training loss against learning rate, {len(series)} seeds",
        x_label="learning rate",
        y_label="training loss",
        x_kind="log",
        y_limit=LOSS_SHOWN * max(starts),
        marked_x=test.learning_rate,
    )


def _points(pairs: Iterable[tuple[float | None, float | None]]) -> list[Point]:
    return [(x, y) for x, y in pairs if is_number(x) and is_number(y)]


def _best_so_far(points: Sequence[Point], objective: str) -> list[Point]:
    best: float | None = None
    line: list[Point] = []
    for x, y in points:
        if is_better(objective, y, best):
            line += [] if best is None else [(x, best)]
            best = y
            line.append((x, y))
    return [*line, (points[-1][0], best)] if best is not None else line


def _is_completed(record: RunRecord) -> bool:
    return record.status == "completed"


def _is_cut(record: RunRecord) -> bool:
    return record.status != "completed"


def _mean(row: Row, metric: str) -> str:
    return format_mean(row, metric).replace("+-", "\u00b1")


def _number(value: float | None) -> str:
    return f"{value:.4f}" if is_number(value) else "-"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
