"""Folders that cannot be written are named before any work is done in vain."""

from collections.abc import Callable
from pathlib import Path

import pytest
from small_sweeps import DATABASE, INLINE, SWEEP, results, run_statuses

from sg_ray.cli import main

ReadOnly = Callable[[Path], None]


@pytest.fixture
def folder(begin: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    begin(tmp_path)
    return tmp_path


def test_read_only_outputs(
    read_only: ReadOnly, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    read_only(folder / "outputs")
    assert main(["sweep", "experiment.yaml"]) == 2
    said = capfd.readouterr().err
    assert f"output_dir: {folder / 'outputs'} cannot be written (Read-only file system)" in said
    assert sorted(path.name for path in folder.iterdir()) == [
        "experiment.yaml",
        "mlflow.db",
        "outputs",
    ]


def test_read_only_mlflow_folder(
    read_only: ReadOnly, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    read_only(folder / "store")
    assert main(["sweep", "experiment.yaml", "tracking.uri=sqlite:///store/mlflow.db"]) == 2
    said = capfd.readouterr().err
    assert f"tracking.uri: {folder / 'store'} cannot be written" in said
    assert sorted(path.name for path in folder.iterdir()) == [
        "experiment.yaml",
        "mlflow.db",
        "store",
    ]


def test_read_only_cache_without_features(
    read_only: ReadOnly, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    read_only(folder / "cache")
    assert main(["sweep", "experiment.yaml"]) == 1
    said = capfd.readouterr().err
    assert f"{Path('cache/features')}/" in said
    assert "Read-only file system" in said
    assert not (folder / SWEEP / "tune").exists()
    assert not (folder / SWEEP / "records").exists()
    assert run_statuses(folder / DATABASE) == {"FAILED": 1}


@pytest.mark.slow
def test_a_read_only_cache_that_holds_all_features_is_enough(
    read_only: ReadOnly, swept: Path, finished: Path
) -> None:
    read_only(swept / "cache")
    record = next((swept / SWEEP / "records").glob("*.json"))
    record.unlink()
    assert main(["sweep", "--resume", "tiny", *INLINE]) == 0
    assert results(swept / SWEEP) == results(finished / SWEEP)
