"""The journal: each thing said once, whatever was killed when."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from tiny_sweep import tiny_experiment

from sg_ray.data.sources import load_data
from sg_ray.records.events import (
    DataChecked,
    EpochEnded,
    Event,
    EventBase,
    LearningRateFound,
    StageStarted,
    SweepFinished,
    SweepRanked,
    SweepStarted,
    TrainingFinished,
    TrialEvent,
    TrialFinished,
    TrialStarted,
)
from sg_ray.records.journal import Journal, parse_event, read_events
from sg_ray.sweep.run import run_sweep


def test_events_come_back_as_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    journal.append(
        EpochEnded(trial_key="key", epoch=1, metrics={"val_f1": float("nan"), "val_loss": 0.5})
    )
    journal.close()
    (event,) = read_events(tmp_path / "events.jsonl")
    assert event.trial_key == "key"
    assert (event.epoch, event.metrics) == (1, {"val_f1": None, "val_loss": 0.5})
    assert event.at_ms > 1_600_000_000_000


def test_what_happened_once_is_said_once_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for value in (0.1, 0.2):
        journal = Journal(path)
        journal.append(SweepStarted(name="a", plan={}, sweep_id="5eed5eed5eed5eed"))
        journal.append(trial_started("key"))
        journal.append(EpochEnded(trial_key="key", epoch=1, metrics={"val_f1": value}))
        journal.append(EpochEnded(trial_key="other", epoch=1, metrics={}))
        journal.append(StageStarted(model="gnn", stage="search", num_trials=1))
        journal.close()
    events = list(read_events(path))
    types = [event.type for event in events]
    assert types.count("sweep_started") == 1
    assert types.count("trial_started") == 1
    assert types.count("epoch") == 2
    assert types.count("stage") == 2
    assert events[2].metrics == {"val_f1": 0.1}


def test_a_line_torn_by_a_kill_is_dropped_and_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    journal = Journal(path)
    journal.append(trial_started("a"))
    journal.append(trial_started("b"))
    journal.close()
    path.write_bytes(path.read_bytes()[:-7])
    assert [event.subject for event in read_events(path)] == ["a"]
    journal = Journal(path)
    journal.append(trial_started("b"))
    journal.close()
    assert [json.loads(line)["trial_key"] for line in path.read_text().splitlines()] == ["a", "b"]


def test_listeners_hear_repeats_too(tmp_path: Path) -> None:
    heard: list[Event] = []
    journal = Journal(tmp_path / "events.jsonl", (heard.append,))
    journal.append(trial_started("a"))
    journal.append(trial_started("a"))
    journal.close()
    assert len(heard) == 2


RATE = {"model": "gnn", "learning_rate": 1e-3, "curve": []}
ENDED = {"trial_key": "a", "epochs": 1, "metrics": {}}
LEVELS: dict[str, list[Event]] = {
    "info": [
        SweepStarted(name="a", sweep_id="1", plan={"status": "failed"}),
        EpochEnded(trial_key="a", epoch=1, metrics={}),
        TrialFinished(status="completed", **ENDED),
        TrialFinished(status="pruned", **ENDED),
        LearningRateFound(source="cache", **RATE),
        SweepFinished(status="completed"),
        TrainingFinished(trial_key="a", status="completed"),
    ],
    "warning": [
        LearningRateFound(source="default", **RATE),
        SweepFinished(status="interrupted"),
        TrainingFinished(trial_key="a", status="interrupted"),
    ],
    "error": [
        TrialFinished(status="failed", **ENDED),
        SweepRanked(status="failed"),
        SweepFinished(status="failed"),
        TrainingFinished(trial_key="a", status="failed"),
    ],
}


@pytest.mark.parametrize(
    ("level", "event"), [(level, event) for level, events in LEVELS.items() for event in events]
)
def test_each_line_says_how_loud_it_is(tmp_path: Path, level: str, event: Event) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    journal.append(event)
    journal.close()
    line = json.loads(journal.path.read_text())
    assert line["level"] == level
    (found,) = read_events(journal.path)
    assert found == event.model_copy(update={"at_ms": found.at_ms})


ALL_TYPES = get_args(get_args(Event)[0])


def test_every_type_of_event_is_described_and_known_by_one_name() -> None:
    assert len(ALL_TYPES) > 15
    assert len({each.model_fields["type"].default for each in ALL_TYPES}) == len(ALL_TYPES)
    for each in ALL_TYPES:
        assert each.__doc__ not in (None, EventBase.__doc__, TrialEvent.__doc__)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"type": "unheard_of"}, "type is unknown"),
        ({"epoch": None}, "epoch"),
        ({"metrics": [1]}, "metrics"),
        ({"metrics": {"val_f1": "0.5"}}, "val_f1"),
        ({"odd": 1}, "odd is unknown"),
        ({"at_ms": 10**15}, "at_ms"),
    ],
)
def test_a_line_that_says_something_else_is_passed_over_with_a_word(
    tmp_path: Path, change: dict[str, Any], word: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "events.jsonl"
    whole = json.loads(EpochEnded(trial_key="a", epoch=1, metrics={}).as_line())
    path.write_text("".join(json.dumps(line) + "\n" for line in (whole, {**whole, **change})))
    assert len(list(read_events(path, tell=True))) == 1
    assert "line 2" in caplog.text
    assert word in caplog.text
    assert parse_event(json.dumps({**whole, **change}).encode()) is None


def trial_started(key: str) -> TrialStarted:
    facts = {"model": "gnn", "family": "gnn", "stage": "search", "config": {}, "config_hash": "c"}
    return TrialStarted(trial_key=key, seed=1, **facts)


def test_secrets_are_neither_written_nor_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    heard: list[Event] = []
    journal = Journal(tmp_path / "events.jsonl", (heard.append,))
    plan = {"tracking": {"uri": "mysql://ada:s3cr3t@db/m"}, "cache_dir": Path("/home/ada/.cache")}
    journal.append(SweepStarted(name="a", plan=plan, sweep_id="5eed5eed5eed5eed"))
    journal.append(DataChecked(notes=["/home/ada/d: ?token=s3cr3t"], fingerprint="d" * 16))
    journal.close()
    written = journal.path.read_text()
    assert "s3cr3t" not in written
    assert "/home/ada" not in written
    assert list(read_events(journal.path)) == heard
    assert heard[0].plan == {
        "tracking": {"uri": "mysql://ada:***@db/m"},
        "cache_dir": "~/.cache",
    }
    assert heard[1].notes == ["~/d: ?token=***"]


NUM_CHARS = 40


@pytest.mark.slow
def test_no_sample_is_quoted_in_what_a_sweep_says(ray_session: None, tmp_path: Path) -> None:
    experiment = tiny_experiment(
        tmp_path,
        "models.gnn.config.precision=fp16",  # needs a GPU: failures are told as well
        families=["transformer", "gnn"],
        lr_range={"enabled": True, "num_steps": 10, "cache_dir": str(tmp_path / "lr")},
        search={"num_trials": 1},
        replicate={"seeds": [42]},
    )
    assert run_sweep(experiment).problems != []
    pieces = {
        piece
        for samples in load_data(experiment.data).splits.values()
        for sample in samples
        for piece in _pieces(sample.source)
    }
    journal = experiment.folder.path / "events.jsonl"
    assert {"error", "info"} <= {event.level for event in read_events(journal)}
    told = [
        journal,
        experiment.folder.path / "ray.log",
        *experiment.folder.path.glob("records/*.json"),
    ]
    assert len(told) > 3
    for path in told:
        quoted = [p for line in path.read_text().splitlines() for p in _pieces_told(line)]
        assert pieces.isdisjoint(quoted), path
    (sample, *_) = load_data(experiment.data).splits["train"]
    quoting = json.dumps({"message": [f"cannot parse: {sample.source}"]})
    assert not pieces.isdisjoint(_pieces_told(quoting)), "the test itself would see a quotation"


def _pieces(text: str) -> Iterator[str]:
    """Every run of 40 characters, whatever the white space."""
    text = "".join(text.split())
    return (text[start : start + NUM_CHARS] for start in range(len(text) - NUM_CHARS + 1))


def _pieces_told(line: str) -> Iterator[str]:
    """Pieces of a line as it is, with JSON's escapes undone."""
    yield from _pieces(line.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"'))
