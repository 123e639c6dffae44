"""Folders and files whose names mean something else in YAML, through the real commands."""

import json
from pathlib import Path

import pytest
from tiny_sweep import write_experiment

from sg_ray.cli import main
from sg_ray.data.sources import DataConfig, load_data, write_jsonl

ODD = "run #3, a: b [x]/lr=1e-3"


def test_b05_a_training_in_an_odd_folder_on_odd_files_is_reproduced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(ODD).mkdir(parents=True)
    experiment = write_experiment(Path(ODD), tracking={"enabled": False})
    data = Path("data #3")
    for split, samples in load_data(DataConfig(num_samples=80)).splits.items():
        write_jsonl(data / f"{split}: 1.jsonl", samples)
    files = ["--train-data", f"{data}/train: 1.jsonl", "--val-data", f"{data}/valid: 1.jsonl"]
    run = f"{ODD}/run"
    command = ["train", "gnn", "--config", str(experiment), "--output-dir", run, *files]
    assert main([*command, "--epochs", "1", "--lr", "1e-3", "--seed", "4294967295"]) == 0
    (record,) = (json.loads(path.read_text()) for path in Path(run, "records").glob("*.json"))
    assert (record["seed"], record["configuration"]["values"]["learning_rate"]) == (
        4294967295,
        0.001,
    )
    assert {path.name for path in tmp_path.iterdir()} == {"run #3, a: b [x]", "data #3"}
    assert main(["train", "gnn", "--resume", run]) == 0, "finished: the same trial, read again"
    assert main(["reproduce", run]) == 0
    assert main(["report", run]) == 0
    capsys.readouterr()
