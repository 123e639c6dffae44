"""A sweep's records as tables for pandas."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from sg_ray.records.leaderboard import Row
from sg_ray.records.record import RunRecord
from sg_ray.report.text.columns import flat
from sg_ray.sweep_folder import TEST_PREDICTIONS, VALID_PREDICTIONS, SweepFolder
from sg_ray.training.predictions import Predictions, read_predictions

TRIAL = ["trial_key", "name", "model", "family", "config_hash", "seed"]
"""What tells a trial in every table that has trials."""

_SPLITS = {"valid": VALID_PREDICTIONS, "test": TEST_PREDICTIONS}

Metrics = Mapping[str, float | None]


def leaderboard_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Return a line for each ranked configuration; see ``SweepResults.leaderboard``."""
    columns = [
        "rank",
        "name",
        "model",
        "family",
        "config_hash",
        "num_seeds",
        "num_failed",
        "is_floor",
        "dropped_after",
    ]
    return _frame([_leaderboard_line(row) for row in rows], columns)


def trials_frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Return a line for each trial on record; see ``SweepResults.trials``."""
    columns = [*TRIAL, "stage", "status", "best_epoch", "epochs", "train_time_s", "failure"]
    return _frame([_trial_line(record) for record in records], columns)


def seeds_frame(rows: Iterable[Row], records: Iterable[RunRecord]) -> pd.DataFrame:
    """Return a line for each seed of the ranked configurations; see ``SweepResults.seeds``."""
    newest = {
        (record.model, record.config_hash, record.seed): record
        for record in records  # oldest first
        if record.counts_as_seed and record.status != "pruned"
    }
    lines = [
        {"rank": row.rank, **_identity(record), "status": record.status, **_numbers(record.metrics)}
        for row in rows
        for seed in sorted((*row.seeds, *row.failed_seeds))
        if (record := newest.get((row.model, row.config_hash, seed))) is not None
    ]
    return _frame(lines, ["rank", *TRIAL, "status"])


def curves_frame(trials: Iterable[tuple[Mapping[str, Any], Iterable[Metrics]]]) -> pd.DataFrame:
    """Return a line for each epoch of trials, each given as what tells it and its epochs."""
    lines = [{**trial, **_numbers(epoch)} for trial, epochs in trials for epoch in epochs]
    frame = _frame(lines, [*TRIAL, "stage", "epoch"])
    return frame.astype({"epoch": int})


def curve_of(record: RunRecord) -> tuple[dict[str, Any], Sequence[Metrics]]:
    """Return what tells a trial, and its epochs."""
    return {**_identity(record), "stage": record.stage}, record.history


def predictions_frame(folder: SweepFolder, records: Iterable[RunRecord]) -> pd.DataFrame:
    """Return a line for each function and trial; see ``SweepResults.predictions``."""
    frames = list(_predictions(folder, records))
    columns = [*TRIAL, "split", "sample", "sample_id", "label", "probability"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _predictions(folder: SweepFolder, records: Iterable[RunRecord]) -> Iterator[pd.DataFrame]:
    for record in records:
        for split, name in _SPLITS.items():
            found = read_predictions(folder.trial(record.trial_key) / name)
            if found is not None:
                yield _predicted(record, split, found)


def _predicted(record: RunRecord, split: str, predictions: Predictions) -> pd.DataFrame:
    return pd.DataFrame(
        {
            **_identity(record),
            "split": split,
            "sample": range(len(predictions.labels)),
            "sample_id": predictions.sample_ids,
            "label": predictions.labels,
            "probability": predictions.probabilities,
        }
    )


def _leaderboard_line(row: Row) -> dict[str, Any]:
    numbers = {
        **{f"{metric}_mean": value for metric, value in row.means.items()},
        **{f"{metric}_sd": value for metric, value in row.sds.items()},
        **row.test,
    }
    return {
        "rank": row.rank,
        "name": row.configuration.name,
        "model": row.model,
        "family": row.configuration.family,
        "config_hash": row.config_hash,
        "num_seeds": len(row.seeds),
        "num_failed": len(row.failed_seeds),
        "is_floor": row.is_floor,
        "dropped_after": float("nan") if row.dropped is None else row.dropped.after_seeds,
        **_numbers(dict(sorted(numbers.items()))),
        **flat(row.configuration.values, "config."),
    }


def _trial_line(record: RunRecord) -> dict[str, Any]:
    failure = record.failure
    return {
        **_identity(record),
        "stage": record.stage,
        "status": record.status,
        "best_epoch": _number(record.best_epoch),
        "epochs": record.epochs,
        "train_time_s": record.train_time_s,
        "failure": "" if failure is None else f"{failure.kind}: {failure.message}",
        **_numbers(record.metrics),
        **flat(record.configuration.values, "config."),
    }


def _identity(record: RunRecord) -> dict[str, Any]:
    return {
        "trial_key": record.trial_key,
        "name": record.configuration.name,
        "model": record.model,
        "family": record.configuration.family,
        "config_hash": record.config_hash,
        "seed": record.seed,
    }


def _numbers(metrics: Metrics) -> dict[str, float]:
    return {name: _number(value) for name, value in metrics.items()}


def _number(value: float | None) -> float:
    """Return a number that pandas can compute with, NaN for none."""
    return float("nan") if value is None else float(value)


def _frame(lines: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Return lines as a table that begins with ``columns``, which it has without lines, too."""
    others = dict.fromkeys(name for line in lines for name in line if name not in columns)
    return pd.DataFrame(lines, columns=[*columns, *others])
