"""One sweep's runs in an MLflow store; every operation may be repeated without effect.

mlflow is imported when a store is opened, not before: that takes seconds. All goes through an
explicit client, so neither an active run nor the process's tracking URI exist.

In a SQLite store the artifacts of a new experiment lie beside the database, in ``mlartifacts/``:
MLflow's own default depends on the current folder, which Ray changes.
"""

import fcntl
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from sg_ray.errors import InputError
from sg_ray.tracking.datasets import DataInput, to_mlflow
from sg_ray.tracking.mlflow_models import TRIAL_KEY_TAG, MlflowModels
from sg_ray.tracking.summary import MAX_CHARS

DEFAULT_URI = "sqlite:///mlflow.db"
SWEEP_ID_TAG = "sg_ray.sweep_id"
PARENT_TAG = "mlflow.parentRunId"
EXPERIMENT_KIND = "custom_model_development"
"""Untold, MLflow's page asks what kind of experiment it is, or shows that of chat models."""

EndStatus = Literal["FINISHED", "FAILED", "KILLED"]

_SQLITE = "sqlite:///"
_QUIET_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # it prints emoji
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the mirror tries again by itself
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",  # a model is described by us, not by the current folder
}
_MAX_METRICS_PER_BATCH = 900  # MLflow's limits: 1,000 metrics, 100 parameters, 1,000 together
_MAX_PARAMS_PER_BATCH = 100
_MAX_PARAM_CHARS = 6000
_MAX_TAG_CHARS = MAX_CHARS


@dataclass(frozen=True)
class Metric:
    """One point of a metric. The same point logged twice is one point."""

    key: str
    value: float
    at_ms: int
    step: int


@dataclass(frozen=True)
class StoredRun:
    """A run as it was found in the store or made there."""

    run_id: str
    artifact_uri: str
    param_names: frozenset[str] = frozenset()
    is_deleted: bool = False


def resolve_uri(uri: str, base: Path) -> str:
    """Return ``uri`` with the path of a SQLite database made absolute, relative to ``base``.

    Raises InputError for an empty URI and for a folder, which MLflow 3 no longer writes to.
    """
    if uri.startswith(_SQLITE):
        path, query_mark, query = uri.removeprefix(_SQLITE).partition("?")
        return f"{_SQLITE}{(base / path).resolve()}{query_mark}{query}"
    if ("://" in uri or uri == "databricks") and not uri.startswith("file:"):
        return uri
    raise InputError(
        f"tracking uri {uri!r}: not a database or server that MLflow writes to. "
        f"Use e.g. {DEFAULT_URI} or http://localhost:5000."
    )


class MlflowStore:
    """The runs of one sweep: the sweep's own (under the key "") and one per trial below it."""

    def __init__(self, uri: str, experiment: str, sweep_id: str) -> None:
        """Open the store; a new database is set up and a missing experiment created.

        Setting up takes seconds and must not be done twice at once, hence the lock.
        """
        mlflow_client = _import_client()
        with _setup_lock(uri):
            self._client = mlflow_client(tracking_uri=uri, registry_uri=uri)
            self._uri = uri
            self.experiment_id = self._find_or_create_experiment(uri, experiment)
        self._artifacts_at = lru_cache(maxsize=1)(self._open_artifacts)
        self._sweep_id = sweep_id
        self.models = MlflowModels(self._client, self.experiment_id)

    def find_runs(self) -> dict[str, StoredRun]:
        """Return the sweep's runs by trial key.

        A request that a server carried out but did not answer in time can leave a second run for
        a key; the surplus is deleted (softly, as MLflow does).
        """
        runs: dict[str, StoredRun] = {}
        for run in sorted(self._search(), key=_active_first):
            key = run.data.tags.get(TRIAL_KEY_TAG, "")
            is_deleted = run.info.lifecycle_stage == "deleted"
            if key not in runs:
                names = frozenset(run.data.params)
                runs[key] = StoredRun(run.info.run_id, run.info.artifact_uri, names, is_deleted)
            elif not is_deleted:
                self._client.delete_run(run.info.run_id)
        return runs

    def create_run(self, name: str, tags: Mapping[str, str], started_at_ms: int) -> StoredRun:
        """Create a run that ``find_runs`` will find again."""
        tags = {SWEEP_ID_TAG: self._sweep_id, **tags}
        run = self._client.create_run(
            self.experiment_id, start_time=started_at_ms, tags=_cut(tags), run_name=name
        )
        return StoredRun(run.info.run_id, run.info.artifact_uri)

    def log(
        self,
        run: StoredRun,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Log metrics, and those parameters that the run does not have."""
        from mlflow.entities import Metric as MlflowMetric
        from mlflow.entities import Param

        points = [MlflowMetric(m.key, m.value, m.at_ms, m.step) for m in metrics]
        new = [
            Param(key, str(value)[:_MAX_PARAM_CHARS])
            for key, value in (params or {}).items()
            if key not in run.param_names
        ]
        if len(points) <= _MAX_METRICS_PER_BATCH and len(new) <= _MAX_PARAMS_PER_BATCH:
            if points or new:
                self._client.log_batch(run.run_id, metrics=points, params=new)
            return
        for some in _chunks(new, _MAX_PARAMS_PER_BATCH):
            self._client.log_batch(run.run_id, params=some)
        for some in _chunks(points, _MAX_METRICS_PER_BATCH):
            self._client.log_batch(run.run_id, metrics=some)

    def tag(self, run: StoredRun, tags: Mapping[str, str]) -> None:
        """Set tags; an older value is replaced."""
        from mlflow.entities import RunTag

        self._client.log_batch(run.run_id, tags=[RunTag(*item) for item in _cut(tags).items()])

    def untag(self, run: StoredRun, name: str) -> None:
        """Remove a tag, if the run has it."""
        if name in self._client.get_run(run.run_id).data.tags:
            self._client.delete_tag(run.run_id, name)

    def log_data(self, run: StoredRun, inputs: Sequence[DataInput]) -> None:
        """Name the data that a run reads; data named before stay named once."""
        self._client.log_inputs(run.run_id, [to_mlflow(data) for data in inputs])

    def tag_experiment(self, tags: Mapping[str, str]) -> None:
        """Set tags of the experiment; an older value is replaced."""
        for key, value in tags.items():
            self._client.set_experiment_tag(self.experiment_id, key, value)

    def latest_metrics(self, run: StoredRun) -> dict[str, float]:
        """Return the latest value of each metric of a run."""
        return dict(self._client.get_run(run.run_id).data.metrics)

    def log_file(self, run: StoredRun, path: Path, folder: str | None = None) -> None:
        """Copy a file to the run's artifacts (in ``folder``), over an older copy.

        A missing file is left out.
        """
        if path.is_file():
            self._artifacts_at(run.artifact_uri).log_artifact(str(path), folder)

    def _open_artifacts(self, uri: str) -> Any:
        """Open a run's artifacts as the client does, which would keep 6 KB for each run."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
        from mlflow.utils.uri import add_databricks_profile_info_to_artifact_uri

        place = add_databricks_profile_info_to_artifact_uri(uri, self._uri)
        return get_artifact_repository(place, tracking_uri=self._uri)

    def log_json(self, run: StoredRun, artifact: str, value: Mapping[str, Any]) -> None:
        """Write ``value`` as a JSON artifact."""
        self._client.log_dict(run.run_id, dict(value), artifact)

    def end(self, run: StoredRun, status: EndStatus, at_ms: int) -> None:
        """Set how and when a run ended."""
        self._client.set_terminated(run.run_id, status=status, end_time=at_ms)

    def reopen(self, run: StoredRun) -> None:
        """Mark an ended run as running."""
        self._client.update_run(run.run_id, status="RUNNING")

    def end_running_trials(self, status: EndStatus, at_ms: int) -> None:
        """End every trial's run that is still marked as running."""
        for run in self._search("attributes.status = 'RUNNING'"):
            if TRIAL_KEY_TAG in run.data.tags and run.info.lifecycle_stage != "deleted":
                self._client.set_terminated(run.info.run_id, status=status, end_time=at_ms)

    def _search(self, condition: str = "") -> Iterator[Any]:
        from mlflow.entities import ViewType

        wanted = f"tags.`{SWEEP_ID_TAG}` = '{self._sweep_id}'"
        query = f"{wanted} and {condition}" if condition else wanted
        token = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id], query, run_view_type=ViewType.ALL, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _find_or_create_experiment(self, uri: str, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        place, tags = _artifact_location(uri, name), {"mlflow.experimentKind": EXPERIMENT_KIND}
        return str(self._client.create_experiment(name, place, tags))


def _import_client() -> Any:
    for name, value in _QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    return MlflowClient


def _artifact_location(uri: str, experiment: str) -> str | None:
    database = sqlite_path(uri)
    if database is None:
        return None
    return (database.parent / "mlartifacts" / quote(experiment, safe="")).as_uri()


@contextmanager
def _setup_lock(uri: str) -> Iterator[None]:
    database = sqlite_path(uri)
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(database.with_name(f".{database.name}.lock")):
        yield


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold an advisory lock on ``path`` over all processes; a kill sets it free."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sqlite_path(uri: str) -> Path | None:
    """Return the database of a SQLite URI; None for another kind of store."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(uri.removeprefix(_SQLITE).partition("?")[0])


def _active_first(run: Any) -> tuple[bool, str]:
    return (run.info.lifecycle_stage == "deleted", run.info.run_id)


def _cut(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: str(value)[:_MAX_TAG_CHARS] for key, value in tags.items()}


def _chunks(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
