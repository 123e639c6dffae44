"""MLflow's client, imported when it is first needed and told to be quiet.

It is imported on the main thread, before others run: Ray Tune looks for MLflow from a thread of
its own, and two imports of a package at once leave one of them with half of it.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from sg_ray.tracking.address import Address
from sg_ray.tracking.troubles import SchemaTrouble

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # it prints emoji
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the mirror tries again by itself
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",  # a model is described by us, not by the current folder
    "AWS_MAX_ATTEMPTS": "2",  # of an artifact store that is away; the mirror tries again
    "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "1",
}
_LOGGERS = ("mlflow", "alembic", "urllib3.connectionpool")
"""What they have to say reaches us as exceptions, from which credentials are taken out."""
_CONNECT_TIMEOUT_S = 10
_TAKE_CONNECT_TIMEOUT = ("postgresql", "mysql")


def import_mlflow() -> Any:
    """Import MLflow, which takes seconds the first time; return its client's class."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow.tracking

    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if has_odd_place():
        _escape_own_place()
    return mlflow.tracking.MlflowClient


def has_odd_place() -> bool:
    """Whether MLflow is installed below a folder from which its own commands fail.

    It has Alembic read its path, in which % begins an interpolation.
    """
    return "%" in sys.prefix


def _escape_own_place() -> None:
    """Have MLflow escape the % in its own path, as it does in that of a database."""
    import mlflow.store.db.utils as utils
    from alembic.config import Config

    folder = Path(utils.__file__).parents[1] / "db_migrations"

    def configuration(db_url: str, alembic_dir: str | None = None) -> Config:
        place = Path(alembic_dir or folder)
        config = Config(place / "alembic.ini")
        config.set_main_option("script_location", str(place).replace("%", "%%"))
        config.set_main_option("sqlalchemy.url", db_url.replace("%", "%%"))
        return config

    utils._get_alembic_config = configuration


def open_client(address: Address) -> Any:
    """Return a client of the store, a database connected to once before.

    Raises what connecting raises, at once: MLflow itself tries for minutes. Raises SchemaTrouble
    for a database of another MLflow release, which MLflow would change or refuse.
    """
    client = import_mlflow()
    if not address.is_server and "://" in address.uri:
        _check_database(address)
    return client(tracking_uri=address.uri, registry_uri=address.uri)


def _check_database(address: Address) -> None:
    import sqlalchemy

    scheme = address.shown.partition(":")[0]
    waits = scheme.startswith(_TAKE_CONNECT_TIMEOUT)
    options = {"connect_timeout": _CONNECT_TIMEOUT_S} if waits else {}
    engine = sqlalchemy.create_engine(address.uri, connect_args=options)
    try:
        with engine.connect() as connection:
            found = _revision(connection)
    finally:
        engine.dispose()
    # Private to MLflow, whose release is pinned; public only as the text of an error.
    from mlflow.store.db.utils import _get_latest_schema_revision

    if found not in (None, _get_latest_schema_revision()):
        raise SchemaTrouble(address, found)


def _revision(connection: Any) -> str | None:
    """Return the revision of the schema; None if there is none yet."""
    import sqlalchemy

    if not sqlalchemy.inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).first()
    return None if row is None else str(row[0])
