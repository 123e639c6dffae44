"""What MLflow does not take: told, passed over, and no reason to hold up the rest."""

import logging
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow_server import Environ, Server
from scripted_sweep import (
    NUM_EPOCHS,
    OUTCOMES,
    begin,
    start_trial,
    tell_end,
    tell_sweep,
    tell_trial,
    write_winner,
)

from sg_ray.records.events import (
    EpochEnded,
    LearningRateFound,
    SweepResumed,
    TrialFinished,
)
from sg_ray.records.journal import Journal, read_events
from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.mlflow_mirror import MAX_FAILURES_IN_A_ROW, MlflowMirror, SyncResult

Query = Callable[[str], list[tuple]]
POINTS = "select count(*) from metrics where key = 'val_f1'"
RUNNING = "select count(*) from runs where status = 'RUNNING'"


def mirror(sweep_dir: Path, uri: str) -> SyncResult:
    return MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()


def set_artifact_place(database: Path, place: str) -> None:
    """Have new experiments and runs keep their artifacts elsewhere, as a server's owner may."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update experiments set artifact_location = ?", (f"{place}/0",))
        connection.execute("update runs set artifact_uri = ? || '/' || run_uuid", (place,))


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "sg_ray")
    return caplog


def test_b03_without_boto3_every_metric_is_there_and_files_follow_when_they_can(
    journal: Journal,
    sweep_dir: Path,
    uri: str,
    database: Path,
    query: Query,
    tmp_path: Path,
    warnings: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)  # as where it is not installed
    journal.append(begin())
    (sweep_dir / "sweep.yaml").write_text("name: tiny\n")
    assert mirror(sweep_dir, uri).is_complete
    set_artifact_place(database, "s3://bucket/sweeps")
    write_winner(sweep_dir, "t-best")
    tell_sweep(journal, sweep_dir)

    result = mirror(sweep_dir, uri)

    assert result.error is None
    assert result.num_mirrored == len(list(read_events(journal.path))) - 1
    assert query(POINTS) == [(len(OUTCOMES) * NUM_EPOCHS,)]
    assert query(RUNNING) == [(0,)]
    assert result.num_pending == result.num_unsent > len(OUTCOMES)
    assert "boto3" in warnings.text
    assert len(warnings.records) == 1, "the same cause is told once"

    set_artifact_place(database, f"file://{tmp_path}/mended")
    assert mirror(sweep_dir, uri).is_complete
    stored = {path.name for path in (tmp_path / "mended").rglob("*") if path.is_file()}
    assert {"t-best.json", "t-cut.json", "leaderboard.csv", "sweep.yaml", "gnn.json"} <= stored
    assert query("select version from model_versions") == [(1,)]
    assert mirror(sweep_dir, uri).num_mirrored == 0


def test_b03_the_end_of_a_sweep_says_what_is_missing_and_the_command(
    journal: Journal,
    sweep_dir: Path,
    uri: str,
    database: Path,
    warnings: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)  # MLflow would keep a client for other tests
    journal.append(begin())
    mirror(sweep_dir, uri)
    set_artifact_place(database, "s3://bucket/sweeps")
    tell_trial(journal, sweep_dir, "t1", "completed")
    running = MlflowMirror(SweepFolder(sweep_dir), uri, "tiny")
    running.start()
    running.close()
    last = warnings.records[-1].getMessage()
    assert "files of 1 events" in last
    assert f"sg-ray track sync {sweep_dir}" in last


def test_b03_a_store_of_files_that_is_away_is_not_asked_for_every_file(
    journal: Journal, sweep_dir: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    asked: list[str] = []

    def away(self: object, local_file: str, artifact_path: str | None = None) -> None:
        asked.append(local_file)
        raise TimeoutError("the bucket does not answer")

    for number in range(10):
        tell_trial(journal, sweep_dir, f"t{number}", "completed", number)
    journal.append(begin())
    with monkeypatch.context() as patch:
        patch.setattr(LocalArtifactRepository, "log_artifact", away)
        result = mirror(sweep_dir, uri)
    assert result.num_unsent == 11, "of ten trials, and of the sweep's start"
    assert len(asked) <= 2 * MAX_FAILURES_IN_A_ROW
    assert mirror(sweep_dir, uri).is_complete


def test_b03_one_odd_event_or_value_is_left_out_alone(
    journal: Journal,
    sweep_dir: Path,
    uri: str,
    query: Query,
    warnings: pytest.LogCaptureFixture,
) -> None:
    journal.append(begin())
    tell_trial(journal, sweep_dir, "t-before", "completed")
    start_trial(journal, "t-odd", config={"a name%": 1, "x" * 300: 2, "learning_rate": 0.1})
    journal.append(
        EpochEnded(trial_key="t-odd", epoch=1, metrics={"val_f1": 0.5, "val f1 in %": 50, "ok": 1})
    )
    journal.append(EpochEnded(trial_key="t-odd", epoch=2, metrics={"y" * 300: 1.0, "val_f1": 0.6}))
    journal.append(LearningRateFound(model="in %", learning_rate=1e-3, source="default", curve=[]))
    with journal.path.open("a") as file:  # what is no valid event, and passed over as damage
        file.write('{"at_ms": 1, "type": "epoch", "trial_key": "t-odd", "epoch": "three"}\n')
        file.write('{"at_ms": 1, "type": "trial_started", "trial_key": "t-none"}\n')
    tell_trial(journal, sweep_dir, "t-after", "completed")
    tell_end(journal, sweep_dir)

    result = mirror(sweep_dir, uri)

    assert (result.num_pending, result.error) == (0, None)
    assert result.num_refused == 5
    assert not result.is_complete
    for told in ("'a name%'", "'val f1 in %'", "lr_range", "'yyyy"):
        assert told in warnings.text
    assert query(POINTS) == [(2 * NUM_EPOCHS + 2,)]
    assert query("select value from metrics where key = 'ok'") == [(1.0,)]
    assert query("select value from params where key = 'learning_rate' and value = '0.1'")
    statuses = dict(
        query(
            "select t.value, status from runs join tags t using (run_uuid)"
            " where t.key = 'trial_key'"
        )
    )
    assert statuses == {"t-before": "FINISHED", "t-odd": "KILLED", "t-after": "FINISHED"}
    assert mirror(sweep_dir, uri).is_complete, "it is told once"


def test_b03_a_parameter_that_has_changed_is_left_out(
    journal: Journal, sweep_dir: Path, uri: str, query: Query
) -> None:
    from mlflow.tracking import MlflowClient

    journal.append(begin())
    start_trial(journal, "t1")
    assert mirror(sweep_dir, uri).is_complete
    (run_id,) = query("select run_uuid from params where key = 'epochs'")[0]
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("delete from params where key != 'epochs'")
        connection.execute("update params set value = '99'")
    (sweep_dir / "tracking.json").unlink()
    journal.append(EpochEnded(trial_key="t1", epoch=1, metrics={"val_f1": 0.5}))
    assert mirror(sweep_dir, uri).error is None
    assert MlflowClient(uri).get_run(run_id).data.metrics == {"val_f1": 0.5}


def breaking(path: str, status: str, times: int) -> Callable[[Environ], str | None]:
    """Answer the first so many requests for a path with a status."""
    left = times

    def answer(environ: Environ) -> str | None:
        nonlocal left
        if left and environ["PATH_INFO"].endswith(path):
            left -= 1
            return status
        return None

    return answer


def test_b03_a_server_that_breaks_on_one_request_goes_on_with_the_others(
    server: Server, journal: Journal, sweep_dir: Path
) -> None:
    """A batch that the server breaks on is sent by halves, and so arrives."""
    tell_sweep(journal, sweep_dir)
    server.answer = breaking("runs/log-batch", "500 Internal Server Error", 3)
    result = MlflowMirror(SweepFolder(sweep_dir), server.uri, "breaks").sync()
    assert (result.num_pending, result.error) == (0, None)


@pytest.mark.parametrize("path", ["runs/log-batch", "runs/create", "runs/update"])
def test_a_server_that_is_down_for_a_moment_is_waited_for(
    path: str, server: Server, journal: Journal, sweep_dir: Path
) -> None:
    name = f"waits-{path.partition('/')[2]}"
    tell_sweep(journal, sweep_dir)
    server.answer = breaking(path, "503 Service Unavailable", 1)
    waiting = MlflowMirror(SweepFolder(sweep_dir), server.uri, name)
    assert "no MLflow server answers" in str(waiting.sync().error)
    assert waiting.sync().is_complete
    with closing(sqlite3.connect(server.database)) as connection:
        runs = connection.execute(
            "select count(*) from runs join experiments e using (experiment_id)"
            f" where e.name = '{name}' and runs.lifecycle_stage = 'active'"
        ).fetchall()
        points = connection.execute(
            "select count(*) from metrics join runs using (run_uuid)"
            " join experiments e using (experiment_id)"
            f" where e.name = '{name}' and key = 'val_f1'"
        ).fetchall()
    assert runs == [(len(OUTCOMES) + 1,)]
    assert points == [(len(OUTCOMES) * NUM_EPOCHS,)]


def test_a_run_deleted_in_mid_sweep_stays_deleted(
    journal: Journal,
    sweep_dir: Path,
    uri: str,
    query: Query,
    warnings: pytest.LogCaptureFixture,
) -> None:
    from mlflow.tracking import MlflowClient

    journal.append(begin())
    for key in ("t-kept", "t-deleted", "t-gone"):
        start_trial(journal, key)
    running = MlflowMirror(SweepFolder(sweep_dir), uri, "tiny")
    running.sync()
    client, runs = MlflowClient(uri), running.run_ids()
    for key in ("t-deleted", "t-gone"):
        client.delete_run(runs[key])
    client._tracking_client.store._hard_delete_run(runs["t-gone"])
    for key in runs:
        journal.append(EpochEnded(trial_key=key, epoch=1, metrics={"val_f1": 0.5}))
        journal.append(TrialFinished(trial_key=key, status="completed", epochs=1, metrics={}))
    tell_end(journal, sweep_dir)

    result = running.sync()

    assert (result.num_pending, result.error) == (0, None)
    assert "trial t-deleted was deleted there, and stays so" in warnings.text
    assert query("select run_uuid from metrics where key = 'val_f1'") == [(runs["t-kept"],)]
    assert query(RUNNING + " and lifecycle_stage = 'active'") == [(0,)]


def test_a_registered_model_that_was_deleted_is_made_again(
    journal: Journal, sweep_dir: Path, uri: str, query: Query
) -> None:
    from mlflow.tracking import MlflowClient

    write_winner(sweep_dir, "t-best")
    tell_sweep(journal, sweep_dir)
    assert mirror(sweep_dir, uri).is_complete
    MlflowClient(uri, registry_uri=uri).delete_registered_model("tiny")
    journal.append(SweepResumed())
    tell_end(journal, sweep_dir)
    assert mirror(sweep_dir, uri).is_complete
    assert query("select alias, version from registered_model_aliases") == [("champion", 1)]


def test_files_that_are_never_stored_hold_up_no_others(
    journal: Journal, sweep_dir: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    store = LocalArtifactRepository.log_artifact
    too_large = tuple(f"t{number}.json" for number in range(MAX_FAILURES_IN_A_ROW))

    def choosy(self: Any, local_file: str, artifact_path: str | None = None) -> None:
        if local_file.endswith(too_large):
            raise OSError("413: too large")
        store(self, local_file, artifact_path)

    journal.append(begin())
    for number in range(MAX_FAILURES_IN_A_ROW + 3):
        tell_trial(journal, sweep_dir, f"t{number}", "completed", number)
    monkeypatch.setattr(LocalArtifactRepository, "log_artifact", choosy)
    mirror(sweep_dir, uri)
    assert mirror(sweep_dir, uri).num_unsent == len(too_large)


def test_a_damaged_last_line_is_not_waited_for(journal: Journal, sweep_dir: Path, uri: str) -> None:
    tell_sweep(journal, sweep_dir)
    assert mirror(sweep_dir, uri).is_complete
    with journal.path.open("a") as file:
        file.write("no event\n")
    assert mirror(sweep_dir, uri).is_complete


def test_a_journal_without_its_beginning_says_so(
    journal: Journal, sweep_dir: Path, uri: str
) -> None:
    start_trial(journal, "t1")
    result = MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync(is_over=True)
    assert "its beginning is lost" in (result.error or "")
    assert f"sg-ray sweep --resume {sweep_dir}" in result.advice


def test_trials_end_with_their_sweep_even_if_its_own_run_was_deleted(
    journal: Journal, sweep_dir: Path, uri: str, query: Query
) -> None:
    from mlflow.tracking import MlflowClient

    journal.append(begin())
    mirror(sweep_dir, uri)
    MlflowClient(uri).delete_run(query("select run_uuid from runs")[0][0])
    start_trial(journal, "t-lost")
    tell_end(journal, sweep_dir, status="interrupted")
    assert mirror(sweep_dir, uri).is_complete
    assert query(RUNNING + " and lifecycle_stage = 'active'") == [(0,)]
