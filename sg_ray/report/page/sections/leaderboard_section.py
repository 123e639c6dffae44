"""The ranked table."""

from collections.abc import Sequence
from dataclasses import dataclass

from sg_ray.records.leaderboard import Row
from sg_ray.report.page.content import Sweep, varied_settings
from sg_ray.report.page.sections.section import Section
from sg_ray.short_names import hides_settings
from sg_ray.verdict.model import Standing

TABLE_METRICS = ("val_roc_auc", "val_f1", "val_accuracy", "val_mcc")


@dataclass(frozen=True)
class LeaderboardLine:
    """A row with what tells it from its relatives, and what the verdict says about it."""

    row: Row
    settings: Sequence[tuple[str, str]]
    standing: Standing | None
    is_winner: bool


@dataclass(frozen=True)
class LeaderboardContent:
    """The table; the first of ``metrics`` is the objective."""

    lines: Sequence[LeaderboardLine]
    metrics: Sequence[str]
    has_intervals: bool
    has_failures: bool
    hides_settings: bool
    """Whether a name counts settings that it has no room for."""


def section(sweep: Sweep) -> Section:
    """Return the section; there is always one."""
    lines = [
        LeaderboardLine(
            row,
            varied_settings(sweep.rows, row),
            sweep.standing(row.model, row.config_hash),
            row == sweep.winner,
        )
        for row in sweep.rows
    ]
    content = LeaderboardContent(
        lines,
        table_metrics(sweep.objective, sweep.rows),
        has_intervals=any(line.standing and line.standing.interval for line in lines),
        has_failures=any(row.failed_seeds for row in sweep.rows),
        hides_settings=any(hides_settings(row.configuration.name) for row in sweep.rows),
    )
    return Section("leaderboard", "Leaderboard", "leaderboard.html.jinja", content)


def table_metrics(objective: str, rows: Sequence[Row]) -> list[str]:
    """Return the objective, then what else is usually asked for and was measured."""
    present = {metric for row in rows for metric in row.means}
    wanted = dict.fromkeys([objective, *TABLE_METRICS])
    return [metric for metric in wanted if metric in present or metric == objective]
