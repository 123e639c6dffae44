"""Trying an MLflow store that cannot be one: what is refused, at once and in words.

What a store refuses that is one, and that trying leaves no trace: tests/tracking.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.check import check_store
from sg_ray.tracking.troubles import StoreTrouble


def check(uri: str, folder: Path) -> None:
    check_store(uri, folder, "tiny", SweepFolder(folder / "outputs" / "tiny"))


def _garbage(path: Path) -> None:
    path.write_text("not a database " * 100)


def _another_release(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('0123456789ab')")


def _a_folder(path: Path) -> None:
    path.mkdir()
    (path / "file").touch()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_garbage, "file is not a database"),
        (_another_release, "mlflow db upgrade sqlite:///"),
        (_a_folder, "is no file"),
    ],
)
def test_a_useless_database_is_refused(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "mlflow.db")
    with pytest.raises(StoreTrouble, match=message):
        check("sqlite:///mlflow.db", tmp_path)


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(StoreTrouble, match="Start it") as refused:
        check("http://user:secret@127.0.0.1:9", tmp_path)
    assert "127.0.0.1:9" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_database_whose_driver_is_missing_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(StoreTrouble, match=r"pip install 'psycopg\[binary\]'") as refused:
        check("postgresql://user:secret@host/mlflow", tmp_path)
    assert "secret" not in str(refused.value)
