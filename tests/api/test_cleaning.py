"""What ``clean`` must never delete; journals and files are laid down by hand."""

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tiny_experiment import SETTINGS

import sg_ray
from sg_ray.api import cleaning
from sg_ray.api.cleaning import clean
from sg_ray.cli import main
from sg_ray.host.cache_lock import using_cache
from sg_ray.records.events import (
    DataChecked,
    Event,
    SweepFinished,
    SweepRanked,
    SweepResumed,
    SweepStarted,
)
from sg_ray.records.journal import Journal
from sg_ray.single.train_one import Training
from sg_ray.sweep.run import run_sweep
from sg_ray.sweep_folder import SweepFolder

BEGUN = (SweepStarted(name="tiny", sweep_id="1", plan={}), DataChecked(fingerprint="0a", notes=[]))
ENDED_WITH_FAILURES = (SweepRanked(status="failed"), SweepFinished(status="failed"))


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def begin(name: str, events: Sequence[Event], output_dir: str = "outputs") -> SweepFolder:
    """Lay down a sweep that has a training's position."""
    settings = {"name": name, "output_dir": output_dir, "tracking.enabled": False}
    folder = SweepFolder(Path(output_dir) / name)
    folder.path.mkdir(parents=True)
    folder.settings.write_text(sg_ray.load_experiment(settings=settings).to_yaml())
    tell(folder, events)
    position(folder).parent.mkdir(parents=True)
    position(folder).write_text("hours of training")
    return folder


def tell(folder: SweepFolder, events: Sequence[Event]) -> None:
    journal = Journal(folder.events)
    for event in events:
        journal.append(event)
    journal.close()


def position(folder: SweepFolder) -> Path:
    return folder.new_attempt.with_name("attempt-001") / "trial" / "last.pt"


def test_a_start_that_a_full_disk_ended_keeps_its_checkpoints() -> None:
    crashed = begin("crashed", [*BEGUN, SweepFinished(status="failed")])
    again = [*BEGUN, *ENDED_WITH_FAILURES, SweepResumed(), SweepFinished(status="failed")]
    crashed_later = begin("later", again)
    over = begin("over", [*BEGUN, *ENDED_WITH_FAILURES])
    done = clean([crashed, crashed_later, over])
    assert [position(folder).exists() for folder in (crashed, crashed_later, over)] == [1, 1, 0]
    assert len(done.left_alone) == 2


def test_what_went_on_before_it_was_held_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = begin("extended", [*BEGUN, *ENDED_WITH_FAILURES])
    hold = cleaning.locked

    def hold_late(folder: SweepFolder) -> AbstractContextManager[None]:
        tell(folder, [SweepResumed(), SweepFinished(status="interrupted")])
        return hold(folder)

    monkeypatch.setattr(cleaning, "locked", hold_late)
    done = clean([folder])
    assert position(folder).exists()
    assert len(done.left_alone) == 1


@pytest.mark.parametrize("fingerprint", ["../../thesis", "", ".", "*", "{home}/thesis"])
def test_a_stranger_s_journal_names_no_folder_outside_the_cache(
    fingerprint: str, tmp_path: Path
) -> None:
    kept = [Path("thesis/all.tex"), Path(".cache/features/0b/x.npz")]
    kept.append(Path(".cache/branch_outputs/gnn-1-0b-test.npz"))
    for path in kept:
        path.parent.mkdir(parents=True)
        path.write_text("years")
    checked = DataChecked(fingerprint=fingerprint.format(home=tmp_path), notes=[])
    folder = begin("strange", [BEGUN[0], checked, *ENDED_WITH_FAILURES])
    clean([folder])
    assert not position(folder).exists()
    assert all(path.exists() for path in kept)


def clean_over() -> list[str]:
    """Clean a sweep that is over, while its features are there; return what is left alone."""
    over = begin("over", [*BEGUN, *ENDED_WITH_FAILURES])
    features = Path(".cache/features/0a")
    features.mkdir(parents=True, exist_ok=True)
    done = clean([over])
    assert not position(over).exists()
    assert features.exists() == any(".cache: left alone" in told for told in done.left_alone)
    return list(done.left_alone)


def test_features_go_once_nobody_uses_the_cache() -> None:
    with using_cache(Path(".cache")), using_cache(Path(".cache")):
        assert len(clean_over()) == 1
    shutil.rmtree("outputs/over")
    assert clean_over() == []


def test_a_sweep_that_lies_elsewhere_uses_the_cache() -> None:
    told: list[str] = []

    def clean_and_stop(kind: str, num_done: int, num_total: int) -> None:
        told.extend(clean_over())
        raise KeyboardInterrupt

    there = {**SETTINGS, "name": "running", "output_dir": "elsewhere"}
    run_sweep(sg_ray.load_experiment(settings=there), progress=clean_and_stop)
    assert len(told) == 1


@pytest.mark.parametrize("place", [None, "outputs/mine"])
def test_a_training_uses_the_cache(place: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def clean_and_stop(*arguments: object, **options: object) -> Training:
        told.extend(clean_over())
        raise KeyboardInterrupt

    # the importer first: one that is imported later would keep what is patched here
    monkeypatch.setattr("sg_ray.api.one_model.prepare_training", clean_and_stop)
    monkeypatch.setattr("sg_ray.single.train_one.prepare_training", clean_and_stop)
    if place is None:
        main(["train", "gnn", "tracking.enabled=false"])
    else:
        with pytest.raises(KeyboardInterrupt):
            sg_ray.train_model(
                "gnn", sg_ray.load_experiment(settings=SETTINGS), folder=place, show=False
            )
    assert len(told) == 1
