"""One offline HTML page about a sweep: no script, no request, light and dark, printable."""

from pathlib import Path

from sg_ray.files import write_text
from sg_ray.report.page.content import Sweep, looks_of, read_sweep
from sg_ray.report.page.rendering import render
from sg_ray.report.page.sections import (
    cost_section,
    expected_best_section,
    failures_section,
    leaderboard_section,
    origin_section,
    race_section,
    search_section,
    seeds_section,
    training_section,
    verdict_section,
    winner_section,
)
from sg_ray.report.page.sections.section import Section
from sg_ray.sweep_folder import SweepFolder

_SECTIONS = (
    verdict_section.section,
    leaderboard_section.section,
    seeds_section.section,
    race_section.section,
    training_section.learning_curves,
    training_section.range_tests,
    search_section.section,
    expected_best_section.section,
    winner_section.on_test,
    winner_section.diagnoses,
    failures_section.section,
    cost_section.section,
    origin_section.section,
)
"""In the order of the page; each returns None where it has nothing to show."""


def build_report(folder: SweepFolder, path: Path | None = None) -> Path:
    """Write a sweep's page, into its folder unless ``path`` says where; return the path.

    The sweep need not be finished. Raises InputError if a record or the verdict is not valid.
    """
    sweep = read_sweep(folder)
    page = render(
        "page.html.jinja", looks_of(sweep.records), sweep=sweep, sections=sections_of(sweep)
    )
    target = path or folder.report
    write_text(target, page)
    return target


def sections_of(sweep: Sweep) -> list[Section]:
    """Return the sections that have something to show, in the order of the page."""
    return [found for make in _SECTIONS if (found := make(sweep)) is not None]
