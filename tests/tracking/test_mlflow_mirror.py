import fcntl
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scripted_sweep import CONFIG, NUM_EPOCHS, begin, start_trial, tell_end, tell_sweep, tell_trial

from sg_ray.config import TrackingSettings
from sg_ray.errors import InputError
from sg_ray.records.events import (
    EpochEnded,
    SweepResumed,
    TrialFinished,
    TrialTakenBack,
)
from sg_ray.records.journal import Journal, read_events
from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.address import find_address
from sg_ray.tracking.mlflow_mirror import MlflowMirror, mirror_of
from sg_ray.tracking.mlflow_store import MlflowStore, exclusive
from sg_ray.tracking.parameters import flatten
from sg_ray.tracking.troubles import StoreTrouble

CONTENT = (
    "select key, value, timestamp, step from metrics order by 1, 2, 3, 4",
    "select key, value from params order by 1, 2",
    "select name, status, start_time, end_time, lifecycle_stage from runs order by 1",
    "select key, value from tags where key not in ('mlflow.parentRunId') order by 1, 2",
)


@pytest.fixture
def client(uri: str):
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri)


def runs_by_key(client) -> dict:
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    return {run.data.tags.get("trial_key", ""): run for run in runs}


def artifacts(client, run) -> set[str]:
    return {file.path for file in client.list_artifacts(run.info.run_id)}


def test_a_sweep_becomes_one_run_with_a_run_per_trial_below(client, journal, sweep_dir, uri):
    tell_sweep(journal, sweep_dir)
    result = MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()

    assert (result.num_pending, result.error) == (0, None)
    runs = runs_by_key(client)
    parent = runs.pop("")
    assert set(runs) == {"t-best", "t-cut", "t-broken"}
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    status = {key: run.info.status for key, run in runs.items()}
    assert status == {"t-best": "FINISHED", "t-cut": "KILLED", "t-broken": "FAILED"}
    assert parent.info.status == "FINISHED"
    assert runs["t-broken"].data.tags["failure"] == "TrainingError: loss is NaN"
    expected = {"sweep": "tiny", "stage": "search", "model": "gnn", "family": "gnn", "seed": "0"}
    assert expected.items() <= runs["t-best"].data.tags.items()
    assert runs["t-best"].info.run_name == "gnn ab12cd34-seed0"


def test_c04_a_trial_taken_back_is_one_run_that_ends_anew(client, journal, sweep_dir, uri):
    tell_sweep(journal, sweep_dir)
    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()
    journal.append(SweepResumed())
    journal.append(TrialTakenBack(trial_key="t-broken", reason="out of memory"))
    tell_trial(journal, sweep_dir, "t-broken", "completed")
    tell_end(journal, sweep_dir)
    result = MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()

    assert (result.num_pending, result.error) == (0, None)
    runs = runs_by_key(client)
    assert len(runs) == 4
    assert runs["t-broken"].info.status == "FINISHED"
    assert "failure" not in runs["t-broken"].data.tags
    assert len(client.get_metric_history(runs["t-broken"].info.run_id, "val_f1")) == NUM_EPOCHS


def test_b14_a_journal_that_lost_a_line_is_mirrored_to_its_end(client, journal, sweep_dir, uri):
    tell_sweep(journal, sweep_dir)
    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()
    lines = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(b"".join([*lines[:3], *lines[4:]]))  # taken out by hand, say
    again = Journal(journal.path)
    again.append(SweepResumed())
    tell_trial(again, sweep_dir, "t-late", "completed")
    tell_end(again, sweep_dir)
    again.close()
    result = MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()

    assert (result.num_pending, result.error) == (0, None)
    runs = runs_by_key(client)
    assert set(runs) == {"", "t-best", "t-cut", "t-broken", "t-late"}
    assert runs["t-late"].info.status == "FINISHED"


def test_times_parameters_and_metrics_are_those_of_the_journal(client, journal, sweep_dir, uri):
    tell_sweep(journal, sweep_dir)
    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()

    run = runs_by_key(client)["t-best"]
    events = [e for e in read_events(journal.path) if e.subject == "t-best"]
    assert (run.info.start_time, run.info.end_time) == (events[0].at_ms, events[-1].at_ms)
    assert run.data.params == {
        "model": "gnn",
        "learning_rate": "2e-05",
        "epochs": "3",
        "encoder.width": "64",
        "seed": "0",
    }
    history = client.get_metric_history(run.info.run_id, "val_f1")
    assert [(m.step, m.value, m.timestamp) for m in history] == [
        (e.epoch, e.metrics["val_f1"], e.at_ms) for e in events if e.type == "epoch"
    ]
    assert run.data.metrics["best_val_f1"] == 0.53
    assert "val_mcc" not in run.data.metrics
    assert "epoch" not in run.data.metrics
    assert "learning_rate" in run.data.metrics, "the schedule's, by epoch"
    assert "best_learning_rate" not in run.data.metrics


def test_artifacts_lie_beside_the_database(client, journal, sweep_dir, uri, database):
    tell_sweep(journal, sweep_dir)
    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()

    runs = runs_by_key(client)
    assert artifacts(client, runs["t-best"]) == {"t-best.json", "training_metadata.json"}
    assert artifacts(client, runs[""]) == {"lr_range", "leaderboard.csv", "sweep.yaml"}
    assert runs[""].info.artifact_uri.startswith(f"file://{database.parent}/mlartifacts/tiny/")


def test_the_sweeps_run_sums_up(client, journal, sweep_dir, uri):
    tell_sweep(journal, sweep_dir)
    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()

    parent = runs_by_key(client)[""]
    assert parent.data.metrics == {
        "gnn/test_f1": 0.51,
        "gnn/val_f1_mean": 0.53,
        "gnn/val_f1_sd": 0.01,
        "gnn/num_seeds": 3,
        "best_val_f1": 0.53,
    }
    assert parent.data.params == {"objective": "val_f1", "families": "gnn", "data": "synthetic"}
    assert parent.data.tags["lr_range.gnn.learning_rate"] == "0.0005"
    assert parent.data.tags["lr_range.gnn.source"] == "default"


@pytest.mark.parametrize("lost", ["nothing", "position", "half a position"])
def test_a_replay_changes_nothing(lost, journal, sweep_dir, uri, query):
    tell_sweep(journal, sweep_dir)
    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()
    before = [query(sql) for sql in CONTENT]
    position = sweep_dir / "tracking.json"
    if lost == "position":
        position.unlink()
    if lost == "half a position":
        position.write_text(position.read_text()[:50])

    result = MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()

    assert result.error is None
    assert result.num_mirrored == (0 if lost == "nothing" else len(list(read_events(journal.path))))
    assert [query(sql) for sql in CONTENT] == before
    assert uri not in position.read_text()


def test_a_lost_store_is_filled_again(client, journal, sweep_dir, uri, database, migrated_database):
    tell_sweep(journal, sweep_dir)
    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()
    shutil.copy(migrated_database, database)

    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()

    assert len(runs_by_key(client)) == 4


def test_a_run_deleted_by_its_user_stays_deleted(client, journal, sweep_dir, uri):
    tell_trials = ["t-best", "t-cut"]
    journal.append(begin())
    tell_trial(journal, sweep_dir, tell_trials[0], "completed")
    mirror = MlflowMirror(SweepFolder(sweep_dir), uri, "tiny")
    mirror.sync()
    client.delete_run(runs_by_key(client)["t-best"].info.run_id)
    (sweep_dir / "tracking.json").unlink()
    tell_trial(journal, sweep_dir, tell_trials[1], "completed")

    result = MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()

    assert result.error is None
    assert set(runs_by_key(client)) == {"", "t-cut"}


def test_a_surplus_run_of_a_trial_is_removed(client, journal, sweep_dir, uri):
    tell_sweep(journal, sweep_dir)
    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()
    twin = runs_by_key(client)["t-best"]
    tags = {k: twin.data.tags[k] for k in ("trial_key", "sg_ray.sweep_id")}
    client.create_run(twin.info.experiment_id, tags=tags)

    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()

    experiment = client.get_experiment_by_name("tiny")
    assert len(client.search_runs([experiment.experiment_id])) == 4


def test_two_mirrors_of_one_sweep_do_not_double_it(journal, sweep_dir, uri, query):
    first, second = (MlflowMirror(SweepFolder(sweep_dir), uri, "tiny") for _ in range(2))
    journal.append(begin())
    for number in range(4):
        tell_trial(journal, sweep_dir, f"t{number}", "completed")
        (first if number % 2 else second).sync()
    assert second.sync().error is None
    assert query("select count(*) from runs") == [(5,)]


def test_an_interrupted_trial_is_not_left_running(client, journal, sweep_dir, uri):
    journal.append(begin())
    start_trial(journal, "t-lost")
    journal.append(EpochEnded(trial_key="t-lost", epoch=1, metrics={"val_f1": 0.5}))
    tell_end(journal, sweep_dir, status="failed")
    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()
    runs = runs_by_key(client)
    assert (runs[""].info.status, runs["t-lost"].info.status) == ("FAILED", "KILLED")


def test_a_resumed_sweep_goes_on_in_its_runs(client, journal, sweep_dir, uri, query):
    journal.append(begin())
    start_trial(journal, "t-lost")
    tell_end(journal, sweep_dir, status="failed")
    mirror = MlflowMirror(SweepFolder(sweep_dir), uri, "tiny")
    mirror.sync()
    journal.append(SweepResumed())
    mirror.sync()
    assert runs_by_key(client)[""].info.status == "RUNNING"
    tell_trial(journal, sweep_dir, "t-lost", "completed")
    tell_end(journal, sweep_dir)
    mirror.sync()
    assert {run.info.status for run in runs_by_key(client).values()} == {"FINISHED"}
    assert (
        query("select key, step from metrics group by run_uuid, key, step having count(*) > 1")
        == []
    )


def test_it_follows_a_running_sweep_in_the_background(client, sweep_dir, uri):
    mirror = MlflowMirror(SweepFolder(sweep_dir), uri, "tiny")
    journal = Journal(sweep_dir / "events.jsonl", listeners=(mirror,))
    with mirror:
        tell_sweep(journal, sweep_dir)
        result = mirror.close(timeout_s=60)
    journal.close()
    assert (result.num_pending, result.error) == (0, None)
    runs = runs_by_key(client)
    assert len(runs) == 4
    assert mirror.run_ids() == {k: run.info.run_id for k, run in runs.items() if k}
    assert MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").run_ids() == mirror.run_ids()


def test_a_store_out_of_reach_stops_nothing(journal, sweep_dir, tmp_path, caplog):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    mirror = MlflowMirror(SweepFolder(sweep_dir), f"sqlite:///{blocked}/mlflow.db", "tiny")
    tell_sweep(journal, sweep_dir)
    with caplog.at_level(logging.WARNING, "sg_ray"):
        first, second = mirror.sync(), mirror.sync()
    assert first.num_pending == second.num_pending == len(list(read_events(journal.path)))
    assert "blocked" in (first.error or "")
    assert caplog.records == [], "the result says it"


def test_what_a_store_missed_is_made_up_at_the_end(
    client, journal, sweep_dir, uri, database, caplog
):
    away = database.parent.rename(database.parent.with_name("away"))
    database.parent.write_text("in the way")
    mirror = MlflowMirror(SweepFolder(sweep_dir), uri, "tiny")
    mirror.start()
    tell_sweep(journal, sweep_dir)
    with caplog.at_level(logging.WARNING, "sg_ray"):
        assert mirror.sync().error is not None
        database.parent.unlink()
        away.rename(database.parent)
        result = mirror.close(timeout_s=60)
    assert (result.num_pending, result.error) == (0, None)
    assert len(runs_by_key(client)) == 4


def test_a_server_that_is_down_is_reported_without_its_password(
    journal, sweep_dir, monkeypatch, caplog
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tell_sweep(journal, sweep_dir)
    mirror = MlflowMirror(SweepFolder(sweep_dir), "http://me:secret@127.0.0.1:9", "tiny")
    mirror.start()
    with caplog.at_level(logging.WARNING, "sg_ray"):
        result = mirror.close(timeout_s=60)
    assert result.num_pending == len(list(read_events(journal.path)))
    assert "127.0.0.1" in (result.error or "")
    assert "not mirrored yet" in caplog.text
    assert "secret" not in caplog.text


def test_values_beyond_mlflows_limits_are_cut(client, journal, sweep_dir, uri):
    config = {f"option_{number}": number for number in range(150)} | {"long": "x" * 10_000}
    metrics = {f"metric_{number}": 0.5 for number in range(1100)}
    journal.append(begin())
    start_trial(journal, "t-big", 7, config=config)
    journal.append(EpochEnded(trial_key="t-big", epoch=1, metrics=metrics))
    assert MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync().error is None
    run = runs_by_key(client)["t-big"]
    assert len(run.data.params) == 153
    assert len(run.data.params["long"]) == 6000
    assert len(run.data.metrics) == 1100


def test_the_process_is_left_as_it_was(journal, sweep_dir, uri, capfd):
    import mlflow

    before = mlflow.get_tracking_uri()
    tell_sweep(journal, sweep_dir)
    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()
    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None
    assert capfd.readouterr() == ("", "")


def test_importing_the_mirror_does_not_import_mlflow():
    check = "import sys, sg_ray.tracking.mlflow_mirror; sys.exit('mlflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=Path(__file__).parents[2])


def test_an_empty_or_missing_journal_is_no_error(sweep_dir, uri):
    assert MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync().error is None
    Journal(sweep_dir / "events.jsonl").close()
    assert MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync().error is None


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:///mlflow.db", "sqlite:////base/mlflow.db"),
        ("sqlite:///sub/mlflow.db?timeout=20", "sqlite:////base/sub/mlflow.db?timeout=20"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("postgresql://user@host/db", "postgresql://user@host/db"),
        ("databricks", "databricks"),
    ],
)
def test_a_database_path_is_made_absolute(uri, expected):
    assert find_address(uri, Path("/base")).uri == expected


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://?a=b"])
def test_a_database_that_ends_with_the_process_is_refused(uri):
    with pytest.raises(InputError, match=r"in memory.* Name a file, e\.g\. sqlite:///mlflow\.db"):
        find_address(uri, Path("/base"))


@pytest.mark.parametrize("uri", ["", "mlruns", "./mlruns", "file:///data/mlruns", "file:mlruns"])
def test_a_folder_is_refused_with_advice(uri):
    with pytest.raises(InputError, match=r"sqlite:///mlflow\.db"):
        find_address(uri, Path("/base"))


def test_an_experiment_says_where_it_is_mirrored(
    tmp_path, monkeypatch, sweep_dir, journal, database
):
    def mirror_with(**settings):
        return mirror_of(TrackingSettings(**settings), "tiny", SweepFolder(sweep_dir))

    monkeypatch.chdir(tmp_path / "outputs")
    journal.append(begin())
    with mirror_with(uri="sqlite:///../store/mlflow.db") as mirror:
        monkeypatch.chdir("/")  # as Ray does
    assert mirror.sync().num_pending == 0
    with mirror_with(enabled=False, uri="nonsense") as nothing:
        assert nothing.run_ids() == {}
    with pytest.raises(InputError, match="nonsense"):
        mirror_with(uri="nonsense")


def test_nested_configurations_become_dotted_names():
    assert flatten(CONFIG)["encoder.layers"] == CONFIG["encoder"]["layers"]


def test_each_epoch_is_one_step(journal, sweep_dir, uri, query):
    tell_sweep(journal, sweep_dir)
    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()
    rows = query("select count(*) from metrics where key = 'val_f1'")
    assert rows == [(3 * NUM_EPOCHS,)]


def test_a_store_opens_an_existing_experiment(uri):
    address = find_address(uri, Path("/"))
    first = MlflowStore(address, "tiny", "one")
    second = MlflowStore(address, "tiny", "two")
    first.create_run("a", {"trial_key": "k"}, 1)
    assert set(first.find_runs()) == {"k"}
    assert second.find_runs() == {}


def test_whoever_waits_too_long_for_another_process_is_told_for_what(tmp_path):
    lock = tmp_path / ".tracking.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with (
            pytest.raises(StoreTrouble, match=r"\.tracking\.lock has been locked .* end it"),
            exclusive(lock, timeout_s=0.1),
        ):
            pass
    with exclusive(lock, timeout_s=0.1):  # the file stays, who held it has gone
        assert lock.exists()


def test_a_trial_that_varies_one_stream_is_a_run_apart(client, journal, sweep_dir, uri):
    tell_sweep(journal, sweep_dir)
    varied = {"stage": "variance", "streams": {"init": 7}}
    start_trial(journal, "t-varied", 42, **varied)
    journal.append(TrialFinished(trial_key="t-varied", status="completed", epochs=0, metrics={}))
    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()

    runs = runs_by_key(client)
    run = runs["t-varied"]
    assert run.info.run_name == "gnn ab12cd34-seed42-init7"
    assert run.data.tags["stage"] == "variance"
    assert (run.data.params["seed"], run.data.params["seed.init"]) == ("42", "7")
    assert "seed.init" not in runs["t-best"].data.params
    assert runs["t-best"].data.tags["configuration"] == "gnn ab12cd34"
    assert run.data.tags["configuration"] == "gnn ab12cd34, variance", "it is in no mean of seeds"


def test_seeds_are_averaged_under_the_name_that_people_say_and_the_whole_hash(
    client, journal, sweep_dir, uri
):
    tell_sweep(journal, sweep_dir)
    named, alike = "ab12cd34ef56", "ab12cd34ef57"
    for key, seed, config_hash in (("t-1", 1, named), ("t-2", 2, named), ("t-3", 1, alike)):
        start_trial(journal, key, seed, name="gnn lr 2e-5", config_hash=config_hash)
    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()

    runs = runs_by_key(client)
    groups = {key: runs[key].data.tags["configuration"] for key in ("t-1", "t-2", "t-3")}
    assert groups["t-1"] == groups["t-2"] == f"gnn lr 2e-5 {named}"
    assert groups["t-3"] == f"gnn lr 2e-5 {alike}", "digits that are not shown count, too"
    assert runs["t-1"].info.run_name == "gnn lr 2e-5 ab12cd34-seed1"
