"""Positions outlive the process that saved them, and the furthest one is gone on from."""

import errno
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_sweep import tiny_experiment

from sg_ray.cluster.groups.folder_claim import Claim, claim_for_group, release
from sg_ray.config import Resources
from sg_ray.errors import InfrastructureError
from sg_ray.files import atomic_path, files_below, write_json
from sg_ray.jobs import checkpoints
from sg_ray.jobs.checkpoints import drop_checkpoints, newest_checkpoint
from sg_ray.jobs.job import TrainJob
from sg_ray.jobs.positions import PositionShelf, restore, saved_positions
from sg_ray.sweep.execute import grace as grace_module
from sg_ray.sweep.execute.grace import FLOOR_S, Grace, places_of
from sg_ray.sweep_folder import SweepFolder
from sg_ray.training.checkpoint import KEYS, read_place
from sg_ray.trial.spec import TrialSpec


def job(folder: Path, **resources: int) -> TrainJob:
    model = tiny_experiment(folder).model("gnn")
    spec = TrialSpec(
        configuration=model.baseline,
        seed=42,
        objective="val_roc_auc",
        data_fingerprint="data",
        code_version="code",
    )
    return TrainJob(spec=spec, resources=Resources(**resources), stage="search")


def write_position(folder: Path, epoch: int, step: int) -> Path:
    folder.mkdir(parents=True)
    content = dict.fromkeys(KEYS) | {"epoch": epoch, "step_in_epoch": step, "identity": {}}
    torch.save(content, folder / "last.pt")
    (folder / "metrics.jsonl").write_text("".join(f'{{"epoch": {n + 1}}}\n' for n in range(epoch)))
    write_json(folder / "environment.json", {})
    return folder


def test_a_position_takes_the_place_of_the_last_one(tmp_path: Path) -> None:
    source, place = write_position(tmp_path / "scratch", 1, 2), tmp_path / "job"
    shelf = PositionShelf(place)
    (place / ".position.tmp").mkdir()  # what a kill left
    (source / ".last.pt.0.tmp").touch()
    shelf.put(source)
    (before,) = saved_positions(place)
    (source / "last.pt").unlink()
    torch.save({}, source / "last.pt")
    shelf.put(source)
    (after,) = saved_positions(place)
    assert (before.name, after.name) == ("position_000001", "position_000002")
    assert [path.name for path in place.iterdir()] == [after.name]
    assert {path.name for path in after.iterdir()} == {
        "last.pt",
        "metrics.jsonl",
        "environment.json",
    }
    assert torch.load(after / "last.pt", weights_only=True) == {}


def test_an_epoch_is_written_once_and_stays_beside_the_one_before(tmp_path: Path) -> None:
    place = tmp_path / "job"
    shelf = PositionShelf(place)
    training = shelf.new_training_folder()
    write_json(training / "environment.json", {})
    for number in range(1, 4):
        with atomic_path(training / "last.pt") as temporary:
            torch.save({"epoch": number}, temporary)
        saved = shelf.put_epoch(training)
        assert (saved / "last.pt").samefile(training / "last.pt")
        assert (saved / "environment.json").stat().st_nlink == 1 + min(number, 2)
    assert [path.name for path in saved_positions(place)] == [
        "checkpoint_000002",
        "checkpoint_000003",
    ]
    position = shelf.put(training)
    assert saved_positions(place)[-1] == position
    shelf.put_epoch(training)  # a position within an epoch is overtaken by its end
    assert [path.name for path in saved_positions(place)] == [
        "checkpoint_000003",
        "checkpoint_000005",
    ]
    shelf.remove_training()
    assert torch.load(saved_positions(place)[-1] / "last.pt", weights_only=True) == {"epoch": 3}


def test_what_goes_on_from_a_position_does_not_change_it(tmp_path: Path) -> None:
    position = write_position(tmp_path / "job" / "position_000001", 1, 2)
    before = (position / "last.pt").read_bytes()
    folder = tmp_path / "training"
    write_position(folder, 0, 1)  # what was there gives way
    restore(position, folder)
    assert (folder / "last.pt").samefile(position / "last.pt")
    with atomic_path(folder / "last.pt") as temporary:
        temporary.write_text("the next")
    assert (position / "last.pt").read_bytes() == before


def test_what_has_not_changed_is_not_copied_again(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system")
    with tempfile.TemporaryDirectory(dir=memory) as elsewhere:
        source = write_position(Path(elsewhere) / "scratch", 1, 2)
        shelf = PositionShelf(tmp_path / "job")
        shelf.put(source)
        (first,) = saved_positions(tmp_path / "job")
        inodes = {path.name: path.stat().st_ino for path in first.iterdir()}
        (source / "last.pt").unlink()
        torch.save({"new": 1}, source / "last.pt")
        shelf.put(source)
    (second,) = saved_positions(tmp_path / "job")
    same = {path.name for path in second.iterdir() if path.stat().st_ino == inodes[path.name]}
    assert same == {"metrics.jsonl", "environment.json"}
    assert torch.load(second / "last.pt", weights_only=True) == {"new": 1}


def test_a_process_whose_trial_is_on_record_saves_nothing_more(tmp_path: Path) -> None:
    shelf = PositionShelf(tmp_path / "job")
    shutil.rmtree(tmp_path / "job")
    with pytest.raises(InfrastructureError, match="nobody waits for it"):
        shelf.put(write_position(tmp_path / "scratch", 1, 2))
    assert not (tmp_path / "job").exists()


def test_the_furthest_is_gone_on_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, one = SweepFolder(tmp_path / "sweep"), job(tmp_path)
    assert newest_checkpoint(folder, one) is None
    first, second = (folder.tune / f"attempt-00{n}" / one.name for n in (1, 2))
    position = write_position(first / "position_000003", 2, 7)
    write_position(first / "checkpoint_000001", 2, 0)
    write_position(second / "checkpoint_000000", 1, 0)
    assert newest_checkpoint(folder, one) == position
    younger = write_position(second.with_name(f"{one.name}-1") / "position_000001", 2, 7)
    assert newest_checkpoint(folder, one) == younger
    (younger / "last.pt").write_bytes((younger / "last.pt").read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(folder, one) == position
    assert f"{younger} is passed over" in caplog.text
    group = write_position(folder.group(one.spec.trial_key), 2, 8)
    assert newest_checkpoint(folder, one) == group
    drop_checkpoints(folder, one.spec.trial_key, one.base_name)
    assert newest_checkpoint(folder, one) is None
    assert not list(folder.tune.glob("*/*"))


def test_a_group_that_was_cut_off_does_not_write_any_more(tmp_path: Path) -> None:
    group = claim_for_group(tmp_path)
    before = Claim(tmp_path, group)
    before.check()
    started_again = Claim(tmp_path, group)
    started_again.check()
    with pytest.raises(InfrastructureError, match="go on with it"):
        before.check()
    new_group = claim_for_group(tmp_path)
    with pytest.raises(InfrastructureError, match="go on with it"):
        started_again.check()
    with pytest.raises(InfrastructureError, match="go on with it"):  # started once more
        Claim(tmp_path, group)
    release(tmp_path, group)
    Claim(tmp_path, new_group).check()
    release(tmp_path, new_group)
    assert not list(tmp_path.iterdir())


def test_grace_is_what_saves_and_steps_took(tmp_path: Path) -> None:
    places = places_of(SweepFolder(tmp_path), tmp_path / "tune/attempt-001")
    grace = Grace(None, places)
    assert grace.length_s == FLOOR_S
    grace.learn({"longest_gap_s": 10.0, "save_s": 40.0})
    grace.learn({"longest_gap_s": 1.0, "save_s": 2.0})
    grace.learn({"done": True})
    assert grace.length_s == 2 * 10 + 3 * 40
    assert Grace(5.0, places).length_s == 5.0


def test_grace_lasts_while_a_position_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [1000.0]
    monkeypatch.setattr(grace_module.time, "monotonic", lambda: now_s[0])
    attempt, one = tmp_path / "tune/attempt-001", job(tmp_path)
    grace = Grace(3.0, places_of(SweepFolder(tmp_path), attempt))
    shelf = PositionShelf(attempt / one.name)
    shelf.put(write_position(tmp_path / "scratch", 1, 2))
    grace.begin([one])
    assert not grace.has_saved(one)
    growing = attempt / one.name / "growing"
    for second in range(20):
        growing.write_bytes(bytes(100 * second))
        assert not grace.is_over([one])
        now_s[0] += 2.0
    for _ in range(10):
        now_s[0] += 2.0
        is_over = grace.is_over([one])
    assert is_over
    shelf.put(tmp_path / "scratch")
    assert grace.has_saved(one)


def test_a_folder_that_vanishes_while_it_is_looked_at_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shelf deletes the position before while the driver looks for growth."""
    first, second = tmp_path / "position_000001", tmp_path / "position_000002"
    for position in (first, second):
        position.mkdir()
        (position / "last.pt").write_bytes(bytes(10))
    scan = os.scandir

    def vanishing(path: Any) -> Any:
        if str(path) == str(second):
            shutil.rmtree(second, ignore_errors=True)
        return scan(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    assert [path.name for path in files_below(tmp_path)] == ["last.pt"]
    assert grace_module._size(tmp_path) == 10


def test_a_position_that_was_replaced_meanwhile_is_gone_on_from(tmp_path: Path) -> None:
    shelf = PositionShelf(tmp_path / "job")
    source = write_position(tmp_path / "scratch", 1, 2)
    shelf.put(source)
    (given,) = saved_positions(tmp_path / "job")
    write_position(tmp_path / "further", 2, 0)
    shelf.put(tmp_path / "further")  # by a process that was cut off, and goes on
    restore(given, tmp_path / "new")
    assert read_place(tmp_path / "new") == (2, 0)
    with pytest.raises(FileNotFoundError):
        restore(tmp_path / "nobody/position_000001", tmp_path / "new")


def test_a_checkpoint_that_cannot_be_read_here_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder, one = SweepFolder(tmp_path / "sweep"), job(tmp_path)
    attempt = folder.tune / "attempt-001" / one.name
    write_position(attempt / "checkpoint_000000", 1, 0)
    write_position(attempt / "checkpoint_000001", 2, 0)
    check = checkpoints.check_resumable

    def stale(path: Path) -> Any:
        if path.name == "checkpoint_000001":
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return check(path)

    monkeypatch.setattr(checkpoints, "check_resumable", stale)
    assert newest_checkpoint(folder, one) == attempt / "checkpoint_000000"
    assert "Stale file handle" in caplog.text


def test_the_position_of_a_group_is_its_folders(tmp_path: Path) -> None:
    folder, one = SweepFolder(tmp_path), job(tmp_path, num_workers=2)
    grace = Grace(3.0, places_of(folder, tmp_path / "tune/attempt-001"))
    group = write_position(folder.group(one.spec.trial_key), 1, 2)
    grace.begin([one])
    assert not grace.has_saved(one)
    (group / "last.pt").unlink()
    torch.save({}, group / "last.pt")
    assert grace.has_saved(one)
