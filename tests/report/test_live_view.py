import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sample_sweep import OBJECTIVE, write_sample_sweep

from sg_ray.live.progress import Progress
from sg_ray.live.view import LiveView
from sg_ray.records.events import (
    Event,
    JobLost,
    LearningRateFound,
    NodeReported,
    StageStarted,
    SweepWaiting,
    TrialFinished,
    TrialStarted,
    WinnerTested,
)
from sg_ray.records.journal import read_events

ROOT = Path(__file__).parents[2]
REPLAY = """
import sys
from pathlib import Path
from sg_ray.live.view import LiveView
from sg_ray.records.events import SweepFinished, TrialFinished, TrialStarted
from sg_ray.records.journal import read_events

with LiveView("val_roc_auc") as view:
    for event in read_events(Path(sys.argv[1])):
        view(event)
    of = {"model": "caf\\u00e9", "family": "gnn", "stage": "search", "config_hash": "\\u2713"}
    view(TrialStarted(at_ms=1, trial_key="x", **of, config={}, seed=1))
    view(TrialFinished(at_ms=2, trial_key="x", status="failed", epochs=0, metrics={}))
    if len(sys.argv) > 2:
        sys.stdin.readline()
        view(SweepFinished(at_ms=1, status="completed"))
print("went on", file=sys.stderr)
"""


@pytest.fixture
def journal_path(tmp_path) -> Path:
    write_sample_sweep(tmp_path)
    return tmp_path / "events.jsonl"


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **changes}


def started(key: str, at_ms: int = 0, **changes: Any) -> TrialStarted:
    facts = {
        "model": "gnn",
        "family": "gnn",
        "stage": "search",
        "config": {},
        "config_hash": "ab12cd34",
        "seed": 42,
        **changes,
    }
    return TrialStarted(at_ms=at_ms, trial_key=key, **facts)


def finished(key: str, at_ms: int, status: str = "completed", value: float | None = 0.7) -> Event:
    metrics = {OBJECTIVE: value}
    return TrialFinished(at_ms=at_ms, trial_key=key, status=status, epochs=1, metrics=metrics)


def stage(num_trials: int) -> Event:
    return StageStarted(model="gnn", stage="search", num_trials=num_trials)


def told(*events: Event) -> Progress:
    progress = Progress(OBJECTIVE)
    for event in events:
        progress.apply(event)
    return progress


def test_progress_counts_each_trial_once():
    progress = told(stage(3), started("a"), started("b"), finished("a", 5), finished("a", 6))
    assert (progress.num_finished, progress.num_planned) == (1, (3, 3))
    assert dict(progress.outcomes("gnn")) == {"completed": 1}
    assert [trial.status for trial in progress.running("gnn")] == ["running"]


def test_the_best_value_is_a_number_of_a_completed_trial():
    events = [
        finished("a", 1, value=None),
        finished("b", 2, value=0.6),
        finished("c", 3, value=0.5),
    ]
    events += [started("d"), finished("d", 4, "failed", value=0.9)]
    assert told(started("a"), started("b"), started("c"), *events).best == {"gnn": 0.6}


def test_a_resumed_trial_is_timed_from_its_second_start():
    progress = told(stage(2), started("a", at_ms=0))
    progress.interrupt()
    progress.apply(started("a", at_ms=1_000_000))
    progress.apply(finished("a", 1_004_000))
    assert progress.durations_s == {"gnn": [4.0]}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["file", "debugged terminal"])
def test_plain_lines_for_stages_and_trials_but_not_epochs(journal_path, stream):
    redraws = not stream.isatty()
    with LiveView(OBJECTIVE, stream=stream, clock=Clock(), redraws=redraws) as view:
        for event in read_events(journal_path):
            view(event)
    lines = stream.getvalue().splitlines()
    assert lines.count("[0:00:00] stage search gnn, 6 trials") == 1
    assert "[0:00:00] stage lr_range gnn" in lines
    assert any(line.startswith("  learning rate of fusion: 1.00e-03 (default)") for line in lines)
    assert "[0:00:00] sweep completed" in lines
    assert any("test split, fusion: test_f1 0.7320" in line for line in lines)
    assert not any("epoch" in line for line in lines)


def test_lines_are_throttled_but_failures_always_show():
    clock, stream = Clock(), io.StringIO()
    view = LiveView(OBJECTIVE, stream=stream, clock=clock)
    for number in range(50):
        view(started(f"t{number}"))
        view(finished(f"t{number}", 1, "failed" if number == 30 else "completed"))
    clock.now_s = 5.0
    view(started("last"))
    view(finished("last", 1))
    lines = stream.getvalue().splitlines()
    assert ["1/" in lines[0], "failed" in lines[1], "51/" in lines[2]] == [True] * 3
    assert ["more)" in lines[0], "(and 29 more)" in lines[1], "(and 19 more)" in lines[2]] == [
        False,
        True,
        True,
    ]
    assert len(lines) == 3


def test_a_code_page_without_unicode_is_enough(journal_path):
    command = [sys.executable, "-c", REPLAY, str(journal_path)]
    done = subprocess.run(
        command, env=environment(PYTHONIOENCODING="cp1252"), capture_output=True, check=True
    )
    assert done.stdout.isascii()
    assert b"caf\\xe9" in done.stdout
    assert done.stderr == b"went on\n"


def test_a_reader_that_goes_away_does_not_stop_the_sweep(journal_path):
    command = [sys.executable, "-c", REPLAY, str(journal_path), "wait"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=environment(), stdin=pipe, stdout=pipe, stderr=pipe
    ) as child:
        assert child.stdout.readline()
        child.stdout.close()
        time.sleep(0.1)
        child.stdin.write(b"\n")
        child.stdin.close()
        assert child.stderr.read() == b"went on\n"
        assert child.wait() == 0


def shown_on_a_terminal(journal_path: Path, **settings: str) -> bytes:
    leader, follower = os.openpty()
    command = [sys.executable, "-c", REPLAY, str(journal_path)]
    child = subprocess.Popen(
        command, env=environment(**settings), stdout=follower, stderr=subprocess.DEVNULL
    )
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 65536):
            shown += chunk
    except OSError:
        pass  # the other end is closed
    finally:
        os.close(leader)
    assert child.wait() == 0
    return shown


def test_a_terminal_gets_a_table(journal_path):
    shown = shown_on_a_terminal(
        journal_path, PYTHONIOENCODING="cp1252", TERM="xterm", COLUMNS="100"
    )
    assert shown.isascii()
    assert b"| transformer |" in shown
    assert b"best val_roc_auc" in shown


@pytest.mark.parametrize(("columns", "term"), [("20", "xterm"), ("100", "dumb")])
def test_e08_a_terminal_without_room_for_a_table_gets_lines(journal_path, columns, term):
    lines = shown_on_a_terminal(journal_path, TERM=term, COLUMNS=columns).splitlines()
    assert any(line.startswith(b"  learning rate of fusion: 1.00e-03 (default)") for line in lines)


def test_e05_a_full_disk_below_the_log_is_noted_and_stops_nothing(journal_path):
    with Path("/dev/full").open("w") as full, LiveView(OBJECTIVE, stream=full) as view:
        for event in read_events(journal_path):
            view(event)
        assert isinstance(view.stream.failure, OSError)
        os.write(full.fileno(), b"what Python flushes at its end goes nowhere")


def test_a_trial_that_varies_one_stream_is_named_and_is_not_the_best():
    varied = started("b", 1, stage="variance", streams={"init": 7})
    progress = told(started("a"), finished("a", 1, value=0.7), varied, finished("b", 2, value=0.9))
    assert progress.trials["b"].name == "gnn ab12cd34-seed42-init7"
    assert progress.best == {"gnn": 0.7}
    assert progress.num_finished == 2


def lines_of(*events: Event) -> list[str]:
    stream = io.StringIO()
    with LiveView(OBJECTIVE, stream=stream) as view:
        for event in events:
            view(event)
    return stream.getvalue().splitlines()


def test_the_score_on_test_says_of_how_many_seeds_it_is_and_that_the_floor_is_above():
    tested = WinnerTested(model="gnn", metrics={"test_f1": 0.5}, num_seeds=5, is_below_floor=True)
    (line,) = lines_of(tested)
    assert "test split, gnn (means over 5 seeds): test_f1 0.5000" in line
    assert "the floor is ranked above it" in line
    alone = tested.model_copy(update={"num_seeds": 1, "is_below_floor": False})
    assert lines_of(alone) == ["  test split, gnn: test_f1 0.5000"]


def test_a_learning_rate_by_default_says_why():
    rate = {"model": "gnn", "learning_rate": 1e-3, "curve": []}
    (line,) = lines_of(
        LearningRateFound(**rate, source="default", reason="RuntimeError: out of memory\nat 0x1")
    )
    assert line.startswith("  learning rate of gnn: 1.00e-03 (default)")
    assert line.endswith("RuntimeError: out of memory")
    found = LearningRateFound(**rate, source="range test")
    assert lines_of(found) == ["  learning rate of gnn: 1.00e-03 (range test)"]


def test_the_best_of_a_line_is_said_to_be_of_one_trial():
    lines = lines_of(stage(1), started("a"), finished("a", 1))
    assert "best single trial gnn 0.7000" in lines[1]


LOST = {"name": "gnn-ab12cd34-seed42", "reason": "out of memory"}
WAITS = {"wait_s": 120, "reason": "Ray has no room for one (0 of 4 CPUs are free)"}


def test_c12_what_was_lost_and_what_is_waited_for_is_told():
    stream = io.StringIO()
    with LiveView(OBJECTIVE, stream=stream) as view:
        view(stage(3))
        view(JobLost(at_ms=1, trial_key="a", **LOST))
        view(SweepWaiting(at_ms=2, **WAITS))
    assert stream.getvalue().splitlines()[-2:] == [
        "  gnn-ab12cd34-seed42 was lost, and is tried again: out of memory",
        "  no trial has begun for 0:02:00: Ray has no room for one (0 of 4 CPUs are free)",
    ]


def test_c12_a_node_that_is_lost_or_not_used_is_told_with_where_a_job_was_lost():
    lost = JobLost(at_ms=1, trial_key="a", host="w1 (10.0.0.2)", **LOST)
    node = {"host": "w1 (10.0.0.2)"}
    assert lines_of(
        lost,
        NodeReported(news="lost", **node),
        NodeReported(news="joined", **node),
        NodeReported(news="avoided", reason="w1 (10.0.0.2) has other code.", **node),
        NodeReported(news="noted", reason="torch for CPUs there.", **node),
    ) == [
        "  gnn-ab12cd34-seed42 was lost on w1 (10.0.0.2), and is tried again: out of memory",
        "  node w1 (10.0.0.2) is gone: what ran there is tried again elsewhere",
        "  node w1 (10.0.0.2) joined, and passed its check",
        "  node w1 (10.0.0.2) is not used: w1 (10.0.0.2) has other code.",
        "  node w1 (10.0.0.2): torch for CPUs there.",
    ]


def test_c12_a_lost_job_is_told_above_the_table():
    stream = Terminal()
    with LiveView(OBJECTIVE, stream=stream) as view:
        view(stage(3))
        view(JobLost(at_ms=1, trial_key="a", **LOST))
    shown = stream.getvalue()
    assert "gnn-ab12cd34-seed42 was lost, and is tried again: out of memory" in shown
    assert "model" in shown


def test_c12_it_is_waited_until_something_happens():
    waits = SweepWaiting(at_ms=2, **WAITS)
    assert told(stage(3), waits).waiting == (120, WAITS["reason"])
    assert told(stage(3), waits, started("a", 3)).waiting is None
