"""Mean, standard deviation and single seeds of any folder of trials, as a text table."""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sg_ray.errors import InputError
from sg_ray.files import content_hash
from sg_ray.sweep.leaderboard import is_number
from sg_ray.sweep.records import RunRecord, read_records

METADATA = "training_metadata.json"
SHOWN_METRICS = ("val_roc_auc", "val_f1", "val_accuracy", "val_mcc", "val_loss", "best_val_f1")


@dataclass(frozen=True)
class TrialResult:
    """What one trial (one configuration x one seed) came to; ``status`` as in its record."""

    family: str
    config_hash: str
    seed: str
    status: str
    metrics: Mapping[str, float | None]


def summary(folder: Path) -> str:
    """Return a table of every trial under ``folder``, with mean and SD per configuration.

    ``folder`` is a sweep's folder, or any folder that holds ``training_metadata.json`` files at
    any depth. The SD is the sample standard deviation (n - 1) over completed seeds.
    Raises InputError if there is neither.
    """
    groups: dict[tuple[str, str], list[TrialResult]] = defaultdict(list)
    for result in read_results(folder):
        groups[result.family, result.config_hash].append(result)
    metrics = _shown_metrics([result for group in groups.values() for result in group])
    lines = [("family", "config", "seed", *metrics)]
    for (family, config_hash), group in sorted(groups.items()):
        lines += [(family, config_hash, *cells) for cells in _group_lines(group, metrics)]
    return _aligned(lines)


def read_results(folder: Path) -> list[TrialResult]:
    """Return the trials of a sweep's folder, or those whose metadata lie under ``folder``.

    Raises InputError if there are none, or if a file cannot be read as what it should be.
    """
    if (folder / "records").is_dir():
        results = [_from_record(record) for record in read_records(folder).values()]
    else:
        _refuse_several_sweeps(folder)
        results = [_from_metadata(path) for path in sorted(folder.rglob(METADATA))]
    if not results:
        raise InputError(
            f"{folder}: holds neither run records (records/*.json) nor {METADATA} files. "
            "Name the folder of a sweep, e.g. outputs/quick, or of trials."
        )
    return results


def _refuse_several_sweeps(folder: Path) -> None:
    """A mixture of sweeps would count copies twice and compare what is not comparable."""
    sweeps = sorted(path.parent for path in folder.glob("*/sweep.yaml"))
    if sweeps:
        names = ", ".join(str(path) for path in sweeps)
        raise InputError(f"{folder}: holds several sweeps. Name one of them: {names}")


def _from_record(record: RunRecord) -> TrialResult:
    return TrialResult(
        record.family, record.config_hash, str(record.seed), record.status, record.metrics
    )


def _from_metadata(path: Path) -> TrialResult:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not valid JSON ({error}). Delete it or train again.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no JSON object. Delete it or train again.")
    metrics = {**_numbers(content), **_numbers(content.get("metrics") or {})}
    config, identity = content.get("config"), {**content, **(content.get("identity") or {})}
    return TrialResult(
        family=str(identity.get("family", path.parent.parent.name)),
        config_hash="-" if config is None else content_hash(config, 8),
        seed=str(identity.get("seed", path.parent.name)),
        status="completed",
        metrics=metrics,
    )


def _numbers(content: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        name: value
        for name, value in content.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _shown_metrics(results: Sequence[TrialResult]) -> list[str]:
    present = {name for result in results for name in result.metrics}
    if "val_f1" in present:
        present.discard("best_val_f1")
    return [name for name in SHOWN_METRICS if name in present]


def _group_lines(group: Sequence[TrialResult], metrics: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for result in sorted(group, key=lambda result: (len(result.seed), result.seed)):
        mark = "" if result.status == "completed" else f" {result.status}"
        yield (f"{result.seed}{mark}", *(_number(result.metrics.get(name)) for name in metrics))
    completed = [result for result in group if result.status == "completed"]
    columns = [[v for r in completed if is_number(v := r.metrics.get(m))] for m in metrics]
    num_failed = sum(result.status == "failed" for result in group)
    if len(completed) > 1:
        mean = f"mean of {len(completed)}, {num_failed} failed" if num_failed else "mean"
        yield (mean, *(_number(statistics.fmean(c) if c else None) for c in columns))
        yield ("sd", *(_number(statistics.stdev(c) if len(c) > 1 else None) for c in columns))


def _number(value: float | None) -> str:
    return f"{value:.4f}" if is_number(value) else "-"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
