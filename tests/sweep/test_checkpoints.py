"""What is kept of a trial that has ended, and what is not."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sg_ray.host.scratch import ScratchFolder, remove_scratch
from sg_ray.jobs.checkpoints import (
    drop_checkpoints,
    keep_position,
    keep_results,
    lacks_results,
)
from sg_ray.sweep_folder import SweepFolder

ROOT = Path(__file__).parents[2]
MODEL = {"best_model.pt", "valid_predictions.npz"}
HISTORY = {"metrics.jsonl", "training_metadata.json"}


@pytest.mark.parametrize(("model", "kept"), [(True, HISTORY | MODEL), (False, HISTORY)])
def test_model_and_predictions_are_kept_together_or_not_at_all(
    tmp_path: Path, model: bool, kept: set[str]
) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    for name in (*MODEL, *HISTORY, "last.pt"):
        (checkpoint / name).write_text(name)
    folder = keep_results(SweepFolder(tmp_path), "key", checkpoint, model=model)
    assert {path.name for path in folder.iterdir()} == kept


def test_a_checkpoint_from_before_predictions_were_kept_is_kept_without(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "best_model.pt").touch()
    folder = keep_results(SweepFolder(tmp_path), "key", checkpoint, model=True)
    assert [path.name for path in folder.iterdir()] == ["best_model.pt"]


def test_b06_the_checkpoints_of_attempts_that_were_lost_go_too(tmp_path: Path) -> None:
    attempt = tmp_path / "tune" / "attempt-001"
    names = ("gnn-1a2b-seed42-key", "gnn-1a2b-seed42-key-1", "gnn-1a2b-seed7-other")
    for name in names:
        (attempt / name / "checkpoint_000000").mkdir(parents=True)
    drop_checkpoints(SweepFolder(tmp_path), "key", "gnn-1a2b-seed42-key")
    assert [path.name for path in attempt.iterdir()] == ["gnn-1a2b-seed7-other"]


def test_a_stop_before_the_first_step_leaves_no_position(tmp_path: Path) -> None:
    begun, not_begun = tmp_path / "checkpoint_1", tmp_path / "checkpoint_2"
    for folder in (begun, not_begun):
        folder.mkdir()
        (folder / "environment.json").touch()
    (begun / "last.pt").touch()
    assert keep_position(begun)
    assert not keep_position(not_begun)
    assert list(tmp_path.iterdir()) == [begun]


def test_b15_a_checkpoint_out_of_sight_or_cut_short_is_no_result(tmp_path: Path) -> None:
    whole = {"num_epochs": 2, "is_whole": True}
    assert "cannot be seen" in str(lacks_results(None, **whole))
    assert "holds 0 of 2 epochs" in str(lacks_results(tmp_path / "not here", **whole))
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n')
    assert "holds 1 of 2 epochs" in str(lacks_results(tmp_path, **whole))
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n')
    assert "training_metadata.json is missing" in str(lacks_results(tmp_path, **whole))
    assert lacks_results(tmp_path, num_epochs=1, is_whole=False) is None
    (tmp_path / "training_metadata.json").touch()
    assert lacks_results(tmp_path, **whole) is None


def test_b21_scratch_folders_of_the_dead_are_removed_whatever_they_were_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ours = ScratchFolder("train").path
    script = """
from sg_ray.host.scratch import ScratchFolder
for purpose in ("trial", "train", "reproduce"):
    ScratchFolder(purpose)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    assert len(list(tmp_path.iterdir())) == 4
    remove_scratch()
    assert list(tmp_path.iterdir()) == [ours]
