"""The clock is set back between a sweep's start and its resume: nothing is lost or out of order."""

import json
import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from small_sweeps import DATABASE, INLINE, SWEEP, query, records, repeated_points, run_statuses

from sg_ray.cli import main
from sg_ray.config import LrRangeSettings
from sg_ray.configuration import Configuration
from sg_ray.records import lr_cache
from sg_ray.records.events import SweepFinished, SweepResumed, SweepStarted
from sg_ray.records.journal import Journal, read_events
from sg_ray.records.record import read_records
from sg_ray.sweep_folder import SweepFolder
from sg_ray.trial.spec import TrialSpec

DAY_MS = 86_400_000


def set_back_a_day(sweep_dir: Path) -> None:
    """Make all that the sweep wrote down a day younger, as if the clock had been wrong then."""
    journal = sweep_dir / "events.jsonl"
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    for event in events:
        event["at_ms"] += DAY_MS
    journal.write_text("".join(json.dumps(event) + "\n" for event in events))
    for path in (sweep_dir / "records").iterdir():
        record = json.loads(path.read_text())
        record["started_at_ms"] += DAY_MS
        record["finished_at_ms"] += DAY_MS
        path.write_text(json.dumps(record))


@pytest.mark.slow
def test_a_sweep_goes_on_before_it_began(swept: Path, begin: Callable[[Path], None]) -> None:
    set_back_a_day(swept / SWEEP)
    (swept / SWEEP / "tracking.json").unlink()
    begin(swept)  # an empty store: it is told of the past as well
    assert main(["extend", "tiny", "seeds=[3]", *INLINE]) == 0

    times = [event.at_ms for event in read_events(SWEEP / "events.jsonl")]
    assert times == sorted(times)
    assert len(records(SWEEP)) == len(read_records(SweepFolder(SWEEP))) == 7
    assert run_statuses(DATABASE) == {"FINISHED": 8}
    assert repeated_points(DATABASE) == []
    assert query(DATABASE, "select name from runs where end_time < start_time") == []
    epochs = query(
        DATABASE,
        "select run_uuid, count(*) from metrics where key = 'val_roc_auc' group by run_uuid",
    )
    assert sorted(num for _, num in epochs) == [1, 1, 1, 4, 4, 4, 4]
    # MLflow shows the latest point, and the latest is of the extended sweep.
    shown = query(DATABASE, "select value from latest_metrics where key = 'gnn/val_roc_auc_mean'")
    with (SWEEP / "leaderboard.csv").open() as file:
        header, *rows = (line.rstrip("\n").split(",") for line in file)
    row = next(row for row in rows if row[header.index("model")] == "gnn")
    assert shown == [(float(row[header.index("val_roc_auc_mean")]),)]


def set_clock(monkeypatch: pytest.MonkeyPatch, hour: int) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: hour * 3_600_000_000_000)


def test_events_of_one_journal_never_go_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for hour in (3, 1, 2):
        set_clock(monkeypatch, hour)
        journal = Journal(tmp_path / "events.jsonl")
        journal.append(SweepResumed())
        journal.append(SweepResumed())
        journal.close()
    times = [event.at_ms for event in read_events(tmp_path / "events.jsonl")]
    assert times == sorted(set(times))
    assert 10_800_000 <= times[0] <= times[-1] < 10_800_000 + 600_000


def test_e09_durations_are_true_after_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, 30)
    with closing(Journal(tmp_path / "events.jsonl")) as journal:
        journal.append(SweepStarted(name="tiny", sweep_id="5eed5eed5eed5eed", plan={}))
    set_clock(monkeypatch, 6)
    journal = Journal(tmp_path / "events.jsonl")
    journal.append(SweepResumed())
    set_clock(monkeypatch, 2)  # and again in the middle
    time.sleep(0.2)
    journal.append(SweepFinished(status="completed"))
    journal.close()
    *_, resumed, finished = (event.at_ms for event in read_events(tmp_path / "events.jsonl"))
    assert resumed >= 30 * 3_600_000
    assert finished - resumed >= 200


@pytest.mark.parametrize(("age_s", "is_used"), [(60, True), (-3600, False), (8 * 86_400, False)])
def test_a_range_test_from_the_future_is_not_used(
    tmp_path: Path, age_s: int, is_used: bool
) -> None:
    spec = TrialSpec(
        configuration=Configuration(model="gnn", family="gnn", values={}),
        seed=1, objective="val_f1", data_fingerprint="d", code_version="c",
    )  # fmt: skip
    settings = LrRangeSettings(cache_dir=tmp_path)
    lr_cache.write(settings, spec, {"suggestion": 0.1, "reason": None, "curves": []})
    (path,) = tmp_path.iterdir()
    os.utime(path, (time.time() - age_s,) * 2)
    assert (lr_cache.read(settings, spec) is not None) == is_used
