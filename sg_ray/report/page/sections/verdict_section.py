"""What won, how sure that is, and what it would take to be surer."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sg_ray.records.leaderboard import Row
from sg_ray.report.page.charts.strips import Range, difference_scale, forest_row, strip_axis
from sg_ray.report.page.content import Sweep
from sg_ray.report.page.sections.section import Section
from sg_ray.training.metrics import is_better
from sg_ray.verdict.model import Comparison, Question, Verdict

_LEAST_DIFFERENCE = 0.01
"""The forest plots show at least differences of -0.01 .. 0.01."""


@dataclass(frozen=True)
class ComparisonLine:
    """A comparison with its drawing."""

    comparison: Comparison
    drawing: Markup


@dataclass(frozen=True)
class QuestionBlock:
    """A question with its comparisons over one scale."""

    question: Question
    lines: Sequence[ComparisonLine]
    axis: Markup

    @property
    def num_decided(self) -> int:
        """How many of the comparisons are decided."""
        return sum(line.comparison.outcome == "a" for line in self.lines)


@dataclass(frozen=True)
class VerdictContent:
    """The verdict, or without one the ranking of means."""

    objective: str
    verdict: Verdict | None
    blocks: Sequence[QuestionBlock]
    winner: Row | None
    floor: Row | None
    lead: float | None
    """By how much the winner's mean is better than the floor's, in the objective."""
    is_outdated: bool


def section(sweep: Sweep) -> Section:
    """Return the section; there is always one."""
    questions = sweep.verdict.questions if sweep.verdict else ()
    content = VerdictContent(
        objective=sweep.objective,
        verdict=sweep.verdict,
        blocks=[_block(question) for question in questions if question.comparisons],
        winner=sweep.winner,
        floor=sweep.floor,
        lead=lead(sweep),
        is_outdated=_is_outdated(sweep),
    )
    return Section("verdict", "Verdict", "verdict.html.jinja", content)


def lead(sweep: Sweep) -> float | None:
    """Return by how much the winner's mean is better than the floor's, in the objective."""
    if sweep.winner is None or sweep.floor is None:
        return None
    best, floor = (row.means.get(sweep.objective) for row in (sweep.winner, sweep.floor))
    if best is None or floor is None:
        return None
    return best - floor if is_better(sweep.objective, 1.0, 0.0) else floor - best


def _block(question: Question) -> QuestionBlock:
    ends = [
        end
        for one in question.comparisons
        for end in ((one.interval.low, one.interval.high) if one.interval else (one.difference,))
        if end is not None
    ]
    positions = difference_scale(ends, _LEAST_DIFFERENCE)
    lines = [
        ComparisonLine(one, forest_row(_range(one), one.difference, positions))
        for one in question.comparisons
    ]
    return QuestionBlock(question, lines, strip_axis(positions))


def _range(comparison: Comparison) -> Range | None:
    if comparison.interval is None:
        return None
    return Range(comparison.interval.low, comparison.interval.high, comparison.difference)


def _is_outdated(sweep: Sweep) -> bool:
    """Whether seeds were trained that the verdict does not know."""
    if sweep.verdict is None:
        return False
    known = {(s.model, s.config_hash): {*s.seeds, *s.failed_seeds} for s in sweep.verdict.standings}
    return any(
        not {*row.seeds, *row.failed_seeds} <= known.get((row.model, row.config_hash), set())
        for row in sweep.rows
    )
