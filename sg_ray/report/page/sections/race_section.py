"""The race: how the finalists' means came apart seed by seed, and who was dropped when."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from sg_ray.records.leaderboard import Row, is_number
from sg_ray.report.page.charts.line_chart import Axis, Series, line_chart
from sg_ray.report.page.content import Sweep
from sg_ray.report.page.sections.section import Figure, Section
from sg_ray.verdict.model import Dropped

_NUM_DASHES = 4


@dataclass(frozen=True)
class RaceContent:
    """Charts by model, and who was dropped and why."""

    figures: Sequence[Figure]
    dropped: Sequence[Dropped]


def section(sweep: Sweep) -> Section | None:
    """Return the section; None if no model had two finalists with several fresh seeds."""
    dropped = sweep.verdict.dropped if sweep.verdict else ()
    figures = list(_figures(sweep, dropped))
    if not figures and not dropped:
        return None
    return Section("race", "Race", "race.html.jinja", RaceContent(figures, dropped))


def _figures(sweep: Sweep, dropped: Sequence[Dropped]) -> Iterator[Figure]:
    given_up = {(one.model, one.config_hash): one for one in dropped}
    for model in sweep.models:
        rows = [row for row in sweep.rows if row.model == model and not row.is_floor]
        means = {row.config_hash: _running_means(sweep, row) for row in rows}
        if len(rows) < 2 or max(map(len, means.values())) < 2:
            continue
        series = [
            _series(row, number, means[row.config_hash], given_up.get((model, row.config_hash)))
            for number, row in enumerate(rows)
        ]
        yield _figure(sweep, model, series)


def _figure(sweep: Sweep, model: str, series: Sequence[Series]) -> Figure:
    spoken = "; ".join(f"{one.name} {one.points[-1][1]:.4f}" for one in series if one.points)
    drawing = line_chart(
        series,
        label=f"{model}: mean {sweep.objective} over the fresh seeds so far. In the end: {spoken}",
        x=Axis("fresh seeds", "count"),
        y=Axis(f"mean {sweep.objective}", metric=sweep.objective),
    )
    num_dropped = sum(one.ends_with_cross for one in series)
    caption = f"{len(series)} finalists, the best solid; {num_dropped} dropped (cross)"
    return Figure(model, caption, drawing, sweep.model_styles.get(model, ""))


def _series(row: Row, number: int, means: Sequence[float], dropped: Dropped | None) -> Series:
    points = [(float(count), mean) for count, mean in enumerate(means, start=1)]
    name = row.title.removeprefix(f"{row.model} ")
    if dropped is not None:
        name += f", dropped after {dropped.after_seeds}"
    style = "line best" if number == 0 else f"line dash-{min(number, _NUM_DASHES)}"
    return Series(name, points, style, ends_with_cross=dropped is not None)


def _running_means(sweep: Sweep, row: Row) -> list[float]:
    """Return the mean over the first 1, 2, ... fresh seeds, in the order of their start."""
    trials = sorted(sweep.trials_of(row), key=lambda trial: trial.started_at_ms)
    values = [
        value
        for trial in trials
        if trial.stage != "search" and is_number(value := trial.metrics.get(sweep.objective))
    ]
    return [total / count for count, total in enumerate(accumulate(values), start=1)]
