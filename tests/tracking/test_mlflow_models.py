"""The winner in MLflow's registry: once, loadable, and what its pages show of it."""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from scripted_sweep import tell_end, tell_sweep, write_winner

from sg_ray.configuration import Configuration
from sg_ray.data.sources import DataConfig, load_data
from sg_ray.detector import Detector
from sg_ray.export import export_model
from sg_ray.features.build import prepare_features
from sg_ray.features.spec import TextSpec
from sg_ray.models.families import FAMILIES
from sg_ray.records.events import SweepResumed
from sg_ray.records.record import record_of
from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.mlflow_mirror import MlflowMirror
from sg_ray.tracking.mlflow_models import EXAMPLE
from sg_ray.trial.context import TrialContext
from sg_ray.trial.run import run_trial
from sg_ray.trial.spec import TrialSpec

SOURCES = ["int f(char *s) { return strlen(s); }", "int g(void) { return 1; }"]


@pytest.fixture(scope="session")
def exported_floor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real model, trained and exported in a second."""
    import torch

    folder = tmp_path_factory.mktemp("floor")
    data = load_data(DataConfig(num_samples=100))
    features = prepare_features(data, [TextSpec()], folder / "cache")
    configuration = Configuration.of("lexical", "lexical", FAMILIES["lexical"].Config(min_df=1))
    spec = TrialSpec(
        configuration=configuration, seed=0, objective="val_f1",
        data_fingerprint=data.fingerprint, code_version="test",
    )  # fmt: skip
    context = TrialContext(features, folder / "cache", torch.device("cpu"))
    (epoch,) = run_trial(spec, context, folder / "trial")
    record = record_of(
        spec, "floor", [{"epoch": 1, **epoch.metrics}], status="completed", started_at_ms=0,
        environment={}, failure=None,
    )  # fmt: skip
    export_model(record, {}, folder / "trial", folder / "cache", folder / "lexical")
    return folder / "lexical"


@pytest.fixture
def winner(sweep_dir: Path, exported_floor: Path) -> Path:
    """The winner of the scripted sweep: its folder holds a real model."""
    folder = write_winner(sweep_dir, "t-best")
    shutil.rmtree(folder)
    shutil.copytree(exported_floor, folder)
    return folder


@pytest.fixture
def client(uri: str):
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri, registry_uri=uri)


@pytest.fixture
def global_uri():
    """Sets the process's tracking URI, as a user of the model does, and takes it back.

    A server in this process (see mlflow_server.py) leaves URIs of its own behind.
    """
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_registry_uri("")  # that of the tracking server
    yield mlflow.set_tracking_uri
    mlflow.set_tracking_uri(before)


def test_the_winner_is_loaded_in_three_lines(journal, sweep_dir, uri, winner, global_uri):
    import mlflow

    tell_sweep(journal, sweep_dir)
    assert MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync().error is None

    global_uri(uri)
    model = mlflow.pyfunc.load_model("models:/tiny@champion")
    table = model.predict(SOURCES)

    detector = Detector.load(winner)
    expected = detector.predict(SOURCES)
    assert table["probability"].tolist() == expected.tolist()
    assert table["vulnerable"].tolist() == detector.decide(expected).tolist()
    assert model.input_example == [EXAMPLE]
    assert model.metadata.signature.outputs.input_names() == ["probability", "vulnerable"]


def test_the_model_hangs_together_with_its_runs(client, journal, sweep_dir, uri):
    folder = write_winner(sweep_dir, "t-best")
    tell_sweep(journal, sweep_dir)
    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()

    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    of_key = {run.data.tags.get("trial_key", ""): run for run in runs}
    (model,) = client.search_logged_models([experiment.experiment_id])
    shown_at = {key for key, run in of_key.items() if run.outputs and run.outputs.model_outputs}
    assert shown_at == {"", "t-best"}
    assert model.source_run_id == of_key["t-best"].info.run_id
    assert {metric.key: metric.value for metric in model.metrics}["best_val_f1"] == 0.53
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "tiny", "version": "1"}]
    place = Path(model.artifact_location.removeprefix("file://"))
    assert (place / "detector" / "best_model.pt").read_bytes() == (
        folder / "best_model.pt"
    ).read_bytes()
    assert len(list(place.rglob("best_model.pt"))) == 1, "weights are copied once"


@pytest.mark.parametrize("lost", ["nothing", "position"])
def test_a_replay_and_a_resumed_sweep_make_no_second_version(
    lost, client, journal, sweep_dir, uri, query
):
    write_winner(sweep_dir, "t-best")
    tell_sweep(journal, sweep_dir)
    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()
    if lost == "position":
        (sweep_dir / "tracking.json").unlink()
    journal.append(SweepResumed())
    tell_end(journal, sweep_dir, mean=0.54)

    assert MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync().error is None

    assert query("select version, description from model_versions") == [
        (1, "gnn ab12cd34 is ranked first, val_f1 0.5400 +- 0.0100.")
    ]
    assert query("select count(*) from logged_models") == [(1,)]


def test_another_winner_becomes_the_next_version_and_champion(client, journal, sweep_dir, uri):
    write_winner(sweep_dir, "t-best")
    tell_sweep(journal, sweep_dir)
    mirror = MlflowMirror(SweepFolder(sweep_dir), uri, "tiny")
    mirror.sync()
    journal.append(SweepResumed())
    write_winner(sweep_dir, "t-cut")
    tell_end(journal, sweep_dir)
    mirror.sync()

    versions = {v.version: v.tags["trial_key"] for v in client.search_model_versions("name='tiny'")}
    assert {int(number): key for number, key in versions.items()} == {1: "t-best", 2: "t-cut"}
    assert int(client.get_model_version_by_alias("tiny", "champion").version) == 2


def test_a_surplus_version_is_removed(client, journal, sweep_dir, uri):
    write_winner(sweep_dir, "t-best")
    tell_sweep(journal, sweep_dir)
    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()
    first = client.get_model_version("tiny", "1")
    client.create_model_version("tiny", first.source, first.run_id, tags=first.tags)
    (sweep_dir / "tracking.json").unlink()

    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()

    assert len(client.search_model_versions("name='tiny'")) == 1


def test_it_can_be_turned_off(journal, sweep_dir, uri, query):
    write_winner(sweep_dir, "t-best")
    tell_sweep(journal, sweep_dir)
    mirror = MlflowMirror(SweepFolder(sweep_dir), uri, "tiny", register_model=False)
    assert mirror.sync().num_pending == 0
    assert query("select count(*) from logged_models") == [(0,)]


def test_a_model_that_cannot_be_copied_is_a_warning_and_made_up_for(
    journal, sweep_dir, uri, query, caplog
):
    folder = write_winner(sweep_dir, "t-best")
    weights = folder / "best_model.pt"
    weights.unlink()
    weights.symlink_to("nowhere")
    tell_sweep(journal, sweep_dir)
    with caplog.at_level(logging.WARNING, "sg_ray"):
        result = MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()
    assert result.num_pending > 0
    assert "MLflow does not store the winner's model (which" in caplog.text
    assert "FileNotFoundError" in caplog.text
    assert query("select count(*) from model_versions") == [(0,)]
    assert query("select distinct status from runs where name = 'tiny'") == [("FINISHED",)]

    weights.unlink()
    weights.write_bytes(b"weights")
    assert MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync().num_pending == 0
    assert query("select count(*) from model_versions") == [(1,)]


def test_nothing_is_written_outside_the_store(
    journal, sweep_dir, uri, tmp_path, monkeypatch, capfd
):
    write_winner(sweep_dir, "t-best")
    tell_sweep(journal, sweep_dir)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync().error is None
    assert list((tmp_path / "here").iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_it_works_with_a_server(
    journal, sweep_dir, winner, tmp_path, migrated_database, global_uri
):
    import mlflow

    shutil.copy(migrated_database, tmp_path / "server.db")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    command += ["--artifacts-destination", str(tmp_path / "artifacts")]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health")
        address = f"http://127.0.0.1:{port}"
        tell_sweep(journal, sweep_dir)
        assert MlflowMirror(SweepFolder(sweep_dir), address, "tiny").sync().is_complete
        global_uri(address)
        table = mlflow.pyfunc.load_model("models:/tiny@champion").predict(SOURCES)
        assert table["probability"].tolist() == Detector.load(winner).predict(SOURCES).tolist()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=60)


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(address)
