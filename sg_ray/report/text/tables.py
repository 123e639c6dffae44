"""Configurations over their seeds, as text tables and as CSV."""

import csv
import json
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sg_ray.files import atomic_path, short_hash, to_plain
from sg_ray.records.leaderboard import is_number
from sg_ray.report.text.columns import aligned
from sg_ray.report.text.results import UNKNOWN, ConfigurationResults, Origin
from sg_ray.statistics.own_metrics import OWN_METRICS
from sg_ray.verdict.words.arithmetic import mixtures

SHOWN_METRICS = ("val_roc_auc", "val_f1", "val_accuracy", "val_mcc", "val_loss", "best_val_f1")
_SETTINGS_CHARS = 70
_MAX_VALUE_CHARS = 40
_NAME_COLUMNS = (
    "name",
    "model",
    "config_hash",
    "data_fingerprint",
    "code_version",
    "num_seeds",
    "num_failed",
    "num_pruned",
    "seeds",
)
_KEY_CHARS = 8
"""So many characters of a trial's key tell it from the others: ``sg-ray reproduce FOLDER:KEY``."""


def summary(configurations: Sequence[ConfigurationResults]) -> str:
    """Return two tables: every seed with mean and SD, and what tells configurations apart.

    Results of other data or other code are never averaged: each origin has tables of its own.
    """
    by_origin: dict[Origin, list[ConfigurationResults]] = defaultdict(list)
    for configuration in configurations:
        by_origin[configuration.origin].append(configuration)
    sections = []
    for origin, group in by_origin.items():
        if len(by_origin) > 1:
            sections.append(f"data {origin.data_fingerprint}, code {origin.code_version}")
        sections += [_seed_table(group), _configuration_table(group), *_mixed(group)]
    return "\n\n".join(sections)


def _mixed(configurations: Sequence[ConfigurationResults]) -> Iterator[str]:
    """Say whose seeds were not trained alike, so that their mean is one of unlike things."""
    for one in configurations:
        for mixture in mixtures((result.seed, result.arithmetic) for result in one.completed):
            yield (
                f"note: {one.name} {short_hash(one.config_hash)} was not always trained alike: "
                f"{mixture}. A difference between these seeds may be the machine's."
            )


def write_csv(path: Path, configurations: Sequence[ConfigurationResults]) -> None:
    """Write one line a configuration, atomically; numbers have six significant digits."""
    lines = [_csv_line(configuration) for configuration in configurations]
    columns = dict.fromkeys(column for line in lines for column in line)
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def _seed_table(configurations: Sequence[ConfigurationResults]) -> str:
    metrics = _shown_metrics(configurations)
    lines = [("name", "config", "seed", "trial", *metrics)]
    for one in configurations:
        lines += [
            (one.name, short_hash(one.config_hash), *cells) for cells in _seed_lines(one, metrics)
        ]
    return aligned(lines)


def _seed_lines(
    configuration: ConfigurationResults, metrics: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    for result in configuration.results:
        mark = "" if result.status == "completed" else f" {result.status}"
        values = (_number(result.metrics.get(name)) for name in metrics)
        yield (f"{result.seed}{mark}", result.trial_key[:_KEY_CHARS], *values)
    num_seeds, num_failed = len(configuration.completed), configuration.count("failed")
    if num_seeds > 1:
        label = f"mean of {num_seeds}" + (f", {num_failed} failed" if num_failed else "")
        yield (label, "", *(_number(configuration.mean(name)) for name in metrics))
        yield ("sd", "", *(_number(configuration.sd(name)) for name in metrics))


def _shown_metrics(configurations: Sequence[ConfigurationResults]) -> list[str]:
    results = [result for one in configurations for result in one.results]
    present = {name for result in results for name in result.metrics}
    if "val_f1" in present:
        present.discard("best_val_f1")
    objectives = sorted({result.objective for result in results if result.objective})
    own = [f"val_{name}" for name in OWN_METRICS]
    shown = dict.fromkeys([*objectives, *SHOWN_METRICS, *own])
    return [name for name in shown if name in present]


def _configuration_table(configurations: Sequence[ConfigurationResults]) -> str:
    """Return the table from which a reader learns what a configuration's hash stands for."""
    header = ("name", "config", "seeds", "failed", "pruned", "what differs within the model")
    lines: list[tuple[str, ...]] = [header]
    for one in configurations:
        numbers = (len(one.completed), one.count("failed"), one.count("pruned"))
        first, *rest = textwrap.wrap(
            _distinction(one, configurations), _SETTINGS_CHARS, break_on_hyphens=False
        )
        config = short_hash(one.config_hash)
        lines.append((one.name, config, *map(str, numbers), first))
        lines += [("", "", "", "", "", line) for line in rest]
    return aligned(lines)


def _distinction(
    configuration: ConfigurationResults, others: Sequence[ConfigurationResults]
) -> str:
    """Return the settings that are not the same in all configurations of the model."""
    model = [other.settings for other in others if other.model == configuration.model]
    own = configuration.settings
    differing = [
        f"{name} {_setting(own[name])}"
        for name in own
        if any(name not in other or other[name] != own[name] for other in model)
    ]
    return ", ".join(differing) or UNKNOWN


def _setting(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else json.dumps(to_plain(value))
    text = text.strip('"')
    return text if len(text) <= _MAX_VALUE_CHARS else f"...{text[-_MAX_VALUE_CHARS:]}"


def line_of(configuration: ConfigurationResults) -> dict[str, Any]:
    """Return a configuration's names, counts, and the mean and SD of every metric."""
    origin = configuration.origin
    metrics = sorted({name for result in configuration.completed for name in result.metrics})
    return {
        "name": configuration.name,
        "model": configuration.model,
        "config_hash": configuration.config_hash,
        "data_fingerprint": origin.data_fingerprint,
        "code_version": origin.code_version,
        "num_seeds": len(configuration.completed),
        "num_failed": configuration.count("failed"),
        "num_pruned": configuration.count("pruned"),
        "seeds": " ".join(result.seed for result in configuration.completed),
        **{f"{name}_mean": configuration.mean(name) for name in metrics},
        **{f"{name}_sd": configuration.sd(name) for name in metrics},
    }


def _csv_line(configuration: ConfigurationResults) -> dict[str, str]:
    settings = configuration.settings
    config = json.dumps(to_plain(settings), sort_keys=True, separators=(",", ":"))
    line = {name: _csv_cell(value) for name, value in line_of(configuration).items()}
    names = {name: line.pop(name) for name in _NAME_COLUMNS}
    learning_rate = str(settings.get("learning_rate", ""))
    return {**names, "config": config, "learning_rate": learning_rate, **line}


def _csv_cell(value: Any) -> str:
    if value is None or isinstance(value, float):
        return f"{value:.6g}" if is_number(value) else ""
    return str(value)


def _number(value: float | None) -> str:
    return f"{value:.4f}" if is_number(value) else "-"
