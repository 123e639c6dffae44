"""A training that was interrupted ends in the same bits as one that was not."""

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from same_bits import assert_same_bits
from tiny_classifier import tiny_config, tiny_model, tiny_split

from sg_ray.cluster.groups.folder_claim import Claim, claim_for_group
from sg_ray.errors import InfrastructureError, InputError, TrainingError
from sg_ray.host.disk import disk_trouble
from sg_ray.training import checkpoint
from sg_ray.training.checkpoint import check_resumable, save
from sg_ray.training.compute import make_compute
from sg_ray.training.loop import EpochResult, Interrupted, ShouldStop, make_training, never
from sg_ray.training.saving import AT_EPOCHS, Saving
from sg_ray.training.seeding import Seeds

STEPS_PER_EPOCH = 6  # 45 samples in batches of 8
CONFIG = tiny_config(weighted_sampling=True)
NEXT_FILES = ("best_model.next.pt", "valid_predictions.next.npz")


def start(
    folder: Path, should_stop: ShouldStop = never, saving: Saving = AT_EPOCHS, **changes: Any
) -> Iterator[EpochResult]:
    settings = {"config": CONFIG, "seed": 1, "objective": "val_roc_auc", **changes}
    return make_training(
        tiny_model(),
        tiny_split(),
        tiny_split(30, seed=1),
        settings["config"],
        seeds=Seeds(settings["seed"], settings.get("streams", {})),
        objective=settings["objective"],
        folder=folder,
        identity={"trial_key": settings.get("trial_key", "abc")},
        compute=make_compute(settings["config"], torch.device("cpu")),
        saving=saving,
    ).epochs(should_stop)


def after(num_steps: int) -> Callable[[], bool]:
    """Say stop after this many optimisation steps."""
    remaining = iter(range(num_steps - 1, -1, -1))
    return lambda: next(remaining) == 0


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("straight")
    assert len(list(start(folder))) == 4
    return folder


def test_a_full_disk_is_told_as_one() -> None:
    """In torch's words a position in the file would be unexpected: whose fault is that?"""
    with pytest.raises(OSError, match="No space left") as told:
        save(Path("/dev/full"), {"weights": torch.zeros(100_000)})
    assert disk_trouble(told.value)


def test_two_epochs_and_two_more_equal_four(straight, tmp_path):
    first = start(tmp_path)
    assert [next(first).epoch, next(first).epoch] == [1, 2]
    first.close()
    assert [result.epoch for result in start(tmp_path)] == [3, 4]
    assert_same_bits(straight, tmp_path)


@pytest.mark.parametrize("num_steps", [1, 5, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 1, 23, 24])
def test_a_stop_at_any_step_changes_nothing(straight, tmp_path, num_steps):
    with pytest.raises(Interrupted):
        list(start(tmp_path, after(num_steps)))
    last = torch.load(tmp_path / "last.pt", weights_only=True)
    assert last["global_step"] == num_steps
    list(start(tmp_path))
    assert_same_bits(straight, tmp_path)


def test_a_stop_at_every_step_changes_nothing(straight, tmp_path):
    num_stops = 0
    while True:
        try:
            list(start(tmp_path, after(1)))
            break
        except Interrupted:
            num_stops += 1
    assert num_stops == 4 * STEPS_PER_EPOCH
    assert_same_bits(straight, tmp_path)


ALWAYS_S = 1e-9


def test_positions_by_time_change_nothing_and_are_gone_on_from(straight, tmp_path):
    copies = tmp_path / "copies"
    steps = []

    def put_away() -> None:
        steps.append(torch.load(tmp_path / "last.pt", weights_only=True)["global_step"])
        shutil.copytree(tmp_path, copies / f"{steps[-1]:03d}", ignore=lambda *_: ["copies"])

    list(start(tmp_path, saving=Saving(ALWAYS_S, put_away=put_away)))
    assert steps == list(range(1, 4 * STEPS_PER_EPOCH + 1))
    assert_same_bits(straight, tmp_path)
    for step in (1, STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH + 3):
        copy = copies / f"{step:03d}"
        list(start(copy))
        assert_same_bits(straight, copy)


def test_a_position_is_saved_once_it_is_due(tmp_path):
    saved = []
    list(start(tmp_path, saving=Saving(3600.0, put_away=lambda: saved.append(1))))
    assert saved == []


def test_a_folder_that_is_anothers_by_now_is_not_written_into(tmp_path):
    def refuse() -> None:
        raise InfrastructureError("others go on")

    training = start(tmp_path, saving=Saving(ALWAYS_S, check=refuse))
    with pytest.raises(InfrastructureError, match="others go on"):
        list(training)
    assert not list(tmp_path.iterdir())


def test_a_zombie_changes_nothing_of_what_others_have_done_since(straight, tmp_path):
    group = claim_for_group(tmp_path)
    zombie = start(tmp_path, saving=Saving(ALWAYS_S, check=Claim(tmp_path, group).check))
    assert next(zombie).epoch == 1
    others = Claim(tmp_path, claim_for_group(tmp_path))
    list(start(tmp_path, saving=Saving(check=others.check)))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InfrastructureError, match="go on with it"):
        next(zombie)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert_same_bits(straight, tmp_path)


@pytest.mark.parametrize("num_checks", [1, 2, 3])
def test_a_folder_lost_in_the_middle_of_a_commit_is_whole_for_others(
    straight, tmp_path, num_checks
):
    """The claim is checked before each step: a process may have stood still between two."""
    checks = iter(range(num_checks - 1, -1, -1))

    def lose() -> None:
        if next(checks) == 0:
            raise InfrastructureError("others go on")

    with pytest.raises(InfrastructureError, match="others go on"):
        next(start(tmp_path, saving=Saving(check=lose)))
    assert (tmp_path / "last.pt").exists() is (num_checks == 3)
    assert not (tmp_path / "best_model.pt").exists()
    list(start(tmp_path))
    assert_same_bits(straight, tmp_path)


@pytest.mark.parametrize("reason", ["stop", "preempted"])
def test_the_reason_of_a_stop_is_handed_on(tmp_path, reason):
    saved = []
    saving = Saving(put_away=lambda: saved.append((tmp_path / "last.pt").exists()))
    with pytest.raises(Interrupted) as interrupted:
        list(start(tmp_path, lambda: reason, saving))
    assert interrupted.value.reason == reason
    assert pickle.loads(pickle.dumps(interrupted.value)).reason == reason
    assert saved == [True]


def kept_of(folder: Path) -> bytes:
    """What the best model says of the validation split, as its file."""
    return (folder / "valid_predictions.npz").read_bytes()


def test_a_kill_before_the_commit_forgets_the_new_best_model(straight, tmp_path, monkeypatch):
    real_write = checkpoint._write
    training = start(tmp_path)
    next(training)
    kept = kept_of(tmp_path)

    def killed_at_last(path: Path, content: Any) -> None:
        if path.name == "last.pt":
            raise KeyboardInterrupt
        real_write(path, content)

    monkeypatch.setattr(checkpoint, "_write", killed_at_last)
    with pytest.raises(KeyboardInterrupt):
        list(training)
    monkeypatch.undo()
    assert (tmp_path / "best_model.next.pt").exists()
    resumed = start(tmp_path)
    assert not list(tmp_path.glob("*.next.*"))
    assert torch.load(tmp_path / "best_model.pt", weights_only=True)["epoch"] == 1
    assert kept_of(tmp_path) == kept
    list(resumed)
    assert_same_bits(straight, tmp_path)


def test_a_kill_after_the_commit_keeps_the_new_best_model(straight, tmp_path, monkeypatch):
    real_replace = Path.replace

    def killed_at_best(path: Path, target: Path) -> Path:
        if target.name == "best_model.pt":
            raise KeyboardInterrupt
        return real_replace(path, target)

    monkeypatch.setattr(Path, "replace", killed_at_best)
    with pytest.raises(KeyboardInterrupt):
        next(start(tmp_path))
    monkeypatch.undo()
    assert not (tmp_path / "best_model.pt").exists()
    check_resumable(tmp_path)
    resumed = start(tmp_path)
    assert torch.load(tmp_path / "best_model.pt", weights_only=True)["epoch"] == 1
    assert [result.epoch for result in resumed] == [2, 3, 4]
    assert_same_bits(straight, tmp_path)


@pytest.mark.parametrize("num_renamed", [0, 1])
def test_a_kill_while_both_take_their_places_keeps_both(
    straight, tmp_path, monkeypatch, num_renamed
):
    training = start(tmp_path)
    next(training)
    kept = kept_of(tmp_path)
    real_replace = Path.replace
    renamed = []

    def killed_after_some(path: Path, target: Path) -> Path:
        if path.name in NEXT_FILES:
            if len(renamed) == num_renamed:
                raise KeyboardInterrupt
            renamed.append(path.name)
        return real_replace(path, target)

    monkeypatch.setattr(Path, "replace", killed_after_some)
    with pytest.raises(KeyboardInterrupt):
        list(training)
    monkeypatch.undo()
    check_resumable(tmp_path)
    resumed = start(tmp_path)
    assert not list(tmp_path.glob("*.next.*"))
    assert torch.load(tmp_path / "best_model.pt", weights_only=True)["epoch"] > 1
    assert kept_of(tmp_path) != kept
    list(resumed)
    assert_same_bits(straight, tmp_path)


def test_a_kill_between_new_predictions_and_new_model_forgets_both(straight, tmp_path, monkeypatch):
    training = start(tmp_path)
    next(training)
    kept = kept_of(tmp_path)
    real_write = checkpoint._write

    def killed_at_model(path: Path, content: Any) -> None:
        if path.name == "best_model.next.pt":
            raise KeyboardInterrupt
        real_write(path, content)

    monkeypatch.setattr(checkpoint, "_write", killed_at_model)
    with pytest.raises(KeyboardInterrupt):
        list(training)
    monkeypatch.undo()
    assert (tmp_path / "valid_predictions.next.npz").exists()
    resumed = start(tmp_path)
    assert not list(tmp_path.glob("*.next.*"))
    assert kept_of(tmp_path) == kept
    list(resumed)
    assert_same_bits(straight, tmp_path)


def test_a_folder_from_before_predictions_were_kept_is_gone_on_with(tmp_path):
    training = start(tmp_path)
    next(training)
    training.close()
    (tmp_path / "valid_predictions.npz").unlink()
    check_resumable(tmp_path)
    *_, last = start(tmp_path)
    assert last.epoch == 4


def test_a_kill_before_the_metrics_file_leaves_no_gap(straight, tmp_path):
    training = start(tmp_path)
    next(training)
    stale = (tmp_path / "metrics.jsonl").read_text()
    next(training)
    training.close()
    (tmp_path / "metrics.jsonl").write_text(stale)
    list(start(tmp_path))
    assert_same_bits(straight, tmp_path)


def test_a_finished_training_gives_its_last_result_again(straight, tmp_path):
    *_, last = start(tmp_path)
    (tmp_path / "training_metadata.json").unlink()
    assert list(start(tmp_path)) == [last]
    assert_same_bits(straight, tmp_path)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"config": tiny_config()}, "config.weighted_sampling: True in the file, False now"),
        ({"trial_key": "xyz"}, "identity.trial_key: 'abc' in the file, 'xyz' now"),
        ({"seed": 2}, "seed: 1 in the file, 2 now"),
        ({"streams": {"order": 2}}, "streams.order: None in the file, 2 now"),
        ({"objective": "val_f1"}, "objective: 'val_roc_auc' in the file, 'val_f1' now"),
    ],
)
def test_the_checkpoint_of_another_trial_is_refused(tmp_path, changes, difference):
    next(start(tmp_path))
    with pytest.raises(InputError, match=difference) as raised:
        start(tmp_path, **changes)
    assert "last.pt belongs to another trial" in str(raised.value)


def test_last_pt_holds_the_whole_state(straight):
    last = torch.load(straight / "last.pt", weights_only=True)
    history = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    assert last["epoch"] == 4
    assert last["config"] == CONFIG.model_dump(mode="json")
    assert last["best_val_f1"] == max(row["val_f1"] for row in history)
    assert last["model_state_dict"].keys() == tiny_model().state_dict().keys()
    assert len(last["optimizer_state_dict"]["state"]) == len(list(tiny_model().parameters()))
    assert last["scheduler_state_dict"]["last_epoch"] == 4 * STEPS_PER_EPOCH
    assert last["scaler_state_dict"] == {}  # fp32 needs no scaling
    assert last["rng_state"].shape == torch.get_rng_state().shape


class Intruder:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    next(start(tmp_path))
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    torch.save({**content, "history": Intruder(tmp_path / "intruded")}, tmp_path / "last.pt")
    with pytest.raises(TrainingError, match=r"last\.pt is not a usable checkpoint"):
        start(tmp_path)
    assert not (tmp_path / "intruded").exists()


def test_an_interrupted_command_exits_as_after_ctrl_c(tmp_path):
    with pytest.raises(
        Interrupted, match=r"stopped at epoch 1, step 2; .* holds the position"
    ) as e:
        list(start(tmp_path, after(2)))
    assert e.value.exit_code == 130


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_byte(path: Path) -> None:
    weights = torch.load(path, weights_only=True)["model_state_dict"]["words.weight"]
    content = bytearray(path.read_bytes())
    content[content.index(weights.numpy().tobytes()) + 5] ^= 0xFF
    path.write_bytes(content)


def drop_a_key(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    del content["history"]
    torch.save(content, path)


def store_a_list(path: Path) -> None:
    torch.save([1], path)


@pytest.mark.parametrize("damage", [cut_in_half, make_empty, flip_a_byte, drop_a_key, store_a_list])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    next(start(tmp_path))
    damage(tmp_path / "last.pt")
    with pytest.raises(TrainingError, match=r"last\.pt is not a usable checkpoint"):
        start(tmp_path)


def test_a_lost_best_model_is_named(tmp_path):
    next(start(tmp_path))
    (tmp_path / "best_model.pt").unlink()
    with pytest.raises(TrainingError, match=r"best_model\.pt is missing"):
        start(tmp_path)
    with pytest.raises(TrainingError, match=r"best_model\.pt does not exist"):
        check_resumable(tmp_path)


def test_the_best_model_of_another_epoch_is_named(tmp_path):
    """Two processes that wrote at once would leave the weights of one, the numbers of the other."""
    next(start(tmp_path))
    best = torch.load(tmp_path / "best_model.pt", weights_only=True)
    torch.save({**best, "epoch": 7}, tmp_path / "best_model.pt")
    with pytest.raises(TrainingError, match=r"it is of epoch 7, and last\.pt says 1 is the best"):
        start(tmp_path)
    with pytest.raises(TrainingError, match="it is of epoch 7"):
        check_resumable(tmp_path)


def test_only_a_whole_folder_is_resumable(tmp_path):
    with pytest.raises(TrainingError, match=r"last\.pt does not exist"):
        check_resumable(tmp_path)
    next(start(tmp_path))
    check_resumable(tmp_path)
    cut_in_half(tmp_path / "valid_predictions.npz")
    with pytest.raises(InputError, match=r"valid_predictions\.npz: these are no valid predictions"):
        check_resumable(tmp_path)
    cut_in_half(tmp_path / "last.pt")
    with pytest.raises(TrainingError, match=r"last\.pt is not a usable checkpoint"):
        check_resumable(tmp_path)


def test_weights_of_another_model_are_named(tmp_path):
    next(start(tmp_path))
    model = tiny_model()
    model.head = torch.nn.Linear(9, 1)
    with pytest.raises(TrainingError, match=r"best_model\.pt is of another model"):
        checkpoint.load_best(model, tmp_path)
