"""An MLflow server that goes away in the middle of a sweep and comes back, soon or late."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_sweeps import DATABASE, SWEEP, query, records, run_statuses, wait_until

from sg_ray.cli import main
from sg_ray.config import load_experiment
from sg_ray.records.events import Event
from sg_ray.sweep.execute.inline_executor import InlineExecutor
from sg_ray.sweep.run import run_sweep
from sg_ray.tracking.mlflow_mirror import MlflowMirror, mirror_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Server:
    """``mlflow server`` on a SQLite database in the current folder."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = ["--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"]
        stores = ["--backend-store-uri", f"sqlite:///{self._folder / DATABASE}"]
        stores += ["--artifacts-destination", str(self._folder / "artifacts")]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options, *stores],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
                start_new_session=True,
            )
        wait_until(self._answers)

    def stop(self) -> None:
        """Stop it with all its workers, if it runs."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(timeout=60)
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def folder(
    ray_session: None, begin: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.chdir(tmp_path)
    assert callable(begin)
    begin(tmp_path)
    return tmp_path


class Outage:
    """A listener: stops the server at one trial's start, starts it again at another's end."""

    def __init__(self, server: Server, *, back_after: int | None) -> None:
        self._server, self._back_after = server, back_after
        self._num_started = self._num_finished = 0

    def __call__(self, event: Event) -> None:
        self._num_started += event.type == "trial_started"
        self._num_finished += event.type == "trial_finished"
        if event.type == "trial_started" and self._num_started == 2:
            self._server.stop()
        if event.type == "trial_finished" and self._num_finished == self._back_after:
            self._server.start()


def sweep_through(server: Server, *, back_after: int | None) -> MlflowMirror:
    """Run the sweep with an outage; return its mirror, closed."""
    server.start()
    experiment = load_experiment(Path("experiment.yaml"), [f"tracking.uri={server.uri}"])
    mirror = mirror_of(experiment.tracking, experiment.name, experiment.folder)
    assert isinstance(mirror, MlflowMirror)
    with mirror:
        outage = Outage(server, back_after=back_after)
        outcome = run_sweep(experiment, executor=InlineExecutor(), listeners=(mirror, outage))
    assert outcome.exit_code == 0
    return mirror


def check_store() -> None:
    """Every run is there once and at its end, and every point of every epoch."""
    assert run_statuses(DATABASE) == {"FINISHED": 6}
    runs = query(DATABASE, "select value from tags where key = 'trial_key'")
    assert sorted(key for (key,) in runs) == sorted(r["trial_key"] for r in records(SWEEP))
    points = "select run_uuid, key, step from metrics"
    found = query(DATABASE, points)
    assert len(found) == len(set(found))
    expected = sum(
        value is not None
        for record in records(SWEEP)
        for epoch in record["history"]
        for name, value in epoch.items()
        if name != "epoch"
    )
    of_epochs = (
        "select count(*) from metrics join tags t using (run_uuid)"
        " where t.key = 'trial_key' and metrics.key not like 'best_%'"
    )
    assert query(DATABASE, of_epochs) == [(expected,)]


def test_a_server_that_comes_back_during_the_sweep_misses_nothing(
    folder: Path, server: Server
) -> None:
    mirror = sweep_through(server, back_after=4)
    assert mirror.sync().num_pending == 0
    server.stop()
    check_store()


def test_a_server_that_comes_back_after_the_sweep_is_told_the_rest(
    folder: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = sweep_through(server, back_after=None)
    assert mirror.sync().num_pending > 0
    printed = re.search(r"sg-ray (track sync \S+)", caplog.text)
    assert printed is not None
    command = shlex.split(printed[1])
    assert Path(command[-1]).absolute() == folder / SWEEP
    assert main(command) == 1, "the server is still away"
    server.start()
    assert main(command) == 0
    server.stop()
    check_store()
