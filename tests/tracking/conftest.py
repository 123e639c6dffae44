import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow_server import Server

from sg_ray.records.journal import Journal
from sg_ray.tracking.address import PASSWORD as LOGIN_PASSWORD
from sg_ray.tracking.address import TOKEN, USERNAME, WHOLE_URI, find_address
from sg_ray.tracking.mlflow_store import MlflowStore


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database; migrating one takes seconds, copying it nothing."""
    folder = tmp_path_factory.mktemp("mlflow")
    MlflowStore(find_address("sqlite:///mlflow.db", folder), "template", "none")
    return folder / "mlflow.db"


@pytest.fixture
def database(migrated_database: Path, tmp_path: Path) -> Path:
    path = tmp_path / "store" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(migrated_database, path)
    return path


@pytest.fixture
def uri(database: Path) -> str:
    return f"sqlite:///{database}"


@pytest.fixture
def sweep_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs" / "tiny"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def journal(sweep_dir: Path):
    journal = Journal(sweep_dir / "events.jsonl")
    yield journal
    journal.close()


@pytest.fixture
def query(database: Path) -> Callable[[str], list[tuple]]:
    """Rows of the store itself, so that no test trusts the code it tests."""

    def rows(sql: str) -> list[tuple]:
        with closing(sqlite3.connect(database)) as connection:
            return connection.execute(sql).fetchall()

    return rows


@pytest.fixture(scope="session")
def running_server(
    migrated_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One MLflow server for all tests; each has experiments under its own names."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(migrated_database, folder / "mlflow.db")
    environment = dict(os.environ)
    server = Server(folder / "mlflow.db", folder / "artifacts")
    yield server
    server.close()
    for name in set(os.environ) - set(environment):
        del os.environ[name]


@pytest.fixture
def server(running_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in (USERNAME, LOGIN_PASSWORD, TOKEN, WHOLE_URI):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield running_server
    running_server.reset()
