"""What a start finds of earlier ones: torn checkpoints, records without an end, lost jobs."""

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from executed_sweeps import bits, signal_at_epoch, small, types
from tiny_sweep import read_json_records

from sg_ray.code_version import code_version
from sg_ray.config import Experiment, Resources
from sg_ray.errors import InputError, SgRayError
from sg_ray.models import families
from sg_ray.records.code_versions import CodeVersions
from sg_ray.records.record import read_history, read_records
from sg_ray.sweep.execute import inline_executor, worklist
from sg_ray.sweep.execute.choice import named_executor
from sg_ray.sweep.execute.inline_executor import InlineExecutor
from sg_ray.sweep.run import Outcome, run_sweep
from sg_ray.training.checkpoint import check_resumable
from sg_ray.training.seeding import determinism


def run(experiment: Experiment) -> Outcome:
    return run_sweep(experiment, executor=InlineExecutor())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The records of the sweep when nothing comes in its way."""
    experiment = small(tmp_path_factory.mktemp("whole"))
    assert run(experiment).exit_code == 0
    return bits(experiment.folder)


@pytest.fixture(scope="module")
def stopped_twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that was stopped in its second epoch, and again in its third. To be copied."""
    folder = tmp_path_factory.mktemp("stopped")
    for epoch in (1, 2):
        with pytest.MonkeyPatch.context() as patch:
            signal_at_epoch(patch, epoch)
            assert run(small(folder)).interrupted
    return folder


@pytest.fixture
def stopped(stopped_twice: Path, tmp_path: Path) -> Experiment:
    folder = shutil.copytree(stopped_twice, tmp_path / "copy")
    return small(folder)


def checkpoints_of(experiment: Experiment) -> list[Path]:
    """Of the model's trial, oldest first."""
    found = [path.parent for path in experiment.folder.tune.rglob("last.pt")]
    return sorted(found, key=lambda path: path.parents[1].name)


def test_the_newest_checkpoint_is_gone_on_from(
    stopped: Experiment, whole: list[dict[str, Any]]
) -> None:
    assert [len(read_history(path)) for path in checkpoints_of(stopped)] == [1, 2]
    run(stopped)
    assert bits(stopped.folder) == whole
    assert not checkpoints_of(stopped), "those of all starts go"


def test_of_a_torn_checkpoint_the_one_before_is_taken(
    stopped: Experiment, whole: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    last = checkpoints_of(stopped)[-1] / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    run(stopped)
    assert str(last.parent) in caplog.text
    assert "is passed over" in caplog.text
    assert bits(stopped.folder) == whole


def test_a_position_that_other_code_left_is_not_gone_on_from(
    stopped: Experiment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is on record is kept; a trial is the work of one version all the same."""
    before = {one.family: code_version() for one in stopped.all_models}
    monkeypatch.setattr(families, "code_version", lambda: "changed")
    CodeVersions().keeping(before).write(stopped.folder)
    group = stopped.folder.group(last_key(stopped))
    shutil.copytree(checkpoints_of(stopped)[-1], group)
    resumed = types(stopped.folder).count("trial_resumed")
    assert run(stopped).exit_code == 0
    assert caplog.text.count("another version of the code trained it") == 3
    assert types(stopped.folder).count("trial_resumed") == resumed
    records = read_records(stopped.folder).values()
    made_with = {record.family: record.trained_with for record in records}
    assert made_with == {"lexical": None, "gnn": "changed"}


def last_key(experiment: Experiment) -> str:
    """Of the trial that was stopped."""
    return str(check_resumable(checkpoints_of(experiment)[-1])["trial_key"])


def test_a_copy_that_a_kill_cut_short_is_no_checkpoint(
    stopped: Experiment, whole: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def killed(source: Path, copy: Path) -> None:
            copy.mkdir(parents=True)
            shutil.copy(source / "last.pt", copy)
            raise KeyboardInterrupt

        patch.setattr(inline_executor, "restore", killed)
        assert run(stopped).interrupted
    run(stopped)
    assert bits(stopped.folder) == whole


def test_a_record_whose_checkpoint_is_still_there_is_not_trained_again(
    tmp_path: Path, whole: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    experiment = small(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(worklist, "drop_checkpoints", killed)
        assert run(experiment).interrupted
    assert len(read_json_records(experiment.folder.path)) == 1
    assert list(experiment.folder.tune.rglob("best_model.pt"))
    run(experiment)
    assert bits(experiment.folder) == whole
    assert types(experiment.folder).count("trial_started") == len(whole)
    assert types(experiment.folder).count("trial_finished") == len(whole)
    assert not list(experiment.folder.path.rglob("checkpoint_*"))


def test_a_job_that_is_lost_too_often_has_failed_and_names_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_sight(checkpoint: Path | None, **_: object) -> str:
        return f"{checkpoint} is out of sight"

    experiment = small(tmp_path, max_failures=2)
    with monkeypatch.context() as patch:
        patch.setattr(worklist, "lacks_results", out_of_sight)
        outcome = run(experiment)
    assert outcome.exit_code == 1
    failures = [record["failure"] for record in read_json_records(experiment.folder.path)]
    assert {failure["kind"] for failure in failures} == {"InfrastructureError"}
    assert all("out of sight" in failure["message"] for failure in failures)
    assert types(experiment.folder).count("job_lost") == 2 * len(failures)


def test_a_pruned_trial_that_is_lost_is_not_trained_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine may die between the decision and the record."""
    settings: dict[str, Any] = {
        "search": {"num_trials": 4, "pruning": {"min_epochs": 1, "reduction_factor": 2}}
    }
    for name in ("whole", "lost"):
        (tmp_path / name).mkdir()
    undisturbed = small(tmp_path / "whole", **settings)
    run(undisturbed)
    lacks_results, lost = worklist.lacks_results, []

    def out_of_sight(checkpoint: Path | None, *, num_epochs: int, is_whole: bool) -> str | None:
        if not is_whole and not lost:
            lost.append(checkpoint)
            return f"{checkpoint} is out of sight"
        return lacks_results(checkpoint, num_epochs=num_epochs, is_whole=is_whole)

    monkeypatch.setattr(worklist, "lacks_results", out_of_sight)
    disturbed = small(tmp_path / "lost", max_failures=1, **settings)
    run(disturbed)
    assert lost
    assert bits(disturbed.folder) == bits(undisturbed.folder)


def test_a_full_disk_is_nobodys_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    experiment = small(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("sg_ray.training.checkpoint.write_history", full)
        with pytest.raises(SgRayError, match="no space left on device"):
            run(experiment)
    assert {r["configuration"]["model"] for r in read_json_records(experiment.folder.path)} == {
        "lexical"
    }
    assert run(experiment).exit_code == 0


@pytest.mark.parametrize(
    ("takes", "said"),
    [
        (Resources(num_workers=2), r"2 workers; .*resources\.num_workers=1"),
        (Resources(gpus=1), r"1 GPUs, .*resources\.gpus=0"),
    ],
)
def test_what_the_inline_executor_cannot_do_it_refuses_first(
    takes: Resources, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=said):
        InlineExecutor().check({"lexical": Resources(), "gnn": takes})
    InlineExecutor().check({"gnn": Resources(cpus=64)})  # one trial: more threads than CPUs


def test_an_address_goes_with_tune_only() -> None:
    with pytest.raises(InputError, match="--address auto"):
        named_executor("inline", "auto")


def test_a_stop_in_what_has_no_position_ends_it_at_once(
    tmp_path: Path, whole: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An estimator's fit is one step: while it runs, a signal raises."""

    def long_fit(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    experiment = small(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("sg_ray.trial.run.fit_estimator", long_fit)
        started = time.monotonic()
        outcome = run(experiment)
    assert time.monotonic() - started < 50
    assert outcome.exit_code == 128 + signal.SIGTERM
    assert "no trial was in the middle of its training" in outcome.notes
    assert not list(experiment.folder.path.rglob("checkpoint_*"))
    run(experiment)
    assert bits(experiment.folder) == whole


def test_torch_is_left_as_it_was(stopped: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may be a notebook's, which goes on with work of its own."""
    threads = torch.get_num_threads() + 1
    set_num_threads = torch.set_num_threads
    set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    asked: list[int] = []
    monkeypatch.setattr(
        torch, "set_num_threads", lambda num: (asked.append(num), set_num_threads(num))
    )
    try:
        run(stopped)
        assert asked
        assert (torch.get_num_threads(), determinism()) == (threads, "off")
    finally:
        set_num_threads(threads - 1)
