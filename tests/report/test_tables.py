import csv
import json
from pathlib import Path

import pytest
from sample_sweep import SEEDS, make_record, write_sample_sweep

from sg_ray.cli import main
from sg_ray.errors import InputError
from sg_ray.records.record import Failure, RunRecord, write_record
from sg_ray.report.text.results import read_configurations, read_results
from sg_ray.report.text.tables import summary
from sg_ray.sweep_folder import SweepFolder


def write_metadata(folder: Path, **content: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training_metadata.json").write_text(json.dumps(content))


def write_seeds(folder: Path, **changes: object) -> list[RunRecord]:
    records = [
        make_record("gnn", {"dropout": 0.1}, seed, metrics={"val_f1": value}, **changes)
        for seed, value in zip(SEEDS, (0.70, 0.72, 0.77), strict=True)
    ]
    for record in records:
        write_record(SweepFolder(folder), record)
    return records


def table(folder: Path, number: int = 0) -> list[list[str]]:
    """The cells of the first or second table, without its header."""
    lines = summary(read_configurations(folder)).split("\n\n")[number].splitlines()
    return [line.split() for line in lines[1:]]


def test_every_seed_then_mean_and_sample_sd(tmp_path):
    keys = {record.seed: record.trial_key[:8] for record in write_seeds(tmp_path)}
    (config_hash,) = {cells[1] for cells in table(tmp_path)}
    assert [cells[2:] for cells in table(tmp_path)] == [
        ["7", keys[7], "0.7700"],
        ["42", keys[42], "0.7000"],
        ["2025", keys[2025], "0.7200"],
        ["mean", "of", "3", "0.7300"],
        ["sd", "0.0361"],
    ]
    assert table(tmp_path, 1) == [["gnn", config_hash, "3", "0", "0", "-"]]


@pytest.mark.parametrize("failed_in", ["a", "z"])
@pytest.mark.parametrize("apart", [False, True])
def test_case_56_a_failure_that_another_folder_mended_is_not_shown(tmp_path, failed_in, apart):
    (record, *_) = write_seeds(tmp_path / "m")
    failure = Failure(kind="OutOfMemory", message="killed", traceback="")
    failed = record.model_copy(
        update={"status": "failed", "failure": failure, "metrics": {}, "finished_at_ms": 2**42}
    )
    write_record(SweepFolder(tmp_path / failed_in), failed)
    folders = [tmp_path / "m", tmp_path / failed_in]
    for asked in [folders, folders[::-1]] if apart else [[tmp_path]]:
        (configuration,) = read_configurations(*asked)
        assert [configuration.count(status) for status in ("completed", "failed")] == [3, 0]


def test_case_56_what_only_failed_is_shown_as_failed(tmp_path):
    failure = Failure(kind="OutOfMemory", message="killed", traceback="")
    write_seeds(tmp_path, status="failed", failure=failure)
    (configuration,) = read_configurations(tmp_path)
    assert configuration.count("failed") == len(SEEDS)


def test_failed_and_pruned_seeds_are_shown_and_counted_but_not_averaged(tmp_path):
    write_sample_sweep(tmp_path)
    text = summary(read_configurations(tmp_path))
    assert "7 failed" in text
    assert "mean of 2, 1 failed" in text
    assert "42 pruned" in text
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 120
    counts = [cells[2:5] for cells in table(tmp_path, 1) if cells[0] == "gnn"]
    assert sorted(counts) == [
        ["0", "0", "1"], ["0", "0", "1"], ["1", "0", "0"], ["1", "0", "0"], ["2", "1", "0"],
        ["3", "0", "0"],
    ]  # fmt: skip


def test_configurations_are_told_apart_by_what_differs_in_their_family(tmp_path):
    nested = {"graphs": {"kind": "program"}, "epochs": 5}
    for family, rate in (("gnn", 0.001), ("gnn", 0.00123456), ("lexical", 3.0)):
        write_record(
            SweepFolder(tmp_path), make_record(family, {**nested, "learning_rate": rate}, 42)
        )
    other = {**nested, "graphs": {"kind": "sequential"}, "learning_rate": 0.001}
    write_record(SweepFolder(tmp_path), make_record("gnn", other, 42))
    told = {" ".join(cells[5:]) for cells in table(tmp_path, 1)}
    assert told == {
        "graphs.kind program, learning_rate 0.001",
        "graphs.kind program, learning_rate 0.001235",
        "graphs.kind sequential, learning_rate 0.001",
        "-",
    }


def test_many_differing_settings_go_on_below(tmp_path):
    for value in (1, 2):
        config = {f"setting_number_{number}": value for number in range(12)}
        write_record(SweepFolder(tmp_path), make_record("gnn", config, 42))
    text = summary(read_configurations(tmp_path))
    assert max(map(len, text.splitlines())) <= 120
    assert text.count("setting_number_11 1") == text.count("setting_number_11 2") == 1


def test_fusions_of_other_branches_are_told_apart(tmp_path):
    for rate in (0.1, 0.2):
        branch = make_record("gnn", {"learning_rate": rate}, 42)
        built = make_record(
            "fusion", {"mode": "gated"}, 42, branches={"gnn": branch.trial_key},
            trial_key=f"fusion{rate}", config_hash=branch.config_hash,
        )  # fmt: skip
        write_record(SweepFolder(tmp_path), branch)
        write_record(SweepFolder(tmp_path), built)
    told = {cells[1]: cells[5:] for cells in table(tmp_path, 1) if cells[0] == "fusion"}
    assert len(told) == 2
    assert all(["branches.gnn", name] == what for name, what in told.items())


def test_times_and_speeds_are_left_out(tmp_path):
    measured = {"val_f1": 0.5, "epoch_time_s": 9.0, "samples_per_s": 8.0, "peak_memory_mb": 7.0}
    write_record(SweepFolder(tmp_path), make_record("gnn", {}, 42, metrics=measured))
    write_metadata(tmp_path / "old" / "t", total_time_s=3.0, best_val_f1=0.5)
    (result,) = read_results(tmp_path)
    assert result.metrics == {"val_f1": 0.5}
    (result,) = read_results(tmp_path / "old")
    assert result.metrics == {"best_val_f1": 0.5}


def test_trainings_below_one_folder_are_one_configuration(tmp_path):
    for record in write_seeds(tmp_path / "apart"):
        folder = tmp_path / "train" / f"seed{record.seed}"
        write_record(SweepFolder(folder), record)
        identity = {"model": "gnn", "seed": record.seed, "trial_key": record.trial_key}
        write_metadata(
            folder, identity=identity, config=dict(record.configuration.values), best_val_f1=0.1
        )
    assert table(tmp_path / "train") == table(tmp_path / "apart")


def test_a_trial_that_lies_in_two_sweeps_counts_once(tmp_path):
    for name in ("first", "second"):
        write_seeds(tmp_path / name)
        (tmp_path / name / "sweep.yaml").touch()
        write_metadata(tmp_path / name / "best" / "gnn", best_val_f1=0.1)
    assert table(tmp_path) == table(tmp_path / "first")


def test_the_newest_record_of_a_trial_counts(tmp_path):
    write_seeds(tmp_path / "z", status="failed")
    write_seeds(tmp_path / "a", finished_at_ms=2_000_000_000_000)
    assert {result.status for result in read_results(tmp_path)} == {"completed"}


@pytest.mark.parametrize("changed", ["data_fingerprint", "code_version"])
def test_other_data_or_code_are_not_averaged(tmp_path, changed):
    write_seeds(tmp_path / "first")
    for record in write_seeds(tmp_path / "first"):
        other = record.model_copy(update={changed: "zzzz", "trial_key": f"z{record.trial_key}"})
        write_record(SweepFolder(tmp_path / "second"), other)
    sections = summary(read_configurations(tmp_path)).split("\n\n")
    assert [section.count("mean of 3") for section in sections] == [0, 1, 0, 0, 1, 0]
    assert "zzzz" in sections[3]


def test_what_a_sweep_set_aside_is_left_out(tmp_path):
    write_seeds(tmp_path)
    foreign = make_record("gnn", {}, 1, trial_key="foreign")
    write_record(SweepFolder(tmp_path / "set_aside" / "001"), foreign)
    assert len(read_results(tmp_path)) == 3
    assert len(read_results(tmp_path / "set_aside" / "001")) == 1


def test_an_objective_that_is_not_usually_shown_is(tmp_path):
    metrics = {"val_pr_auc": 0.25, "val_f1": 0.5}
    write_record(
        SweepFolder(tmp_path), make_record("gnn", {}, 42, metrics=metrics, objective="val_pr_auc")
    )
    assert table(tmp_path)[0][-2:] == ["0.2500", "0.5000"]


def test_the_copy_among_the_artifacts_of_mlflow_does_not_count_again(tmp_path):
    record = write_seeds(tmp_path / "sweep")[0]
    identity = {"trial_key": record.trial_key, "model": record.model, "seed": record.seed}
    before = len(read_results(tmp_path))
    for copy in ("1", "2"):
        write_metadata(tmp_path / "mlartifacts" / copy, identity=identity, best_val_f1=0.1)
    assert len(read_results(tmp_path)) == before


def test_a_folder_of_metadata_files_is_enough(tmp_path):
    for seed, value in ((1, 0.5), (2, 0.7)):
        identity = {"model": "gnn", "seed": seed}
        facts = {"config": {"lr": 1e-3}, "identity": identity, "best_val_f1": value}
        write_metadata(tmp_path / "deep" / f"t{seed}", **facts)
    text = summary(read_configurations(tmp_path))
    assert "best_val_f1" in text.splitlines()[0]
    assert table(tmp_path)[2][2:] == ["mean", "of", "2", "0.6000"]


def test_metadata_of_another_trainer_are_named_by_their_folders(tmp_path):
    write_metadata(tmp_path / "resnet" / "run7", best_val_f1=0.4)
    (result,) = read_results(tmp_path)
    assert (result.model, result.seed, result.metrics) == ("resnet", "run7", {"best_val_f1": 0.4})


def test_the_csv_holds_every_metric_in_full(tmp_path):
    write_sample_sweep(tmp_path / "sweep")
    path = tmp_path / "new" / "summary.csv"
    assert main(["report", str(tmp_path / "sweep"), "--csv", str(path)]) == 0
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    configurations = read_configurations(tmp_path / "sweep")
    assert len(rows) == len(configurations)
    for row, configuration in zip(rows, configurations, strict=True):
        assert row["config_hash"] == configuration.config_hash
        assert row["seeds"].split() == [result.seed for result in configuration.completed]
        mean, sd = configuration.mean("val_mcc"), configuration.sd("val_mcc")
        assert row["val_mcc_mean"] == ("" if mean is None else f"{mean:.6g}")
        assert row["val_mcc_sd"] == ("" if sd is None else f"{sd:.6g}")
        assert json.loads(row["config"]) == configuration.settings
        assert row["learning_rate"] == str(configuration.settings.get("learning_rate", ""))
    assert not [column for column in rows[0] if "time" in column]


def test_nothing_is_written_unless_asked_for(tmp_path):
    write_seeds(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["report", str(tmp_path)]) == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_is_refused_with_advice(tmp_path):
    with pytest.raises(InputError, match="holds neither run records"):
        read_configurations(tmp_path)


@pytest.mark.parametrize("content", ["{", "[1]", "\x00"])
def test_a_broken_file_is_named(tmp_path, content):
    (tmp_path / "training_metadata.json").write_text(content)
    with pytest.raises(InputError, match="training_metadata"):
        read_configurations(tmp_path)


def test_a_broken_record_is_named(tmp_path):
    write_seeds(tmp_path / "deep")
    (tmp_path / "deep" / "records" / "broken.json").write_text("{")
    with pytest.raises(InputError, match=r"broken\.json: not a valid run record"):
        read_configurations(tmp_path)


def test_trials_that_vary_one_stream_are_no_seeds_of_their_configuration(tmp_path):
    record = write_seeds(tmp_path / "sweep")[0]
    before = table(tmp_path), table(tmp_path, 1)
    varied = record.model_copy(
        update={"stage": "variance", "streams": {"init": 9}, "trial_key": "varied"}
    )
    write_record(SweepFolder(tmp_path / "sweep"), varied)
    identity = {"trial_key": "varied", "model": "gnn", "seed": record.seed}
    content = {"identity": identity, "streams": {"init": 9}, "best_val_f1": 0.1}
    write_metadata(tmp_path / "mlartifacts" / "1", **content)
    assert (table(tmp_path), table(tmp_path, 1)) == before
    write_seeds(tmp_path / "copies" / "sweep")
    write_metadata(tmp_path / "copies" / "alone", **content)
    assert len(read_results(tmp_path / "copies")) == len(SEEDS)


def test_case_57_seeds_of_several_folders_that_were_not_trained_alike_are_told(tmp_path):
    alike = {"device": "cpu", "num_workers": 1}
    for name, seed, environment in (
        ("a", 1, alike),
        ("b", 2, {**alike, "num_workers": 2}),
        ("c", 3, {**alike, "num_workers": 2}),
    ):
        record = make_record("gnn", {"dropout": 0.1}, seed, metrics={"val_f1": 0.7})
        write_record(
            SweepFolder(tmp_path / name), record.model_copy(update={"environment": environment})
        )
    told = summary(read_configurations(tmp_path))
    assert "was not always trained alike: seed 1 by 1 worker, seeds 2 and 3 by 2 workers." in told
    assert "alike" not in summary(read_configurations(tmp_path / "b", tmp_path / "c"))
