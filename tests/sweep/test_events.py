"""The journal: each thing said once, whatever was killed when."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_sweep import tiny_experiment

from sg_ray.data.sources import load_data
from sg_ray.files import content_hash
from sg_ray.records.journal import Event, Journal, read_events
from sg_ray.sweep.run import run_sweep


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


LEVELS = {
    "info": [
        ("sweep_started", {"name": "a", "plan": {"status": "x"}}),
        ("epoch", {"epoch": 1, "metrics": {}}),
        ("trial_finished", {"status": "completed"}),
        ("trial_finished", {"status": "pruned"}),
        ("lr_range", {"family": "gnn", "source": "cache"}),
        ("sweep_finished", {"status": "completed"}),
    ],
    "warning": [
        ("trial_finished", {"status": "collapsed"}),
        ("trial_finished", {"status": "interrupted"}),
        ("lr_range", {"family": "gnn", "source": "default"}),
        ("sweep_finished", {"status": "interrupted"}),
    ],
    "error": [
        ("trial_finished", {"status": "failed"}),
        ("ranked", {"status": "failed"}),
        ("sweep_finished", {"status": "failed"}),
    ],
}


@pytest.mark.parametrize(
    ("level", "type", "data"),
    [(level, *event) for level, events in LEVELS.items() for event in events],
)
def test_each_line_says_how_loud_it_is(
    tmp_path: Path, level: str, type: str, data: dict[str, Any]
) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    journal.append(type, "key", **data)
    journal.close()
    line = json.loads(journal.path.read_text())
    assert line["level"] == level
    (event,) = read_events(journal.path)
    assert event.level == level


def test_lines_of_earlier_versions_are_read_and_mean_the_same(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    line = {"at_ms": 5, "type": "trial_finished", "trial_key": "a", "data": {"status": "failed"}}
    path.write_text(json.dumps(line) + "\n")
    Journal(path).close()
    (event,) = read_events(path)
    assert (event.level, event.at_ms) == ("error", 5)
    assert content_hash(event) == content_hash(line), "by which MLflow knows the sweep"
    path.write_text(event.as_line())
    assert list(read_events(path)) == [event]


def test_secrets_are_neither_written_nor_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    heard: list[Event] = []
    journal = Journal(tmp_path / "events.jsonl", (heard.append,))
    plan = {"tracking": {"uri": "mysql://ada:s3cr3t@db/m"}, "cache_dir": Path("/home/ada/.cache")}
    journal.append("sweep_started", name="a", plan=plan)
    journal.append("data_checked", notes=["/home/ada/d: ?token=s3cr3t"])
    journal.close()
    written = journal.path.read_text()
    assert "s3cr3t" not in written
    assert "/home/ada" not in written
    assert list(read_events(journal.path)) == heard
    assert heard[0].data["plan"] == {
        "tracking": {"uri": "mysql://ada:***@db/m"},
        "cache_dir": "~/.cache",
    }
    assert heard[1].data["notes"] == ["~/d: ?token=***"]


NUM_CHARS = 40


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
