"""MLflow's states are told apart, each with what to do about it: by preflight, sync and mirror."""

import logging
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow_server import Server
from scripted_sweep import OUTCOMES, begin, tell_sweep, tell_trial, write_winner

from sg_ray.cli import main
from sg_ray.errors import InputError
from sg_ray.records.events import TrainingFinished, TrainingStarted
from sg_ray.records.journal import Journal
from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.address import WHOLE_URI
from sg_ray.tracking.check import check_store
from sg_ray.tracking.mlflow_mirror import MlflowMirror
from sg_ray.tracking.troubles import StoreTrouble

Query = Callable[[str], list[tuple]]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def client(uri: str) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri, registry_uri=uri)


def preflight(uri: str, base: Path, name: str = "tiny") -> str:
    report = check_store(uri, base, name, SweepFolder(base / "outputs" / name))
    return report.detail + report.warning


def content(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        return "\n".join(connection.iterdump())


def test_case_44_a_deleted_experiment_is_told_by_all(
    client: Any,
    journal: Journal,
    sweep_dir: Path,
    uri: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(sweep_dir.parents[1])
    tell_sweep(journal, sweep_dir)
    (sweep_dir / "sweep.yaml").write_text(f"name: tiny\ntracking:\n  uri: {uri}\n")
    assert main(["track", "sync", "tiny"]) == 0
    number = client.get_experiment_by_name("tiny").experiment_id
    client.delete_experiment(number)
    restore = f"mlflow experiments restore -x {number}"
    capsys.readouterr()

    assert main(["track", "sync", "tiny"]) == 1
    told = capsys.readouterr()
    assert "experiment tiny was deleted in MLflow" in told.err
    assert restore in told.err
    assert "once" not in told.err

    with pytest.raises(StoreTrouble, match="was deleted in MLflow") as trouble:
        preflight(uri, Path.cwd())
    assert restore in str(trouble.value)

    command = trouble.value.advice.partition("(")[2].partition(")")[0]
    assert command.startswith(f"{WHOLE_URI}={uri} ")
    client.restore_experiment(number)
    assert main(["track", "sync", "tiny"]) == 0


def test_case_44_so_is_one_deleted_in_mid_sweep(
    client: Any, journal: Journal, sweep_dir: Path, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    journal.append(begin())
    running = MlflowMirror(SweepFolder(sweep_dir), uri, "tiny")
    running.start()
    running.sync()
    client.delete_experiment(client.get_experiment_by_name("tiny").experiment_id)
    tell_sweep(journal, sweep_dir)
    with caplog.at_level(logging.WARNING, "sg_ray"):
        result = running.close()
    assert "was deleted in MLflow" in str(result.error)
    last = caplog.records[-1].getMessage()
    assert "mlflow experiments restore -x 2" in last
    assert "can be reached" not in last
    client.restore_experiment("2")
    assert MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync().is_complete


@pytest.mark.parametrize(
    ("status", "message", "advice"),
    [
        ("401 Unauthorized", "refuses", "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASS"),
        ("403 Forbidden", "refuses", "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASS"),
        ("404 Not Found", "no MLflow server answers at .*, but something else", "Correct tracking"),
        ("200 OK", "no MLflow server answers at .*, but something else", "Correct tracking.uri"),
        ("502 Bad Gateway", "no MLflow server answers", "Start it"),
    ],
)
def test_answers_of_a_server_are_told_apart(
    status: str,
    message: str,
    advice: str,
    server: Server,
    journal: Journal,
    sweep_dir: Path,
) -> None:
    server.answer = lambda _: status
    with pytest.raises(StoreTrouble, match=message) as trouble:
        preflight(server.uri, sweep_dir)
    assert advice in trouble.value.advice
    tell_sweep(journal, sweep_dir)
    result = MlflowMirror(SweepFolder(sweep_dir), server.uri, "states").sync()
    assert (result.error, result.advice) == (trouble.value.problem, trouble.value.advice)
    assert not result.is_complete


def test_preflight_writes_to_a_server_and_takes_it_back(server: Server, tmp_path: Path) -> None:
    def visible() -> list[tuple]:
        with closing(sqlite3.connect(server.database)) as connection:
            return connection.execute(
                "select name from experiments where lifecycle_stage = 'active'"
            ).fetchall()

    before = visible()
    assert "took a run and a file" in preflight(server.uri, tmp_path, "to-come")
    assert visible() == before
    assert [path for path in server.artifacts.rglob("*sg-ray-preflight*") if path.is_file()] == []
    server.answer = lambda environ: (
        "500 Internal Server Error" if "mlflow-artifacts" in environ["PATH_INFO"] else None
    )
    with pytest.raises(StoreTrouble, match="takes runs, but no files"):
        preflight(server.uri, tmp_path, "to-come")


@pytest.mark.parametrize("exists", [False, True])
def test_preflight_leaves_a_database_as_it_was(
    exists: bool, journal: Journal, sweep_dir: Path, uri: str, database: Path
) -> None:
    if exists:
        tell_sweep(journal, sweep_dir)
        assert MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync().is_complete
    before = content(database), sorted(database.parent.rglob("*"))
    assert "took a run and a file" in preflight(uri, database.parent)
    assert (content(database), sorted(database.parent.rglob("*"))) == before


def test_b03_preflight_finds_that_files_cannot_be_stored(
    client: Any, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)  # as where it is not installed
    client.create_experiment("tiny", artifact_location="s3://bucket/tiny")
    with pytest.raises(StoreTrouble, match=r"takes runs, but no files .*boto3"):
        preflight(uri, tmp_path)
    client.create_experiment("blocked", artifact_location=f"file://{tmp_path}/file/artifacts")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreTrouble, match=r"takes runs, but no files .*file/artifacts"):
        preflight(uri, tmp_path, "blocked")


def test_a_folder_of_artifacts_that_is_a_file_is_found_before(tmp_path: Path) -> None:
    (tmp_path / "mlartifacts").write_text("in the way")
    with pytest.raises(Exception, match="mlartifacts cannot be written"):
        preflight("sqlite:///mlflow.db", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mlartifacts"]


def test_a_new_database_is_tried_and_not_made(tmp_path: Path) -> None:
    assert "a new database" in preflight("sqlite:///deep/below/mlflow.db", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_release_of_the_database_is_told(
    journal: Journal, sweep_dir: Path, uri: str, database: Path
) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update alembic_version set version_num = '0123456789ab'")
    with pytest.raises(StoreTrouble, match="schema of another MLflow release") as trouble:
        preflight(uri, sweep_dir)
    assert f"mlflow db upgrade {uri}" in str(trouble.value)
    tell_sweep(journal, sweep_dir)
    assert "0123456789ab" in str(MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync().error)


class _Proxy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()

    do_POST = do_GET  # noqa: N815 - the name is http.server's

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def proxy() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Proxy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("is_away", [False, True])
def test_e07_a_proxy_before_this_machine_is_named(
    is_away: bool,
    proxy: str,
    server: Server,
    journal: Journal,
    sweep_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9" if is_away else proxy)
    tell_sweep(journal, sweep_dir)
    running = MlflowMirror(SweepFolder(sweep_dir), server.uri, "proxied")
    running.start()
    running.close()
    assert "Set no_proxy=127.0.0.1" in caplog.text
    assert caplog.text.count("ProxyError") <= 2, "a word each time, not the whole of it"
    with pytest.raises(StoreTrouble, match=r"Set no_proxy=127\.0\.0\.1"):
        preflight(server.uri, sweep_dir)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert MlflowMirror(SweepFolder(sweep_dir), server.uri, "proxied").sync().is_complete


@pytest.mark.parametrize("name", ["a%20b", "what? #1"])
def test_e04_odd_signs_in_the_folders_name_are_read_as_they_are(
    name: str, migrated_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / name
    checkout.mkdir()
    (checkout / "mlflow.db").write_bytes(migrated_database.read_bytes())
    monkeypatch.chdir(checkout)
    sweep_dir = checkout / "outputs" / "tiny"
    journal = Journal(sweep_dir / "events.jsonl")
    tell_sweep(journal, sweep_dir)
    journal.close()
    preflight("sqlite:///mlflow.db", checkout)
    assert MlflowMirror(SweepFolder(sweep_dir), "sqlite:///mlflow.db", "tiny").sync().is_complete
    with closing(sqlite3.connect(checkout / "mlflow.db")) as connection:
        (found,) = connection.execute("select count(*) from runs").fetchall()
    assert found == (len(OUTCOMES) + 1,)
    assert [path.name for path in tmp_path.iterdir() if path.name != name] == []
    assert list((checkout / "mlartifacts").rglob("sweep.yaml"))


def test_b26_two_sweeps_of_one_name_are_two_experiments_and_two_models(
    client: Any, tmp_path: Path, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    folders = [tmp_path / person / "outputs" / "quick" for person in ("ada", "bob")]
    owners, mirrors = ("t-best", "t-cut"), []
    caplog.set_level(logging.WARNING, "sg_ray")
    for folder, winner in zip(folders, owners, strict=True):
        with closing(Journal(folder / "events.jsonl")) as journal:
            write_winner(folder, winner)
            tell_sweep(journal, folder)
        mirrors.append(MlflowMirror(SweepFolder(folder), uri, "quick"))
        assert mirrors[-1].sync().is_complete
    names = {one.name for one in client.search_experiments()} - {"Default", "template"}
    (other,) = names - {"quick"}
    assert other.startswith("quick-")
    assert f"This sweep is experiment {other}" in caplog.text
    assert len(caplog.records) == 1
    for name, winner in zip(("quick", other), owners, strict=True):
        version = client.get_model_version_by_alias(name, "champion")
        assert version.tags["trial_key"] == winner
        experiment = client.get_experiment_by_name(name)
        assert len(client.search_runs([experiment.experiment_id])) == len(OUTCOMES) + 1
    (run,) = client.search_runs([experiment.experiment_id], "tags.`sg_ray.kind` = 'sweep'")
    assert f"models:/{other}@champion" in run.data.tags["mlflow.note.content"]

    moved = folders[0].rename(tmp_path / "moved")
    assert MlflowMirror(SweepFolder(moved), uri, "quick").sync().is_complete
    assert {one.name for one in client.search_experiments()} >= names
    assert len(client.search_experiments()) == len(names) + 2, "a moved sweep is the same"


def test_trainings_share_an_experiment_and_leave_the_sweep_its_own(
    client: Any, journal: Journal, sweep_dir: Path, tmp_path: Path, uri: str
) -> None:
    trainings = [tmp_path / "outputs" / "train" / name for name in ("gnn-a", "gnn-b")]
    for number, folder in enumerate(trainings):
        with closing(Journal(folder / "events.jsonl")) as own:
            own.append(TrainingStarted(name="tiny", sweep_id=f"training-{number}", plan={}))
            tell_trial(own, folder, f"t-{number}", "completed")
            own.append(TrainingFinished(trial_key=f"t-{number}", status="completed"))
        assert MlflowMirror(SweepFolder(folder), uri, "tiny").sync().is_complete
    tell_sweep(journal, sweep_dir)
    assert MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync().is_complete
    found = {one.name: one for one in client.search_experiments()}
    assert found.keys() - {"Default", "template"} == {"tiny", "tiny-trainings"}
    sizes = {"tiny": len(OUTCOMES) + 1, "tiny-trainings": len(trainings)}
    for name, size in sizes.items():
        assert len(client.search_runs([found[name].experiment_id])) == size
    (group,) = {
        run.data.tags["configuration"]
        for run in client.search_runs([found["tiny-trainings"].experiment_id])
    }
    assert group.startswith("gnn "), "its name, which tells how settings were given, is no part"
    assert MlflowMirror(SweepFolder(sweep_dir), uri, "tiny-trainings").sync().is_complete
    (other,) = {one.name for one in client.search_experiments()} - {"Default", "template", *found}
    assert other.startswith("tiny-trainings-"), "a sweep called so is not theirs"


def test_the_next_sweep_of_a_folder_has_the_same_experiment(
    client: Any, sweep_dir: Path, uri: str
) -> None:
    for _ in range(2):
        (sweep_dir / "tracking.json").unlink(missing_ok=True)
        (sweep_dir / "events.jsonl").unlink(missing_ok=True)
        with closing(Journal(sweep_dir / "events.jsonl")) as journal:
            write_winner(sweep_dir, "t-best")
            tell_sweep(journal, sweep_dir)
        assert MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync().is_complete
    experiment = client.get_experiment_by_name("tiny")
    assert len(client.search_runs([experiment.experiment_id])) == 2 * (len(OUTCOMES) + 1)


def test_a_model_of_somebody_else_keeps_its_name(
    client: Any, journal: Journal, sweep_dir: Path, uri: str
) -> None:
    client.create_registered_model("tiny")
    client.create_model_version("tiny", source="file:///theirs", tags={"theirs": "yes"})
    client.set_registered_model_alias("tiny", "champion", 1)
    write_winner(sweep_dir, "t-best")
    tell_sweep(journal, sweep_dir)
    assert MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync().is_complete
    assert client.get_model_version_by_alias("tiny", "champion").tags == {"theirs": "yes"}
    (own,) = {model.name for model in client.search_registered_models()} - {"tiny"}
    assert client.get_model_version_by_alias(own, "champion").tags["trial_key"] == "t-best"


def test_c06_mlflow_is_imported_by_the_main_thread_if_at_all(tmp_path: Path) -> None:
    program = """
import sys, threading
from pathlib import Path
from types import SimpleNamespace

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "mlflow":
            print(threading.current_thread().name)

sys.meta_path.insert(0, Watch())
from sg_ray.tracking.mlflow_mirror import mirror_of
from sg_ray.sweep_folder import SweepFolder
folder = SweepFolder(Path("outputs/tiny").absolute())
for enabled in (False, True):
    tracking = SimpleNamespace(enabled=enabled, uri="sqlite:///mlflow.db", register_model=True)
    with mirror_of(tracking, "tiny", folder):
        print("mlflow" in sys.modules, "ray" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"},
    )
    assert done.stdout.split() == ["False", "False", "MainThread", "True", "False"]


def test_where_to_look_is_a_command_or_the_view_of_configurations(
    journal: Journal, sweep_dir: Path, uri: str, server: Server
) -> None:
    tell_sweep(journal, sweep_dir)
    view = "runs?workflowType=machine_learning&viewStateShareKey=configurations"
    local = MlflowMirror(SweepFolder(sweep_dir), uri, "tiny")
    (command,) = local.where_to_look()
    assert command.endswith(f"ui {sweep_dir}")
    with pytest.raises(InputError, match="track sync"):
        local.page()
    local.sync()
    assert local.page().view == f"#/experiments/2/{view}"
    remote = MlflowMirror(SweepFolder(sweep_dir), server.uri, "looked-at")
    assert remote.where_to_look() == [], "nothing is known of the store yet"
    remote.sync()
    (address,) = remote.where_to_look()
    assert address == f"{server.uri}/{remote.page().view}"
    assert address.startswith(f"{server.uri}/#/experiments/")
    assert address.endswith(view)
