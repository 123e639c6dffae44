"""``sg-ray train``: its flags, its exit codes, its folder, its run in MLflow."""

import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_sweep import MODELS, mlflow_state, read_json_records, write_experiment

from sg_ray.cli import main
from sg_ray.config import load_experiment
from sg_ray.data.sources import load_data, write_jsonl
from sg_ray.data.synthetic import generate
from sg_ray.host.signals import SAME_SIGNAL_S
from sg_ray.records.journal import read_events
from sg_ray.records.record import write_record
from sg_ray.single import train_one as training_module
from sg_ray.sweep_folder import VALID_PREDICTIONS, SweepFolder
from sg_ray.training import checkpoint
from sg_ray.training.predictions import read_predictions

ROOT = Path(__file__).parents[2]
TIMED = {"epoch_time_s", "samples_per_s"}


@pytest.fixture
def folder(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with experiment.yaml in it."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_store, tmp_path)
    write_experiment(tmp_path)
    return tmp_path


def train(*arguments: str) -> int:
    return main(["train", *arguments, "experiment.yaml"])


def only_record(folder: Path) -> dict[str, Any]:
    (record,) = read_json_records(folder)
    return record


def logged(database: Path, metric: str) -> list[tuple[float, int]]:
    with sqlite3.connect(database) as connection:
        query = "select value, step from metrics where key = ? order by step"
        return connection.execute(query, [metric]).fetchall()


def test_a_quick_test_trains_saves_and_logs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("gnn", "--quick-test", "--epochs", "1", "--output-dir", "run") == 0
    assert (folder / "run/best_model.pt").exists()
    record = only_record(folder / "run")
    assert (record["stage"], record["status"], record["epochs"]) == ("train", "completed", 1)
    val_f1 = record["history"][0]["val_f1"]
    assert logged(folder / "mlflow.db", "val_f1") == [(pytest.approx(val_f1), 1)]
    assert mlflow_state(folder / "mlflow.db")[0] == Counter(FINISHED=1)
    told = capsys.readouterr().out
    assert (
        f"best epoch 1 by val_roc_auc: val_roc_auc {record['metrics']['val_roc_auc']:.4f}" in told
    )
    assert f"val_f1 {val_f1:.4f}" in told
    assert main(["report", "run"]) == 0
    assert "gnn" in capsys.readouterr().out
    limits = (f"data.limit.{split}={size}" for split, size in (("train", 200), ("valid", 100)))
    check_that_it_predicts_as_trained(folder / "run", capsys, *limits)


def test_a_quick_test_of_what_has_no_epochs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--quick-test", "--output-dir", "run", "tracking.enabled=false")
    assert train("lexical", *flags) == 0, capsys.readouterr().err
    assert only_record(folder / "run")["status"] == "completed"


def test_flags_decide_what_is_trained(folder: Path) -> None:
    flags = [
        "--epochs",
        "2",
        "--batch-size",
        "8",
        "--lr",
        "0.003",
        "--seed",
        "5",
        "--use-weighted-sampler",
    ]
    switches = ("--use-weighted-sampler", "--mixed-precision")
    assert train("gnn", *flags, *switches, "--output-dir", "run") == 0
    record = only_record(folder / "run")
    expected = {
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 0.003,
        "weighted_sampling": True,
        "precision": "auto",
    }
    assert {name: record["configuration"]["values"][name] for name in expected} == expected
    assert record["seed"] == 5
    assert len(record["history"]) == 2


def test_key_value_settings_win_over_flags(folder: Path) -> None:
    setting = "models.gnn.config.epochs=1"
    assert train("gnn", "--epochs", "2", "--output-dir", "run", setting) == 0
    assert only_record(folder / "run")["epochs"] == 1


def test_data_files_are_read(folder: Path) -> None:
    samples = generate(160, 3)
    write_jsonl(folder / "a.jsonl", samples[:120])
    write_jsonl(folder / "b.jsonl", samples[120:])
    files = ("--train-data", "a.jsonl", "--val-data", "b.jsonl")
    assert train("gnn", *files, "--epochs", "1", "--output-dir", "run") == 0
    assert train("gnn", "--epochs", "1", "--output-dir", "built-in") == 0
    fingerprints = {only_record(folder / d)["data_fingerprint"] for d in ("run", "built-in")}
    assert len(fingerprints) == 2


def test_the_range_test_sets_the_learning_rate_and_is_kept(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ("models.gnn.config.hidden_dim=48", "models.gnn.config.num_layers=3")

    def found(flag: str, *, output: str) -> tuple[float, str]:
        flags = ("--epochs", "1", flag, "--output-dir", output)
        assert train("gnn", *flags, "data.num_samples=400", *size) == 0
        printed = capsys.readouterr().out
        line = next(line for line in printed.splitlines() if line.startswith("Suggested LR: "))
        assert (folder / output / "lr_range/gnn.png").read_bytes().startswith(b"\x89PNG")
        return only_record(folder / output)["configuration"]["values"]["learning_rate"], line

    rate, line = found("--find-lr", output="first")
    assert rate != MODELS["gnn"]["config"]["learning_rate"]
    assert f"{rate:.3g} (range test)" in line
    assert found("--find-lr", output="second") == (rate, f"Suggested LR: {rate:.3g} (cache)")
    assert found("--force-find-lr", output="third") == (rate, line)
    (artifact,) = {path.name for path in folder.glob("mlartifacts/**/lr_range/*.png")}
    assert artifact == "gnn.png"


def test_a_failing_range_test_falls_back_and_says_why(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the lights went out")

    monkeypatch.setattr(training_module, "find_learning_rate", fail)
    assert train("gnn", "--find-lr", "--epochs", "1", "--output-dir", "run") == 0
    assert "No learning rate suggested (RuntimeError: the lights" in capsys.readouterr().out
    own = MODELS["gnn"]["config"]["learning_rate"]
    assert only_record(folder / "run")["configuration"]["values"]["learning_rate"] == own
    noted = [e for e in read_events(folder / "run/events.jsonl") if e.type == "lr_range"]
    assert [(e.source, e.learning_rate) for e in noted] == [("default", own)]


def test_a_failed_training_is_on_record(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("models.transformer.config.gradient_clip_norm=1e30",)
    flags = ("--lr", "10", "--epochs", "30", "--output-dir", "run")
    assert train("transformer", *flags, *settings) == 1
    assert "error: " in capsys.readouterr().err
    record = only_record(folder / "run")
    assert record["status"] == "failed"
    assert record["failure"]["kind"] in ("Diverged", "Collapsed")
    assert mlflow_state(folder / "mlflow.db")[0] == Counter(FAILED=1)


def test_fusion_names_what_is_missing_and_then_builds_on_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("fusion", "--epochs", "1") == 2
    refusal = capsys.readouterr().err
    assert "to families" not in refusal  # which a training takes no others into
    for command in ("sg-ray train transformer ", "sg-ray train gnn "):
        assert f"{command}experiment.yaml" in refusal
    assert "branches_from=" in refusal
    assert train("transformer", "--epochs", "1") == 0
    branches = f"branches_from={folder / 'outputs/train'}"
    assert train("fusion", "--epochs", "1", branches) == 2
    refusal = capsys.readouterr().err
    assert re.search(r"holds no trained gnn\. Train it first: \S*sg-ray train gnn\b", refusal)
    assert train("gnn", "--epochs", "1", "data.limit.train=100") == 0
    assert train("fusion", "--epochs", "1", branches) == 2
    assert "gnn was trained on other data" in capsys.readouterr().err
    assert train("gnn", "--epochs", "1") == 0
    assert train("fusion", "--epochs", "1", "--seed", "8", branches) == 2
    refusal = capsys.readouterr().err
    assert "trained with seed 8" in refusal
    assert re.search(r"sg-ray train gnn \S+\.yaml --seed 8\n", refusal)
    assert re.search(r"sg-ray train fusion \S+\.yaml --seed 8 branches_from=", refusal)
    assert train("fusion", "--epochs", "1", "--output-dir", "fused", branches) == 0
    assert set(only_record(folder / "fused")["branches"]) == {"transformer", "gnn"}
    check_that_it_predicts_as_trained(folder / "fused", capsys)


def check_that_it_predicts_as_trained(
    trained: Path, capsys: pytest.CaptureFixture[str], *settings: str
) -> None:
    """The folder is a model: it says of the validation functions what the training said."""
    experiment = load_experiment(Path("experiment.yaml"), settings)
    rows = load_data(experiment.data, experiment.cache_dir).splits["valid"]
    write_jsonl(Path("valid.jsonl"), rows)
    capsys.readouterr()
    assert main(["predict", str(trained), "valid.jsonl", "--json"]) == 0
    said, what_decides = capsys.readouterr()
    expected = read_predictions(trained / VALID_PREDICTIONS)
    assert expected is not None
    found = [json.loads(line)["probability"] for line in said.splitlines()]
    assert found == pytest.approx(expected.probabilities.tolist(), abs=1e-6)
    threshold = only_record(trained)["metrics"]["val_threshold"]
    assert f"vulnerable from {threshold:.4f} on" in what_decides


def test_the_families_that_a_fusion_builds_on_may_be_those_of_a_sweep(folder: Path) -> None:
    """Its branches lie in the records of the sweep of this name, not in branches_from."""
    write_experiment(
        folder,
        families=["transformer", "gnn", "fusion"],
        search={"num_trials": 1},
        replicate={"top_k": 1, "seeds": [42], "variance_seeds": 0},
        tracking={"enabled": False},
    )
    assert main(["sweep", "experiment.yaml", "--executor", "inline"]) == 0
    together = "families=[transformer,gnn,fusion]"
    assert train("fusion", "--epochs", "1", "--output-dir", "fused", together) == 0
    assert main(["predict", "fused", str(a_function(folder))]) == 0


def a_function(folder: Path) -> Path:
    path = folder / "f.c"
    path.write_text("int f(int a) { return a; }\n")
    return path


def test_what_lies_where_the_model_would_be_is_not_touched(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = folder / "run/detector/notes.txt"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    assert train("lexical", "--output-dir", "run") == 2
    assert "detector is in the way" in capsys.readouterr().err
    assert [path for path in (folder / "run").rglob("*") if path.is_file()] == [own]


def test_a_model_does_not_outlive_its_training(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--epochs", "1", "--output-dir", "run", "tracking.enabled=false")
    assert train("transformer", *flags) == 0
    (folder / "run/last.pt").unlink()
    diverges = ("--lr", "10", "models.transformer.config.gradient_clip_norm=1e30")
    assert train("transformer", *diverges, *flags, "--epochs", "30") == 1
    capsys.readouterr()
    assert main(["predict", "run", str(a_function(folder))]) == 2
    assert "holds no model.json" in capsys.readouterr().err


def test_a_model_that_cannot_be_made_costs_no_record(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def clean_cache(folder: SweepFolder, record: Any) -> None:
        write_record(folder, record)
        shutil.rmtree("cache")

    monkeypatch.setattr(training_module, "write_record", clean_cache)
    flags = ("--epochs", "1", "--output-dir", "run")
    assert train("gnn", *flags) == 2
    assert "trained and on record" in capsys.readouterr().err
    assert only_record(folder / "run")["status"] == "completed"
    assert mlflow_state(folder / "mlflow.db")[0] == Counter(FINISHED=1)
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert main(["train", "gnn", "--resume", "run"]) == 0
    assert main(["predict", "run", str(a_function(folder))]) == 0
    assert mlflow_state(folder / "mlflow.db")[0] == Counter(FINISHED=1)


def test_a_folder_of_another_configuration_is_refused_with_the_difference(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("gnn", "--epochs", "1", "--output-dir", "run") == 0
    before = only_record(folder / "run")
    assert train("gnn", "--epochs", "2", "--output-dir", "run") == 2
    assert "config.epochs: 1 in the file, 2 now" in capsys.readouterr().err
    assert only_record(folder / "run") == before


def test_resume_needs_a_checkpoint(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "gnn", "--resume", "nowhere/last.pt"]) == 2
    assert "--resume nowhere" in capsys.readouterr().err


def wait_for_epoch(journal: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while not any(event.type == "epoch" for event in read_events(journal)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)],
    ids=str,
)
def test_case_43_a_signal_saves_the_position_and_resume_ends_in_the_same_bits(
    folder: Path, number: signal.Signals, code: int
) -> None:
    epochs = ("--epochs", "25")
    assert train("gnn", *epochs, "--output-dir", "whole", "tracking.enabled=false") == 0
    command = [sys.executable, "-m", "sg_ray", "train", "gnn", *epochs, "--output-dir", "cut"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "experiment.yaml"],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    wait_for_epoch(folder / "cut/events.jsonl", process)
    os.kill(process.pid, number)
    assert process.wait(timeout=60) == code, (folder / "log").read_text()
    assert mlflow_state(folder / "mlflow.db")[0] == Counter(KILLED=1)
    assert not list((folder / "cut/records").glob("*"))

    told = (folder / "log").read_text()
    assert "positions saved" in told
    command = shlex.split(told.partition("go on with: ")[2].splitlines()[0])
    assert main(command[command.index("train") :]) == 0
    statuses, repeated = mlflow_state(folder / "mlflow.db")
    assert statuses == Counter(FINISHED=1)
    assert repeated == []
    whole, cut = (
        [{k: v for k, v in epoch.items() if k not in TIMED} for epoch in record["history"]]
        for record in map(only_record, (folder / "whole", folder / "cut"))
    )
    assert whole == cut
    weights = [
        torch.load(folder / name / "best_model.pt", weights_only=True)["model_state_dict"]
        for name in ("whole", "cut")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    script = """
import time
from sg_ray.host.signals import StopRequest, stopping
from sg_ray.sweep_folder import VALID_PREDICTIONS, SweepFolder
request = StopRequest(raises=False)
with stopping(request):
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert b"once more" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)  # passed on by a script, say
        time.sleep(SAME_SIGNAL_S + 0.2)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 143


def test_positions_are_saved_by_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, places = checkpoint.commit, []

    def watched(place: Path, last: Mapping[str, Any], best: Any, check: Any) -> None:
        places.append((last["epoch"], last["step_in_epoch"]))
        commit(place, last, best, check)

    monkeypatch.setattr(checkpoint, "commit", watched)
    assert train("gnn", "checkpoint_every_s=1e-9", "--epochs", "1", "--output-dir", "run") == 0
    assert places == [*((0, step) for step in range(1, len(places))), (1, 0)]
    assert len(places) > 2


def test_the_journal_is_json_lines(folder: Path) -> None:
    assert train("gnn", "--epochs", "1", "--output-dir", "run") == 0
    lines = (folder / "run/events.jsonl").read_text().splitlines()
    types = [json.loads(line)["type"] for line in lines]
    assert types == [
        "training_started",
        "trial_started",
        "epoch",
        "trial_finished",
        "training_finished",
    ]
