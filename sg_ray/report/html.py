"""One offline HTML page about a sweep: no script, no request, light and dark, printable."""

from pathlib import Path

from sg_ray.files import write_text
from sg_ray.report.content import Sweep, read_sweep
from sg_ray.report.rendering import render
from sg_ray.report.sections import (
    cost,
    expected_best,
    failures,
    leaderboard,
    origin,
    race,
    search,
    seeds,
    training,
    verdict,
    winner,
)
from sg_ray.report.sections.section import Section
from sg_ray.sweep_folder import SweepFolder

_SECTIONS = (
    verdict.section,
    leaderboard.section,
    seeds.section,
    race.section,
    training.learning_curves,
    training.range_tests,
    search.section,
    expected_best.section,
    winner.on_test,
    winner.diagnoses,
    failures.section,
    cost.section,
    origin.section,
)
"""In the order of the page; each returns None where it has nothing to show."""


def build_report(folder: SweepFolder, path: Path | None = None) -> Path:
    """Write a sweep's page, into its folder unless ``path`` says where; return the path.

    The sweep need not be finished. Raises InputError if a record or the verdict is not valid.
    """
    sweep = read_sweep(folder)
    page = render("page.html.jinja", sweep.family_styles, sweep=sweep, sections=sections_of(sweep))
    target = path or folder.report
    write_text(target, page)
    return target


def sections_of(sweep: Sweep) -> list[Section]:
    """Return the sections that have something to show, in the order of the page."""
    return [found for make in _SECTIONS if (found := make(sweep)) is not None]
