"""The leaderboard: configurations ranked over their seeds, from run records alone.

A failed seed is a failure of the configuration, not a missing value: the mean of the seeds that
survived would favour a configuration that sometimes diverges. It is ranked by the mean in which a
failed seed counts as the lowest value that the objective can have. One that a race over seeds
dropped has had its chance: it never stands above the best of its model that is in the race.
"""

import csv
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeGuard

from sg_ray.config import Rules
from sg_ray.configuration import Configuration
from sg_ray.files import atomic_path, short_hash, to_plain
from sg_ray.records.race import drops
from sg_ray.records.record import RunRecord
from sg_ray.records.winner_scores import read_test_scores
from sg_ray.short_names import hides_settings
from sg_ray.statistics.racing import Drop
from sg_ray.statistics.scores import Score
from sg_ray.sweep_folder import SweepFolder
from sg_ray.training.metrics import direction

LEADING_COLUMNS = ("rank", "name", "model", "family", "config_hash", "num_seeds", "num_failed")

Group = Mapping[int, RunRecord]
"""The newest finished record of each seed of one configuration."""


@dataclass(frozen=True)
class Row:
    """One configuration: what it is, and its metrics over the seeds that completed.

    ``sds`` are sample standard deviations (n - 1), None for a single seed. ``test`` is filled for
    the best configuration of a model only. ``dropped`` says why the race gave it up, if it did.
    """

    rank: int
    configuration: Configuration
    config_hash: str
    seeds: tuple[int, ...]
    failed_seeds: tuple[int, ...]
    means: Mapping[str, float | None]
    sds: Mapping[str, float | None]
    is_floor: bool = False
    test: Mapping[str, float | None] = field(default_factory=dict)
    dropped: Drop | None = None

    @property
    def model(self) -> str:
        """The name of its model."""
        return self.configuration.model

    @property
    def family(self) -> str:
        """The code behind the model."""
        return self.configuration.family

    @property
    def title(self) -> str:
        """Its name and the hash that tells it from all others: ``gnn lr 5e-3 1f0c9a2b``."""
        return self.configuration.title(self.config_hash)


def rank(
    records: Iterable[RunRecord],
    *,
    objective: str,
    seeds: Sequence[int],
    race_alpha: float | None = None,
    test_metrics: Mapping[tuple[str, str], Mapping[str, float | None]] | None = None,
) -> list[Row]:
    """Rank the configurations that were run for replication, best first.

    Those are the configurations finished on more than one of ``seeds``; of a model without any,
    all that completed (or all that failed, so that no model disappears). ``test_metrics`` are by
    model and configuration. Rows are ordered by ``ranked_value``; one without any mean is last.

    ``seeds`` are in the order of the race's rounds, after the first, on which configurations were
    chosen; ``race_alpha`` as in the experiment's settings.
    """
    by_model = _groups_by_model(records, set(seeds)).values()
    keyed = [
        pair
        for groups in by_model
        for pair in _model_rows(_replicated(groups), objective, seeds[1:], race_alpha)
    ]
    rows = [row for _, row in sorted(keyed, key=lambda pair: pair[0])]
    tested = test_metrics or {}
    return [
        replace(row, rank=place, test=tested.get((row.model, row.config_hash), {}))
        for place, row in enumerate(rows, start=1)
    ]


def ranked_value(row: Row, objective: str) -> float | None:
    """Return what a row is ranked by, higher is better; None without any mean.

    That is the mean of ``objective`` over all its seeds, a failed one counted as the lowest value
    there is (of a metric that knows no worst one, as a loss, it comes after all without a failure).
    """
    mean, num_failed = row.means.get(objective), len(row.failed_seeds)
    if mean is None:
        return None
    scale = Score(objective).scale
    if math.isinf(scale.worst):
        return -math.inf if num_failed else -mean if scale.lower_is_better else mean
    total = mean * len(row.seeds) + scale.lowest * num_failed
    return total / (len(row.seeds) + num_failed)


def leaderboard(folder: SweepFolder, records: Mapping[str, RunRecord], rules: Rules) -> list[Row]:
    """Rank a sweep's records, with the winner's test scores in its row."""
    return rank(
        records.values(),
        objective=rules.objective,
        seeds=rules.replicate.all_seeds,
        race_alpha=rules.replicate.race_alpha,
        test_metrics=read_test_scores(folder),
    )


def write_leaderboard(path: Path, rows: Sequence[Row]) -> None:
    """Write ``rows`` as CSV, atomically; metrics have six significant digits.

    ``learning_rate`` is the setting.
    """
    lines = [_csv_line(row) for row in rows]
    middle = sorted({column for line in lines for column in line} - {*LEADING_COLUMNS, "config"})
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, [*LEADING_COLUMNS, *middle, "config"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def format_table(rows: Sequence[Row], objective: str) -> str:
    """Return ``rows`` as an ASCII table for a console, with what one must know to read it."""
    metrics = list(dict.fromkeys([objective, "val_f1", "val_accuracy"]))
    header = ["rank", "name", "config", "seeds", "failed", *metrics]
    body = [
        [
            str(row.rank),
            row.configuration.name + (" *" if row.is_floor else ""),
            short_hash(row.config_hash),
            str(len(row.seeds)),
            str(len(row.failed_seeds)),
            *(format_mean(row, metric) for metric in metrics),
        ]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    lines = [header, ["-" * width for width in widths], *body]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    if any(row.is_floor for row in rows):
        text += "\n* floor: what a model must beat to be worth its cost"
    if any(hides_settings(row.configuration.name) for row in rows):
        text += "\n+N at a name's end: N more settings differ from the experiment's own"
    if any(row.failed_seeds and row.seeds for row in rows):
        text += "\nmeans leave failed seeds out; in the ranking they count as the worst value"
    return text


def format_mean(row: Row, metric: str) -> str:
    """Return "mean +- sd" of a metric with four decimals, the mean alone for a single seed."""
    mean, sd = row.means.get(metric), row.sds.get(metric)
    if mean is None:
        return "-"
    return f"{mean:.4f}" if sd is None else f"{mean:.4f} +- {sd:.4f}"


def is_number(value: float | None) -> TypeGuard[float]:
    """Whether a recorded metric holds a finite number."""
    return value is not None and math.isfinite(value)


def _groups_by_model(records: Iterable[RunRecord], seeds: set[int]) -> dict[str, list[Group]]:
    """Group finished records by model and configuration; the newest of a seed counts."""
    groups: dict[tuple[str, str], dict[int, RunRecord]] = defaultdict(dict)
    for record in sorted(records, key=lambda record: record.finished_at_ms):
        is_planned = record.seed in seeds or record.stage == "floor"
        if record.status != "pruned" and is_planned and record.counts_as_seed:
            groups[record.model, record.config_hash][record.seed] = record
    by_model: dict[str, list[Group]] = defaultdict(list)
    for (model, _), group in groups.items():
        by_model[model].append(group)
    return by_model


def _replicated(groups: Sequence[Group]) -> Sequence[Group]:
    replicated = [group for group in groups if len(group) > 1]
    completed = [g for g in groups if any(r.status == "completed" for r in g.values())]
    return replicated or completed or groups


def _model_rows(
    groups: Sequence[Group], objective: str, rounds: Sequence[int], race_alpha: float | None
) -> list[tuple["_SortKey", Row]]:
    """Return a model's rows, each with what orders them among all."""
    trials = {next(iter(group.values())).config_hash: group for group in groups}
    dropped = drops(trials, rounds, objective, race_alpha)
    rows = [_row(group, objective, dropped.get(name)) for name, group in trials.items()]
    in_race = [_sort_key(row, objective) for row in rows if row.dropped is None]
    best = min(in_race, default=None)
    return [(_behind(best, row, objective), row) for row in rows]


def _behind(best: "_SortKey | None", row: Row, objective: str) -> "_SortKey":
    """Return a row's key; if the race dropped it, no better than that of the model's best."""
    own = _sort_key(row, objective)
    if row.dropped is None or best is None or own > best:
        return own
    return best._replace(is_behind=True, name=own.name, config_hash=own.config_hash)


def _row(group: Group, objective: str, dropped: Drop | None) -> Row:
    completed = {seed: r for seed, r in sorted(group.items()) if _is_scored(r, objective)}
    newest = max(group.values(), key=lambda record: record.finished_at_ms)
    metrics = sorted({metric for record in completed.values() for metric in record.metrics})
    values = {metric: _numbers(completed.values(), metric) for metric in metrics}
    return Row(
        rank=0,
        configuration=newest.configuration,
        config_hash=newest.config_hash,
        seeds=tuple(completed),
        failed_seeds=tuple(sorted(set(group) - set(completed))),
        means={metric: statistics.fmean(v) if v else None for metric, v in values.items()},
        sds={metric: statistics.stdev(v) if len(v) > 1 else None for metric, v in values.items()},
        is_floor=newest.stage == "floor",
        dropped=dropped,
    )


def _is_scored(record: RunRecord, objective: str) -> bool:
    return record.status == "completed" and is_number(record.metrics.get(objective))


def _numbers(records: Iterable[RunRecord], metric: str) -> list[float]:
    values = (record.metrics.get(metric) for record in records)
    return [value for value in values if is_number(value)]


class _SortKey(NamedTuple):
    """What orders rows: lower is better, and the first part that differs decides."""

    has_no_mean: bool
    ranked_value: float
    num_failed: int
    mean: float
    is_behind: bool
    """Dropped, with no better a key of its own than the best that is still in the race."""
    name: str
    config_hash: str


def _sort_key(row: Row, objective: str) -> _SortKey:
    value, num_failed, names = ranked_value(row, objective), len(row.failed_seeds), _names(row)
    if value is None:
        return _SortKey(True, 0.0, num_failed, 0.0, False, *names)
    mean = row.means[objective] or 0.0
    signed = mean if direction(objective) == "minimise" else -mean
    return _SortKey(False, -value, num_failed, signed, False, *names)


def _names(row: Row) -> tuple[str, str]:
    return (row.model, row.config_hash)


def _csv_line(row: Row) -> dict[str, str]:
    numbers: dict[str, float | None] = {
        **{f"{metric}_mean": value for metric, value in row.means.items()},
        **{f"{metric}_sd": value for metric, value in row.sds.items()},
        **row.test,
    }
    return {
        "rank": str(row.rank),
        "name": row.configuration.name,
        "model": row.model,
        "family": row.family,
        "config_hash": row.config_hash,
        "num_seeds": str(len(row.seeds)),
        "num_failed": str(len(row.failed_seeds)),
        **{name: f"{value:.6g}" if is_number(value) else "" for name, value in numbers.items()},
        "learning_rate": str(row.configuration.values.get("learning_rate", "")),
        "config": json.dumps(
            to_plain(row.configuration.values), sort_keys=True, separators=(",", ":")
        ),
    }
