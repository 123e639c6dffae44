"""Whole sweeps on real Ray, in this process."""

import csv
import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from hostile_paths import hostile_folder
from tiny_sweep import own_processes, read_json_records, tiny_experiment

from sg_ray.data.sources import write_jsonl
from sg_ray.data.synthetic import generate
from sg_ray.errors import InputError
from sg_ray.jobs import checkpoints
from sg_ray.records.journal import read_events
from sg_ray.records.record import RunRecord, write_record
from sg_ray.single.train_one import prepare_training, train_once
from sg_ray.sweep.execute import worklist
from sg_ray.sweep.execute.inline_executor import InlineExecutor
from sg_ray.sweep.run import run_sweep
from sg_ray.sweep_folder import TEST_PREDICTIONS, VALID_PREDICTIONS, SweepFolder
from sg_ray.training.metrics import roc_auc
from sg_ray.training.predictions import read_predictions


@pytest.fixture(scope="module")
def swept(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep over all three families."""
    folder = hostile_folder(tmp_path_factory.mktemp("swept"))
    experiment = tiny_experiment(folder, families=["transformer", "gnn", "fusion"])
    outcome = run_sweep(experiment)
    assert outcome.problems == []
    assert not outcome.interrupted
    return folder


def read_leaderboard(folder: Path) -> list[dict[str, str]]:
    with (folder / "outputs/tiny/leaderboard.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_planned_trial_is_on_record_once(swept: Path) -> None:
    records = read_json_records(swept / "outputs/tiny")
    assert Counter((r["configuration"]["model"], r["stage"], r["status"]) for r in records) == {
        ("lexical", "floor", "completed"): 2,
        ("transformer", "search", "completed"): 2,
        ("transformer", "replicate", "completed"): 1,
        ("gnn", "search", "completed"): 2,
        ("gnn", "replicate", "completed"): 1,
        ("fusion", "search", "completed"): 1,
        ("fusion", "replicate", "completed"): 1,
    }


def test_the_leaderboard_ranks_families_and_floor_over_seeds(swept: Path) -> None:
    rows = read_leaderboard(swept)
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert {row["family"] for row in rows} == {"lexical", "transformer", "gnn", "fusion"}
    objectives = [float(row["val_roc_auc_mean"]) for row in rows]
    assert objectives == sorted(objectives, reverse=True)
    for row in rows:
        assert row["num_seeds"] == "2"
        assert row["num_failed"] == "0"
        f1 = [
            record["metrics"]["val_f1"]
            for record in read_json_records(swept / "outputs/tiny")
            if record["config_hash"] == row["config_hash"]
        ]
        assert float(row["val_f1_mean"]) == pytest.approx(mean(f1), rel=1e-5)
        assert float(row["val_f1_sd"]) == pytest.approx(stdev(f1), rel=1e-5)


def test_the_test_split_is_read_for_the_winner_only(swept: Path) -> None:
    rows = read_leaderboard(swept)
    scored = [row["family"] for row in rows if row["test_accuracy"]]
    trained = [row["family"] for row in rows if row["family"] != "lexical"]
    assert scored == trained[:1]


def test_every_trial_keeps_what_its_best_model_says_of_the_validation_split(swept: Path) -> None:
    sweep_dir = swept / "outputs/tiny"
    for record in read_json_records(sweep_dir):
        folder = SweepFolder(sweep_dir).trial(record["trial_key"])
        kept = read_predictions(folder / VALID_PREDICTIONS)
        assert kept is not None
        assert roc_auc(kept.labels, kept.probabilities) == record["metrics"]["val_roc_auc"]


def test_the_winners_seeds_keep_what_they_say_of_the_test_split(swept: Path) -> None:
    sweep_dir = swept / "outputs/tiny"
    scored = json.loads((sweep_dir / "test.json").read_text())
    values = {}
    for record in read_json_records(sweep_dir):
        kept = read_predictions(
            SweepFolder(sweep_dir).trial(record["trial_key"]) / TEST_PREDICTIONS
        )
        if kept is not None:
            assert record["config_hash"] == scored["config_hash"]
            values[str(record["seed"])] = roc_auc(kept.labels, kept.probabilities)
    assert values == {n: metrics["test_roc_auc"] for n, metrics in scored["seeds"].items()}


def test_winners_are_exported_with_what_scoring_needs(swept: Path) -> None:
    best = swept / "outputs/tiny/best"
    families = {"transformer", "gnn", "fusion", "lexical"}
    assert {folder.name for folder in best.iterdir()} == families | {"winner.json"}
    for family in families:
        assert (best / family / "best_model.pt").exists()
        assert (best / family / "model.json").exists()
        assert list((best / family / "features").glob("*/*"))
    assert list((best / "fusion/features").glob("tokens-*/*"))
    assert (best / "fusion/branches/gnn/best_model.pt").exists()


def test_nothing_temporary_is_left(swept: Path) -> None:
    assert not list(swept.rglob("*.tmp"))
    assert not list(swept.rglob("last.pt"))


def test_the_same_command_again_trains_nothing(swept: Path) -> None:
    before = read_json_records(swept / "outputs/tiny")
    experiment = tiny_experiment(swept, families=["transformer", "gnn", "fusion"])
    assert run_sweep(experiment).problems == []
    assert read_json_records(swept / "outputs/tiny") == before


def test_optunas_locks_of_a_killed_driver_go(swept: Path) -> None:
    search = swept / "outputs/tiny/search"
    before = sorted(search.iterdir())
    lock = search / "gnn.journal.lock"
    lock.symlink_to(search / "gnn.journal")
    (search / "gnn.journal.lock0c1e.rename").symlink_to(search / "gnn.journal")
    run_sweep(tiny_experiment(swept, families=["transformer", "gnn", "fusion"]))
    assert sorted(search.iterdir()) == before


def test_other_settings_under_the_same_name_are_refused(swept: Path) -> None:
    experiment = tiny_experiment(
        swept, "search.num_trials=3", families=["transformer", "gnn", "fusion"]
    )
    with pytest.raises(InputError, match=r"search\.num_trials: 2 before, 3 now"):
        run_sweep(experiment)


@pytest.mark.parametrize("family", ["transformer", "gnn", "fusion"])
def test_plain_training_gives_the_numbers_of_the_tune_actor(
    swept: Path, tmp_path: Path, family: str
) -> None:
    experiment = tiny_experiment(
        swept,
        f"families=[{family}]",
        f"branches_from={json.dumps(str(swept / 'outputs/tiny'))}",
        f"output_dir={tmp_path}",
    )
    epochs = []
    training = prepare_training(experiment, family, 42, tmp_path / "run")
    own = train_once(training, on_epoch=epochs.append)
    (record,) = [
        r
        for r in read_json_records(swept / "outputs/tiny")
        if r["configuration"] == own.configuration.model_dump() and r["seed"] == 42
    ]
    timed = {"epoch_time_s", "samples_per_s"}
    for epoch, recorded in zip(epochs, record["history"], strict=True):
        expected = {k: v for k, v in recorded.items() if k not in timed and k != "epoch"}
        assert {k: v for k, v in epoch.metrics.items() if k not in timed} == expected


def test_training_fusion_alone_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fusion builds on transformer and gnn"):
        tiny_experiment(tmp_path, "families=[fusion]")


def test_a_second_driver_is_refused(swept: Path) -> None:
    from sg_ray.host.lock import locked

    experiment = tiny_experiment(swept, families=["transformer", "gnn", "fusion"])
    with locked(experiment.folder), pytest.raises(InputError, match="in use by another process"):
        run_sweep(experiment)


def test_a_trial_larger_than_the_cluster_is_refused(ray_session: None, tmp_path: Path) -> None:
    experiment = tiny_experiment(tmp_path, "resources.gpus=4")
    with pytest.raises(InputError, match=r"takes 4 GPUs, there are 0"):
        run_sweep(experiment)


def test_a_failing_configuration_fails_once_and_the_sweep_goes_on(
    tmp_path: Path,
) -> None:
    experiment = tiny_experiment(tmp_path, "models.gnn.config.precision=fp16")
    outcome = run_sweep(experiment, executor=InlineExecutor())
    records = read_json_records(experiment.folder.path)
    failed = [r for r in records if r["status"] == "failed"]
    assert {r["configuration"]["model"] for r in failed} == {"gnn"}
    assert all(r["failure"]["kind"] == "InputError" for r in failed)
    assert len([r for r in records if r["configuration"]["model"] == "lexical"]) == 2
    assert any("fp16" in problem for problem in outcome.problems)
    (traceback,) = outcome.tracebacks  # of three failures of one kind
    assert "InputError" in traceback
    assert outcome.exit_code == 1


def test_a_trial_given_up_before_a_crash_is_not_trained_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny_experiment(
        tmp_path,
        max_concurrent_trials=1,
        search={"num_trials": 4, "pruning": {"min_epochs": 1, "reduction_factor": 2}},
        replicate={"top_k": 1, "seeds": [42]},
    )
    given_up: list[str] = []

    def crash(folder: SweepFolder, record: RunRecord) -> None:
        if record.status == "pruned":
            given_up.append(record.trial_key)
            raise OSError("No space left on device")
        write_record(folder, record)

    with monkeypatch.context() as patch:
        patch.setattr(worklist, "write_record", crash)
        with pytest.raises(OSError, match="No space"):
            run_sweep(experiment, executor=InlineExecutor())
    assert run_sweep(experiment, executor=InlineExecutor()).problems == []
    (record,) = [
        r for r in read_json_records(experiment.folder.path) if r["trial_key"] == given_up[0]
    ]
    assert record["status"] == "pruned"
    assert record["epochs"] == len(record["history"]) < 3
    assert record["environment"]["device"] == "cpu"
    kept = read_predictions(experiment.folder.trial(given_up[0]) / VALID_PREDICTIONS)
    assert kept is not None
    assert roc_auc(kept.labels, kept.probabilities) == record["metrics"]["val_roc_auc"]


ONE_TRIAL = ("max_concurrent_trials=1", "search.num_trials=1", "replicate.seeds=[42]")
"""Of the model; the floor has its own."""


def kill_actor_once(monkeypatch: pytest.MonkeyPatch, num_kills: int) -> list[str]:
    """Kill the Tune actor's process at the first ``num_kills`` second epochs it reports."""
    killed: list[str] = []
    journal_epoch = worklist.Worklist.journal_epoch

    def journal_and_kill(self: Any, job: Any, epoch: int, metrics: Any) -> None:
        journal_epoch(self, job, epoch, metrics)
        if epoch == 2 and len(killed) < num_kills:
            killed.append(job.spec.trial_key)
            # Ray's title of an actor that waits, and of one that works.
            for pid in own_processes(b"ray::TrialActor", b"ray::ResourceTrainable"):
                os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr(worklist.Worklist, "journal_epoch", journal_and_kill)
    return killed


@pytest.mark.slow
def test_a_trial_whose_process_dies_is_handed_out_again(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = kill_actor_once(monkeypatch, num_kills=1)
    experiment = tiny_experiment(tmp_path, *ONE_TRIAL)
    outcome = run_sweep(experiment)
    assert len(killed) == 1
    assert outcome.problems == []
    events = list(read_events(experiment.folder.path / "events.jsonl"))
    assert [e.trial_key for e in events if e.type == "job_lost"] == killed
    records = read_json_records(experiment.folder.path)
    assert [record["status"] for record in records] == ["completed", "completed"]


@pytest.mark.slow
def test_a_trial_that_keeps_dying_fails_and_the_sweep_goes_on(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = kill_actor_once(monkeypatch, num_kills=1)
    experiment = tiny_experiment(tmp_path, *ONE_TRIAL, max_failures=0)
    outcome = run_sweep(experiment)
    failed = [r for r in read_json_records(experiment.folder.path) if r["status"] == "failed"]
    assert {record["trial_key"] for record in failed} == set(killed)
    assert {record["failure"]["kind"] for record in failed} == {"InfrastructureError"}
    assert outcome.exit_code == 1
    assert outcome.tracebacks == []


def hide_checkpoints_once(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Take the first checkpoint of a model's trial out of the driver's sight, its history too."""
    hidden: list[Path] = []

    def lacks_results(checkpoint: Path | None, **facts: Any) -> str | None:
        if checkpoint is not None and "gnn" in checkpoint.parent.name and not hidden:
            hidden.append(checkpoint)
            shutil.rmtree(checkpoint.parent)
            checkpoint.mkdir(parents=True)
        return checkpoints.lacks_results(checkpoint, **facts)

    monkeypatch.setattr(worklist, "lacks_results", lacks_results)
    return hidden


def test_c04_b15_what_machines_lost_is_no_result_and_is_tried_again_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = hide_checkpoints_once(monkeypatch)
    experiment = tiny_experiment(tmp_path, max_concurrent_trials=1, max_failures=0)
    outcome = run_sweep(experiment, executor=InlineExecutor())
    (lost,) = [r for r in read_json_records(experiment.folder.path) if r["status"] == "failed"]
    assert lost["failure"]["kind"] == "InfrastructureError"
    assert f"{hidden[0]} holds 0 of 3 epochs" in lost["failure"]["message"]
    assert outcome.exit_code == 1

    outcome = run_sweep(experiment, executor=InlineExecutor())
    assert outcome.problems == []
    assert outcome.exit_code == 0
    assert any("1 trial had failed for want of a working machine" in n for n in outcome.notes)
    records = read_json_records(experiment.folder.path)
    assert {record["status"] for record in records} == {"completed"}
    assert len(records) in (5, 6)  # one more if the one that was lost wins the search
    assert all(record["metrics"] and record["best_epoch"] for record in records)
    events = list(read_events(experiment.folder.path / "events.jsonl"))
    of_lost = [event for event in events if event.subject == lost["trial_key"]]
    ends = [e.status for e in of_lost if e.type == "trial_finished"]
    assert ends == ["failed", "completed"]
    assert [e.trial_key for e in events if e.type == "trial_taken_back"] == [lost["trial_key"]]
    epochs = Counter((e.trial_key, e.epoch) for e in events if e.type == "epoch")
    assert set(epochs.values()) == {1}
    assert len(list((experiment.folder.path / "set_aside/lost").glob("*.json"))) == 1
    assert not (experiment.folder.path / "tune").exists()


def test_other_data_under_the_same_path_starts_anew(tmp_path: Path) -> None:
    for seed in (0, 1):
        data = generate(200, seed)
        for split, samples in (("train", data[:160]), ("valid", data[160:])):
            write_jsonl(tmp_path / "data" / f"{split}.jsonl", samples)
        experiment = tiny_experiment(tmp_path, data={"path": str(tmp_path / "data")})
        outcome = run_sweep(experiment, executor=InlineExecutor(), on_change="anew")
        assert outcome.problems == []
        assert {row.family for row in outcome.rows} == {"gnn", "lexical"}
    assert any("other data" in note and "anew" in note for note in outcome.notes)
    sweep_dir = tmp_path / "outputs/tiny"
    fingerprints = {record["data_fingerprint"] for record in read_json_records(sweep_dir)}
    assert len(fingerprints) == 1
    assert len(read_json_records(sweep_dir / "set_aside/001")) == 5


def test_given_branches_must_have_every_planned_seed(swept: Path, tmp_path: Path) -> None:
    experiment = tiny_experiment(
        swept,
        "families=[fusion]",
        f"branches_from={json.dumps(str(swept / 'outputs/tiny'))}",
        f"output_dir={tmp_path}",
        "replicate.seeds=[42,7,9]",
    )
    with pytest.raises(InputError, match=r"has no trained transformer with seed 9.*\[7, 42\]"):
        run_sweep(experiment)


def test_a_clean_up_that_a_signal_breaks_is_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            Path(tmp_path / "lock that is gone").unlink()

    monkeypatch.setattr("sg_ray.sweep.run.prepare", prepare)
    outcome = run_sweep(tiny_experiment(tmp_path))
    assert outcome.exit_code == 128 + signal.SIGTERM
    last = (tmp_path / "outputs/tiny/events.jsonl").read_text().splitlines()[-1]
    assert '"status": "interrupted"' in last
