"""Several sweeps on one page, side by side; ranked together where that means something."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sg_ray.errors import InputError
from sg_ray.files import write_text
from sg_ray.records.leaderboard import Row, ranked_value
from sg_ray.report.page.charts.scales import Scale
from sg_ray.report.page.charts.strips import strip_axis, strip_scale
from sg_ray.report.page.content import Sweep, looks_of, read_sweep, varied_settings
from sg_ray.report.page.rendering import render
from sg_ray.report.page.sections.leaderboard_section import table_metrics
from sg_ray.report.page.sections.section import Section
from sg_ray.report.page.sections.seeds_section import MAX_STRIPS, Strips, row_strips, row_values
from sg_ray.sweep_folder import SweepFolder
from sg_ray.verdict.words.arithmetic import Arithmetic, mixtures


@dataclass(frozen=True)
class NamedSweep:
    """A sweep under a name that no other on the page has."""

    name: str
    sweep: Sweep


@dataclass(frozen=True)
class RankedRow:
    """A row of the common ranking."""

    rank: int
    sweep: str
    row: Row
    settings: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Ranking:
    """The common ranking; the first of ``metrics`` is the objective."""

    rows: Sequence[RankedRow]
    metrics: Sequence[str]


@dataclass(frozen=True)
class SideBySide:
    """Each model's best row by sweep; ``best[model][sweep]`` is None where it has none."""

    sweeps: Sequence[NamedSweep]
    best: Mapping[str, Mapping[str, Row | None]]


@dataclass(frozen=True)
class SweepStrips:
    """The seeds of one sweep, in its objective."""

    name: str
    strips: Strips


def write_comparison(folders: Sequence[Path], path: Path) -> Path:
    """Write a page that compares the sweeps in ``folders``; return its path.

    Sweeps with other data or another objective are shown, but not ranked together. Raises
    InputError for a folder that holds no sweep, or whose records or verdict are not valid.
    """
    sweeps = _named([_read(folder) for folder in folders])
    records = [record for one in sweeps for record in one.sweep.records]
    page = render(
        "comparison.html.jinja",
        looks_of(records),
        sweeps=sweeps,
        sections=comparison_sections(sweeps),
    )
    write_text(path, page)
    return path


def comparison_sections(sweeps: Sequence[NamedSweep]) -> list[Section]:
    """Return the sections of the page."""
    differences = obstacles(sweeps)
    sections = [
        Section(
            "sweeps",
            "Sweeps",
            "comparison_sweeps.html.jinja",
            (sweeps, differences, list(cautions(sweeps))),
        ),
        Section("models", "By model", "comparison_models.html.jinja", _side_by_side(sweeps)),
    ]
    if not differences:
        ranking = _ranking(sweeps)
        sections.append(Section("ranking", "Ranking", "comparison_ranking.html.jinja", ranking))
    strips = _strips(sweeps, has_common_axis=not differences)
    if strips:
        sections.append(Section("seeds", "Seeds", "comparison_seeds.html.jinja", strips))
    return sections


def obstacles(sweeps: Sequence[NamedSweep]) -> list[str]:
    """Return, in sentences, why the sweeps' numbers cannot be ranked together; empty if they can.

    Other code is no obstacle: comparing versions is a use of the page.
    """
    found = []
    objectives = {one.name: [one.sweep.objective] for one in sweeps}
    fingerprints = {one.name: one.sweep.data_fingerprints for one in sweeps}
    for what, values in (("objectives", objectives), ("data fingerprints", fingerprints)):
        if len({value for listed in values.values() for value in listed}) > 1:
            told = "; ".join(f"{name}: {', '.join(v) or 'none'}" for name, v in values.items())
            found.append(f"The {what} differ ({told}).")
    return found


def cautions(sweeps: Sequence[NamedSweep]) -> Iterator[str]:
    """Yield, in sentences, with what other arithmetic a model was trained in different sweeps."""
    for model in dict.fromkeys(row.model for one in sweeps for row in one.sweep.rows):
        trained = (
            (one.name, Arithmetic.of(record))
            for one in sweeps
            for record in one.sweep.records
            if record.model == model and record.status == "completed"
        )
        for mixture in mixtures(trained, "sweep"):
            yield f"{model} was not always trained alike: {mixture}."


def _read(folder: Path) -> Sweep:
    sweep_folder = SweepFolder(folder)
    if not sweep_folder.is_sweep:
        raise InputError(
            f"{folder}: holds no sweep (no {sweep_folder.settings.name}), so it cannot be compared "
            "on a page. Name the folder of a sweep, e.g. outputs/quick."
        )
    return read_sweep(sweep_folder)


def _named(sweeps: Sequence[Sweep]) -> list[NamedSweep]:
    """Return the sweeps, those of one name told apart by their place on the command line."""
    names = [sweep.name for sweep in sweeps]
    return [
        NamedSweep(name if names.count(name) == 1 else f"{name} ({place})", sweep)
        for place, (name, sweep) in enumerate(zip(names, sweeps, strict=True), start=1)
    ]


def _side_by_side(sweeps: Sequence[NamedSweep]) -> SideBySide:
    models = dict.fromkeys(row.model for one in sweeps for row in one.sweep.rows)
    best = {
        model: {
            one.name: next((row for row in one.sweep.rows if row.model == model), None)
            for one in sweeps
        }
        for model in models
    }
    return SideBySide(sweeps, best)


def _ranking(sweeps: Sequence[NamedSweep]) -> Ranking:
    objective = sweeps[0].sweep.objective

    def place(pair: tuple[NamedSweep, Row]) -> tuple[bool, float]:
        value = ranked_value(pair[1], objective)
        return (value is None, -(value or 0.0))

    pairs = sorted(((one, row) for one in sweeps for row in one.sweep.rows), key=place)
    rows = [
        RankedRow(rank, one.name, row, varied_settings([other for _, other in pairs], row))
        for rank, (one, row) in enumerate(pairs, start=1)
    ]
    return Ranking(rows, table_metrics(objective, [row for _, row in pairs]))


def _strips(sweeps: Sequence[NamedSweep], *, has_common_axis: bool) -> list[SweepStrips]:
    values = {one.name: _values(one.sweep) for one in sweeps}
    together = [value for listed in values.values() for value in listed]
    return [
        SweepStrips(one.name, _strips_of(one.sweep, together if has_common_axis else own))
        for one in sweeps
        if (own := values[one.name])
    ]


def _values(sweep: Sweep) -> list[float]:
    return row_values(sweep, sweep.rows[:MAX_STRIPS], sweep.objective)


def _strips_of(sweep: Sweep, values: Sequence[float]) -> Strips:
    positions: Scale = strip_scale(sweep.objective, values)
    lines = row_strips(sweep, sweep.rows[:MAX_STRIPS], sweep.objective, positions)
    return Strips(sweep.objective, lines, strip_axis(positions))
