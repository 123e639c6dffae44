"""The journal: each thing said once, whatever was killed when."""

import json
from pathlib import Path

from sg_ray.sweep.events import Event, Journal, read_events


def test_events_come_back_as_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    journal.append("epoch", "key", epoch=1, metrics={"val_f1": float("nan"), "val_loss": 0.5})
    journal.close()
    (event,) = read_events(tmp_path / "events.jsonl")
    assert event.trial_key == "key"
    assert event.data == {"epoch": 1, "metrics": {"val_f1": None, "val_loss": 0.5}}
    assert event.at_ms > 1_600_000_000_000


def test_what_happened_once_is_said_once_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for value in (0.1, 0.2):
        journal = Journal(path)
        journal.append("sweep_started", name="a", plan={})
        journal.append("trial_started", "key", seed=1)
        journal.append("epoch", "key", epoch=1, metrics={"val_f1": value})
        journal.append("epoch", "other", epoch=1, metrics={})
        journal.append("stage", family="gnn", stage="search", num_trials=1)
        journal.close()
    events = list(read_events(path))
    types = [event.type for event in events]
    assert types.count("sweep_started") == 1
    assert types.count("trial_started") == 1
    assert types.count("epoch") == 2
    assert types.count("stage") == 2
    assert events[2].data["metrics"] == {"val_f1": 0.1}


def test_a_line_torn_by_a_kill_is_dropped_and_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    journal = Journal(path)
    journal.append("trial_started", "a", seed=1)
    journal.append("trial_started", "b", seed=1)
    journal.close()
    path.write_bytes(path.read_bytes()[:-7])
    assert [event.trial_key for event in read_events(path)] == ["a"]
    journal = Journal(path)
    journal.append("trial_started", "b", seed=1)
    journal.close()
    assert [json.loads(line)["trial_key"] for line in path.read_text().splitlines()] == ["a", "b"]


def test_listeners_hear_repeats_too(tmp_path: Path) -> None:
    heard: list[Event] = []
    journal = Journal(tmp_path / "events.jsonl", (heard.append,))
    journal.append("trial_started", "a", seed=1)
    journal.append("trial_started", "a", seed=1)
    journal.close()
    assert len(heard) == 2
