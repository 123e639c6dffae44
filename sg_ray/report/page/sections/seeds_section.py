"""Every seed of every configuration, over one scale, with intervals and the floor."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sg_ray.records.leaderboard import Row, is_number
from sg_ray.report.page.charts.scales import LEAST_SPAN, Scale
from sg_ray.report.page.charts.strips import Dot, Range, strip, strip_axis, strip_scale
from sg_ray.report.page.content import Sweep
from sg_ray.report.page.sections.section import Section
from sg_ray.verdict.model import Standing

MAX_STRIPS = 20
FAR = 2.5
"""With the floor the seeds spread over so many times their own span: they are shown again alone."""


@dataclass(frozen=True)
class StripLine:
    """The seeds of one row in one metric."""

    row: Row
    drawing: Markup


@dataclass(frozen=True)
class Strips:
    """The seeds of each row in one metric, over a common scale."""

    title: str
    lines: Sequence[StripLine]
    axis: Markup


@dataclass(frozen=True)
class SeedsContent:
    """Strips by metric, and what the verdict says about each configuration."""

    groups: Sequence[Strips]
    standings: Sequence[Standing]
    has_search_seed: bool
    num_left_out: int


def section(sweep: Sweep) -> Section | None:
    """Return the section; None before a trial has completed."""
    groups = list(_groups(sweep))
    if not groups:
        return None
    content = SeedsContent(
        groups,
        [s for s in sweep.verdict.standings if s.mean is not None] if sweep.verdict else [],
        any(sweep.is_search_seed(row, seed) for row in sweep.rows for seed in row.seeds),
        max(0, len(sweep.rows) - MAX_STRIPS),
    )
    return Section("seeds", "Seeds", "seeds.html.jinja", content)


def row_values(sweep: Sweep, rows: Sequence[Row], metric: str) -> list[float]:
    """Return all that a strip chart of ``metric`` has to have room for."""
    values = [value for row in rows for value in sweep.seeds_of(row, metric).values()]
    if metric == sweep.objective:
        intervals = (_interval(sweep, row) for row in rows)
        values += [end for one in intervals if one for end in (one.low, one.high)]
    return values


def row_strips(sweep: Sweep, rows: Sequence[Row], metric: str, positions: Scale) -> list[StripLine]:
    """Return a strip for each row; the floor's line is drawn if the scale reaches it."""
    floor = sweep.floor.means.get(metric) if sweep.floor is not None else None
    if floor is not None and not positions.low <= floor <= positions.high:
        floor = None
    return [StripLine(row, _strip(sweep, row, metric, positions, floor)) for row in rows]


def _groups(sweep: Sweep) -> Iterator[Strips]:
    """Yield the objective, once more without the floor if that lies far off, then F1."""
    rows = sweep.rows[:MAX_STRIPS]
    models = [row for row in rows if not row.is_floor]
    for metric in dict.fromkeys([sweep.objective, "val_f1"]):
        values = row_values(sweep, rows, metric)
        if values:
            yield _strips(sweep, rows, metric, values, metric)
        closer = row_values(sweep, models, metric)
        if metric == sweep.objective and closer and _span(values) > FAR * _span(closer):
            yield _strips(sweep, models, metric, closer, f"{metric}, closer, without the floor")


def _strips(
    sweep: Sweep, rows: Sequence[Row], metric: str, values: Sequence[float], title: str
) -> Strips:
    positions = strip_scale(metric, values)
    return Strips(title, row_strips(sweep, rows, metric, positions), strip_axis(positions))


def _span(values: Sequence[float]) -> float:
    return max(LEAST_SPAN, max(values) - min(values))


def _strip(sweep: Sweep, row: Row, metric: str, positions: Scale, floor: float | None) -> Markup:
    dots = [
        Dot(seed, value, is_fresh=not sweep.is_search_seed(row, seed))
        for seed, value in sweep.seeds_of(row, metric).items()
    ]
    interval = _interval(sweep, row) if metric == sweep.objective else None
    mean = _mean_of_fresh(dots) if interval is None else interval.middle
    return strip(dots, positions, mean=mean, interval=interval, floor=floor)


def _interval(sweep: Sweep, row: Row) -> Range | None:
    standing = sweep.standing(row.model, row.config_hash)
    if standing is None or standing.interval is None:
        return None
    return Range(standing.interval.low, standing.interval.high, standing.mean)


def _mean_of_fresh(dots: Iterable[Dot]) -> float | None:
    """Return the mean over the fresh seeds or, without any, over all."""
    shown = list(dots)
    values = [d.value for d in shown if d.is_fresh] or [d.value for d in shown]
    return sum(values) / len(values) if all(map(is_number, values)) and values else None
