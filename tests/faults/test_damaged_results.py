"""Checkpoints and records that a disk has damaged."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from small_sweeps import (
    DATABASE,
    INLINE,
    SWEEP,
    copy_of,
    query,
    records,
    repeated_points,
    results,
    run_statuses,
)

from sg_ray.cli import main
from sg_ray.config import load_experiment
from sg_ray.records.events import Event
from sg_ray.records.journal import read_events
from sg_ray.sweep.run import run_sweep
from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.mlflow_mirror import mirror_of

Damage = Callable[[Path], None]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_bytes(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(byte ^ 0xFF for byte in content[middle : middle + 8])
    path.write_bytes(content)


class CrashError(Exception):
    """What ends the sweep below."""


@pytest.fixture(scope="module")
def broken_off(
    ray_session: None, begin: Callable[[Path], None], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A sweep that crashed in the middle of its first search trial."""
    folder = tmp_path_factory.mktemp("broken_off")
    begin(folder)

    def crash(event: Event) -> None:
        if event.type == "epoch" and event.epoch == 2:
            raise CrashError

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        experiment = load_experiment(Path("experiment.yaml"))
        with (
            mirror_of(experiment.tracking, experiment.name, experiment.folder) as mirror,
            pytest.raises(CrashError),
        ):
            run_sweep(experiment, listeners=(mirror, crash))
    return folder


def saved_positions(sweep_dir: Path) -> list[Path]:
    """Checkpoints of the trial that was training, oldest first."""
    return sorted(sweep_dir.glob("tune/attempt-001/gnn-*/checkpoint_*"))


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, flip_bytes], ids=lambda damage: damage.__name__)
def test_of_a_damaged_checkpoint_the_one_before_is_taken(
    broken_off: Path,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Damage,
) -> None:
    monkeypatch.chdir(copy_of(broken_off, tmp_path))
    older, newest = saved_positions(SWEEP)
    num_epochs = len((older / "metrics.jsonl").read_text().splitlines())
    damage(newest / "last.pt")
    assert main(["sweep", "--resume", "tiny"]) == 0
    assert resumed_from(SWEEP) == [num_epochs]
    assert results(SWEEP) == results(finished / SWEEP)
    assert run_statuses(DATABASE) == {"FINISHED": 6}
    assert repeated_points(DATABASE) == []


@pytest.mark.slow
def test_without_a_usable_checkpoint_the_trial_starts_anew(
    broken_off: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy_of(broken_off, tmp_path))
    older, newest = saved_positions(SWEEP)
    cut(newest / "last.pt")
    flip_bytes(older / "best_model.pt")
    assert main(["sweep", "--resume", "tiny"]) == 0
    assert resumed_from(SWEEP) == []
    assert results(SWEEP) == results(finished / SWEEP)
    assert run_statuses(DATABASE) == {"FINISHED": 6}
    assert repeated_points(DATABASE) == []


def resumed_from(sweep_dir: Path) -> list[int]:
    events = read_events(sweep_dir / "events.jsonl")
    return [event.epoch for event in events if event.type == "trial_resumed"]


@pytest.mark.parametrize(
    ("stage", "damage"),
    [
        ("search", cut),
        pytest.param("floor", empty, marks=pytest.mark.slow),
        pytest.param("replicate", cut, marks=pytest.mark.slow),
    ],
    ids=["search", "floor", "replicate"],
)
def test_a_torn_record_is_named_and_its_advice_works(
    swept: Path,
    finished: Path,
    stage: str,
    damage: Damage,
    capfd: pytest.CaptureFixture[str],
) -> None:
    victim = next(record for record in records(SWEEP) if record["stage"] == stage)
    path = SweepFolder(swept / SWEEP).record(victim["trial_key"])
    damage(path)
    assert main(["sweep", "--resume", "tiny", *INLINE]) == 2
    said = capfd.readouterr().err
    assert f"{path}: not a valid run record" in said
    assert "delete it to train that trial again" in said

    path.unlink()
    assert main(["sweep", "--resume", "tiny", *INLINE]) == 0
    assert results(SWEEP) == results(finished / SWEEP)
    again = json.loads(path.read_text())
    assert again["mlflow_run_id"] == victim["mlflow_run_id"]
    assert again["started_at_ms"] > victim["finished_at_ms"], "it was not trained again"
    assert run_statuses(DATABASE) == {"FINISHED": 6}
    assert repeated_points(DATABASE) == []
    (num_keys,) = query(DATABASE, "select count(distinct value) from tags where key = 'trial_key'")
    assert num_keys == (5,)
