"""Trying an MLflow store: what it refuses, and that it leaves the store as it was."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sg_ray.errors import InputError
from sg_ray.tracking import check
from sg_ray.tracking.check import check_store


def make_database(path: Path, revision: str | None, journal_mode: str = "delete") -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={journal_mode}")
        connection.execute("CREATE TABLE runs (run_uuid TEXT)")
        if revision is not None:
            connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
            connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
        connection.commit()


@pytest.fixture(scope="module")
def revision() -> str:
    from mlflow.store.db.utils import _get_latest_schema_revision

    return str(_get_latest_schema_revision())


def test_a_new_database_is_not_made(tmp_path: Path) -> None:
    report = check_store("sqlite:///deep/below/mlflow.db", tmp_path)
    assert report.is_checked
    assert "a new database" in report.detail
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
def test_a_database_stays_as_it_was(tmp_path: Path, revision: str, journal_mode: str) -> None:
    path = tmp_path / "mlflow.db"
    make_database(path, revision, journal_mode)
    before = path.read_bytes()
    assert f"takes writes, schema {revision}" in check_store("sqlite:///mlflow.db", tmp_path).detail
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def _garbage(path: Path, _revision: str) -> None:
    path.write_text("not a database " * 100)


def _another_release(path: Path, _revision: str) -> None:
    make_database(path, "0123456789ab")


def _a_folder(path: Path, _revision: str) -> None:
    path.mkdir()
    (path / "file").touch()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_garbage, "file is not a database"),
        (_another_release, "mlflow db upgrade sqlite:///"),
        (_a_folder, "takes no writes"),
    ],
)
def test_a_useless_database_is_refused(
    tmp_path: Path, revision: str, make: Callable[[Path, str], None], message: str
) -> None:
    make(tmp_path / "mlflow.db", revision)
    with pytest.raises(InputError, match=message):
        check_store("sqlite:///mlflow.db", tmp_path)


def test_a_database_that_another_process_holds_is_refused(
    tmp_path: Path, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "_TIMEOUT_S", 0.1)
    path = tmp_path / "mlflow.db"
    make_database(path, revision)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match="database is locked"):
            check_store("sqlite:///mlflow.db", tmp_path)


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/tracking/health" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Healthy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_has_to_answer_as_mlflow_does(server: HTTPServer, tmp_path: Path) -> None:
    host = f"127.0.0.1:{server.server_port}"
    report = check_store(f"http://user:secret@{host}/tracking/", tmp_path)
    assert report.detail == f"the server at {host} answers"
    with pytest.raises(InputError, match=r"no MLflow server answers at .*404"):
        check_store(f"http://{host}/elsewhere", tmp_path)


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Start it") as refused:
        check_store("http://user:secret@127.0.0.1:9", tmp_path)
    assert "127.0.0.1:9" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_another_kind_of_store_is_not_tried(tmp_path: Path) -> None:
    report = check_store("postgresql://user:secret@host/mlflow", tmp_path)
    assert not report.is_checked
    assert "postgresql" in report.detail
    assert "secret" not in report.detail
