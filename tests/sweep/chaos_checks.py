"""What must be true of a sweep that was killed many times: the same as of one that never was."""

import csv
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from tiny_sweep import read_json_records

from sg_ray.records.events import Event
from sg_ray.records.journal import read_events
from sg_ray.sweep_folder import METADATA, METRICS

Problems = Iterator[str]
"""Sentences, one a violation."""

TIME_VALUED = ("epoch_time_s", "samples_per_s")
_OF_THE_RUN = (
    *("started_at_ms", "finished_at_ms", "train_time_s", "mlflow_run_id", "origin"),
    *("trial_hours", "more_trial_hours", "hours", "sentence"),
    "host",
)
"""What may differ between two runs of one sweep, besides ``TIME_VALUED``."""

_TIMED_FILES = (METADATA, METRICS)
_MLFLOW_STATUS = {"completed": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


def violations(killed: Path, whole: Path) -> list[str]:
    """Compare the folder of a killed experiment with that of an uninterrupted one."""
    sweep, expected = killed / "outputs" / "tiny", whole / "outputs" / "tiny"
    checks = (
        _records(sweep, expected),
        _tables(sweep, expected),
        _models(sweep, expected),
        _learning_rates(sweep, expected),
        _events(sweep),
        _mlflow(killed, whole),
        _leftovers(killed, whole),
    )
    return [problem for check in checks for problem in check]


def _records(sweep: Path, expected: Path) -> Problems:
    found, wanted = (
        {record["trial_key"]: _comparable(record) for record in read_json_records(folder)}
        for folder in (sweep, expected)
    )
    if missing := wanted.keys() - found.keys():
        yield f"no record of {sorted(missing)}"
    if surplus := found.keys() - wanted.keys():
        yield f"records nobody asked for: {sorted(surplus)}"
    for key in wanted.keys() & found.keys():
        for name, value in wanted[key].items():
            if found[key].get(name) != value:
                yield f"record {key}: {name} is {found[key].get(name)!r} instead of {value!r}"


def _comparable(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _comparable(item)
            for name, item in value.items()
            if name not in (*TIME_VALUED, *_OF_THE_RUN)
        }
    return [_comparable(item) for item in value] if isinstance(value, list) else value


def _tables(sweep: Path, expected: Path) -> Problems:
    found, wanted = (_leaderboard(folder / "leaderboard.csv") for folder in (sweep, expected))
    if found != wanted:
        yield f"leaderboard.csv: {found} instead of {wanted}"
    found, wanted = (_read_json(folder / "test.json") for folder in (sweep, expected))
    if found != wanted:
        yield f"test.json: {found} instead of {wanted}"
    found, wanted = (_verdict(folder) for folder in (sweep, expected))
    if found != wanted:
        yield f"verdict.json: {found} instead of {wanted}"


def _verdict(sweep: Path) -> Any:
    """Return what it says, but for times and for the folder, which its commands name."""
    text = (sweep / "verdict.json").read_text(encoding="utf-8")
    return _comparable(json.loads(text.replace(str(sweep), "SWEEP")))


def _leaderboard(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {name: value for name, value in row.items() if not name.startswith(TIME_VALUED)}
            for row in csv.DictReader(file)
        ]


def _models(sweep: Path, expected: Path) -> Problems:
    for wanted in sorted((expected / "best").rglob("*")):
        found = sweep / "best" / wanted.relative_to(expected / "best")
        if not found.exists():
            yield f"{found} is missing"
        elif wanted.name == "model.json":
            if _card(found) != _card(wanted):
                yield f"{found} differs"
        elif wanted.suffix == ".pt":
            yield from _weights(found, wanted)
    for wanted in sorted((expected / "trials").rglob("*.npz")):
        found = sweep / "trials" / wanted.relative_to(expected / "trials")
        if not found.exists():
            yield f"{found} is missing"
        elif found.read_bytes() != wanted.read_bytes():
            yield f"{found} differs"


def _card(path: Path) -> Any:
    """Return what an exported model says of itself, but for times and files that hold some."""
    card = _comparable(_read_json(path))
    sums = card["checksums"].items()
    return {**card, "checksums": {n: crc for n, crc in sums if Path(n).name not in _TIMED_FILES}}


def _weights(found: Path, wanted: Path) -> Problems:
    state, expected = (
        torch.load(path, weights_only=True)["model_state_dict"] for path in (found, wanted)
    )
    for name, value in expected.items():
        is_equal = (
            torch.equal(state[name], value)
            if isinstance(value, torch.Tensor)
            else state[name] == value
        )
        if not is_equal:
            yield f"{found}: {name} differs"


def _learning_rates(sweep: Path, expected: Path) -> Problems:
    noted = {e.model for e in read_events(sweep / "events.jsonl") if e.type == "lr_range"}
    for path in sorted((expected / "lr_range").glob("*.json")):
        found = _read_json(sweep / "lr_range" / path.name)
        wanted = _read_json(path)
        names = ("learning_rate", "suggestion", "curve")
        if any(found[name] != wanted[name] for name in names):
            yield f"lr_range/{path.name} differs"
        if path.stem not in noted:
            yield f"the journal does not tell the learning rate of {path.stem}"


def _events(sweep: Path) -> Problems:
    events = list(read_events(sweep / "events.jsonl"))
    records = {record["trial_key"]: record for record in read_json_records(sweep)}
    for kind in ("trial_started", "trial_finished"):
        keys = Counter(event.trial_key for event in events if event.type == kind)
        if keys != Counter(records.keys()):
            yield f"{kind}: {dict(keys)} for {len(records)} trials"
    epochs = Counter((e.trial_key, e.epoch) for e in events if e.type == "epoch")
    wanted = Counter((k, row["epoch"]) for k, r in records.items() for row in r["history"])
    if epochs != wanted:
        yield f"epochs journaled but not on record, or the other way round: {epochs ^ wanted}"
    if not any(event.type == "test_scored" for event in events):
        yield "the journal does not tell the test scores"


def _mlflow(killed: Path, whole: Path) -> Problems:
    records = read_json_records(killed / "outputs" / "tiny")
    with sqlite3.connect(killed / "mlflow.db") as connection:
        runs = dict(connection.execute("select run_uuid, status from runs"))
        points = _points(connection)
    wanted = Counter([*(_MLFLOW_STATUS[r["status"]] for r in records), "FINISHED"])
    if Counter(runs.values()) != wanted:
        yield f"MLflow runs: {dict(Counter(runs.values()))} instead of {dict(wanted)}"
    if repeated := [point for point, values in points.items() if len(values) > 1]:
        yield f"MLflow has more than once: {repeated}"
    for record in records:
        run = record["mlflow_run_id"]
        if run not in runs:
            yield f"record {record['trial_key']}: MLflow run {run} does not exist"
        found = {(key, step): v for (r, key, step), v in points.items() if r == run}
        yield from _run_metrics(record, {point: values[0] for point, values in found.items()})
    yield from _summary(killed, whole)


def _points(connection: sqlite3.Connection) -> dict[tuple[str, str, int], list[float]]:
    points: dict[tuple[str, str, int], list[float]] = {}
    for run, key, step, value in connection.execute(
        "select run_uuid, key, step, value from metrics where is_nan = 0"
    ):
        points.setdefault((run, key, step), []).append(value)
    return points


def _run_metrics(record: Mapping[str, Any], found: Mapping[tuple[str, int], float]) -> Problems:
    wanted = {
        (name, int(row["epoch"])): value
        for row in record["history"]
        for name, value in row.items()
        if name != "epoch" and value is not None and isfinite(value)
    } | {
        (f"best_{name}", 0): value
        for name, value in record["metrics"].items()
        if name.startswith(("val_", "train_")) and value is not None and isfinite(value)
    }
    if found.keys() != wanted.keys():
        yield f"MLflow, {record['trial_key']}: {sorted(found.keys() ^ wanted.keys())}"
    for point in found.keys() & wanted.keys():
        # A repeated epoch keeps the times of its first run in the journal.
        is_time = point[0].removeprefix("best_") in TIME_VALUED
        if not is_time and found[point] != wanted[point]:
            yield f"MLflow, {record['trial_key']}: {point} is {found[point]}, not {wanted[point]}"


def _summary(killed: Path, whole: Path) -> Problems:
    found, wanted = (_summary_metrics(folder / "mlflow.db") for folder in (killed, whole))
    if found != wanted:
        yield f"MLflow, the sweep's run: {found} instead of {wanted}"


def _summary_metrics(database: Path) -> dict[str, float]:
    query = (
        "select metrics.key, metrics.value from metrics join tags using (run_uuid)"
        " where tags.key = 'sg_ray.kind' and tags.value = 'sweep'"
    )
    with sqlite3.connect(database) as connection:
        rows = connection.execute(query).fetchall()
    return {key: value for key, value in rows if not any(name in key for name in TIME_VALUED)}


def _leftovers(killed: Path, whole: Path) -> Problems:
    found, wanted = (_names(folder) for folder in (killed, whole))
    if surplus := found - wanted:
        yield f"left behind: {sorted(surplus)}"
    if missing := wanted - found:
        yield f"missing: {sorted(missing)}"


def _names(folder: Path) -> set[str]:
    """Return what lies in a folder, MLflow's files (named by chance) left out."""
    paths = (path.relative_to(folder) for path in folder.rglob("*"))
    return {
        str(path)
        for path in paths
        if path.parts[0] not in ("mlartifacts", "console.log")
        and not any(word in str(path) for word in ("torchinductor", ".slurm-"))
    }


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def repeated_epochs(events: list[Event]) -> int:
    """Count the epochs that were journaled and then trained again after a kill.

    A trial that goes on from a checkpoint says from where. One that had none begins anew, which
    shows when it comes to a further epoch or to its end: then all that it had done count.
    """
    done: Counter[str] = Counter()
    cut_short: Counter[str] = Counter()
    repeated = 0
    for event in events:
        key = event.subject
        match event.type:
            case "plan":
                cut_short = done.copy()
            case "job_lost":
                cut_short[key] = done[key]
            case "trial_resumed":
                repeated += max(0, done[key] - int(event.epoch))
                cut_short.pop(key, None)
            case "epoch":
                repeated += cut_short.pop(key, 0)
                done[key] = int(event.epoch)
            case "trial_finished":
                repeated += cut_short.pop(key, 0)
                done.pop(key, None)
    return repeated
