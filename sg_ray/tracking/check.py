"""Whether an MLflow store can be written to, found out without leaving anything in it."""

import http.client
import sqlite3
import urllib.request
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from sg_ray.errors import InputError
from sg_ray.sweep.folders import require_writable
from sg_ray.tracking.mlflow_store import _import_client, resolve_uri, sqlite_path

_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class StoreReport:
    """What was found. ``is_checked`` is False for a store that only a write could try."""

    detail: str
    is_checked: bool = True


def check_store(uri: str, base: Path) -> StoreReport:
    """Try the store at ``uri``, a relative path counting from ``base``.

    A SQLite database takes a write and rolls it back; a new one only needs its folder to be
    writable; a server has to answer. Raises InputError, with what to do, if that fails.
    """
    resolved = resolve_uri(uri, base)
    _import_client()  # takes seconds, and shows that MLflow can be imported
    database = sqlite_path(resolved)
    if database is not None:
        return _check_database(database)
    if resolved.startswith(("http://", "https://")):
        return _check_server(resolved)
    scheme = resolved.partition(":")[0]
    return StoreReport(f"a store of the kind {scheme} was not tried", is_checked=False)


def _check_database(database: Path) -> StoreReport:
    require_writable(database.parent, "tracking.uri")
    if not database.exists() or database.stat().st_size == 0:
        return StoreReport(f"{database.name}: a new database, its folder can be written")
    try:
        revision = _write_and_roll_back(database)
    except sqlite3.Error as error:
        raise InputError(
            f"tracking.uri: {database} takes no writes ({error}). Set tracking.uri to a store that "
            "does, or tracking.enabled=false."
        ) from error
    _check_revision(database, revision)
    return StoreReport(f"{database.name}: takes writes, schema {revision or 'still to be made'}")


def _write_and_roll_back(database: Path) -> str | None:
    """Make a table and take it back; return the schema's revision, None if it has none yet."""
    uri = f"{database.as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=_TIMEOUT_S)) as connection:
        connection.isolation_level = None  # transactions are begun and ended below, not by Python
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute("CREATE TABLE sg_ray_preflight (number INTEGER)")
            return _revision(connection)
        finally:
            connection.execute("ROLLBACK")


def _revision(connection: sqlite3.Connection) -> str | None:
    found = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
    ).fetchone()
    if found is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def _check_revision(database: Path, revision: str | None) -> None:
    # Private to MLflow, whose release is pinned; public only as the text of an error.
    from mlflow.store.db.utils import _get_latest_schema_revision

    if revision not in (None, _get_latest_schema_revision()):
        raise InputError(
            f"tracking.uri: {database} has the schema of another MLflow release ({revision}). "
            f"Back it up and run: mlflow db upgrade sqlite:///{database} - or name a new database."
        )


def _check_server(uri: str) -> StoreReport:
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]  # what stands before it is a password
    address = urlunsplit((parts.scheme, host, f"{parts.path.rstrip('/')}/health", "", ""))
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer:
            answer.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise InputError(
            f"tracking.uri: no MLflow server answers at {host} ({error}). "
            "Start it, correct tracking.uri, or set tracking.enabled=false."
        ) from error
    return StoreReport(f"the server at {host} answers")
