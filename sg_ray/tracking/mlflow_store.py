"""One sweep's runs in an MLflow store; every operation may be repeated without effect.

All goes through an explicit client, so neither an active run nor the process's tracking URI exist.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from filelock import FileLock, Timeout

from sg_ray.tracking.address import Address
from sg_ray.tracking.client import open_client
from sg_ray.tracking.datasets import DataInput, to_mlflow
from sg_ray.tracking.mlflow_experiments import (
    EXPERIMENT_KIND,
    KIND_TAG,
    SWEEP_ID_TAG,
    experiment_of,
    search_runs,
)
from sg_ray.tracking.mlflow_models import TRIAL_KEY_TAG, MlflowModels
from sg_ray.tracking.summary import MAX_CHARS
from sg_ray.tracking.troubles import (
    ExperimentDeleted,
    Refusal,
    RunGone,
    StoreTrouble,
    explain,
    reason,
    trouble_of,
)

PARENT_TAG = "mlflow.parentRunId"

EndStatus = Literal["FINISHED", "FAILED", "KILLED"]

_MAX_METRICS_PER_BATCH = 900  # MLflow's limits: 1,000 metrics, 100 parameters, 1,000 together
_MAX_PARAMS_PER_BATCH = 100
_MAX_PARAM_CHARS = 6000
_MAX_TAG_CHARS = MAX_CHARS
_SHOWN_CHARS = 60
_SET_UP_S = 300.0
"""How long another process may take to set up a new database: seconds, minutes on a busy disk."""


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


class MlflowStore:
    """The runs of one sweep: the sweep's own (under the key "") and one per trial below it."""

    def __init__(self, address: Address, experiment: str, sweep_id: str, owner: str = "") -> None:
        """Open the store; a new database is set up and a missing experiment created.

        Setting up takes seconds and must not be done twice at once, hence the lock. ``owner`` says
        whose sweeps of the name are one and the same experiment. Raises StoreTrouble.
        """
        self._address, self._sweep_id = address, sweep_id
        try:
            with _setup_lock(address.database):
                self._client = open_client(address)
                self.experiment_name, self.experiment_id = experiment_of(
                    self._client, address, experiment, sweep_id, owner
                )
        except Exception as error:  # whatever MLflow, its database or its server raises
            raise trouble_of(error, address) from error
        self._artifacts_at = lru_cache(maxsize=1)(self._open_artifacts)
        self.models = MlflowModels(self._client, self.experiment_id, owner, self._artifacts_at)

    def require_health(self, error: Exception, run: StoredRun | None = None) -> None:
        """Raise StoreTrouble if ``error`` is the store's fault, RunGone if the run was deleted.

        Otherwise it is the fault of what was sent: the store answers, and takes another write.
        """
        known = explain(error, self._address)
        if known is not None:
            raise known from error
        self.require_experiment(error)
        if run is not None and self._is_gone(run):
            raise RunGone(run.run_id) from error

    def require_experiment(self, error: Exception) -> None:
        """Raise StoreTrouble, after ``error``, if the store does not answer and take a write."""
        try:
            self._touch_experiment()
        except Exception as trouble:
            raise trouble_of(trouble, self._address) from error

    def reason(self, error: Exception) -> str:
        """Return an error in one line, without credentials."""
        return reason(error, self._address)

    def _touch_experiment(self) -> None:
        found = self._client.get_experiment(self.experiment_id)
        if found.lifecycle_stage == "deleted":
            raise ExperimentDeleted(self._address, found.name, self.experiment_id)
        self._client.set_experiment_tag(self.experiment_id, KIND_TAG, EXPERIMENT_KIND)

    def _is_gone(self, run: StoredRun) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self._client.get_run(run.run_id).info.lifecycle_stage == "deleted")
        except MlflowException as error:
            return bool(error.error_code == "RESOURCE_DOES_NOT_EXIST")

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
    ) -> list[Refusal]:
        """Log metrics, and those parameters that the run does not have.

        Return what MLflow does not take, each by its name; the rest is logged. Raises StoreTrouble
        and RunGone.
        """
        from mlflow.entities import Metric as MlflowMetric
        from mlflow.entities import Param

        points = [MlflowMetric(m.key, m.value, m.at_ms, m.step) for m in metrics]
        new = [
            Param(key, str(value)[:_MAX_PARAM_CHARS])
            for key, value in (params or {}).items()
            if key not in run.param_names
        ]
        if len(points) <= _MAX_METRICS_PER_BATCH and len(new) <= _MAX_PARAMS_PER_BATCH:
            return self._log_batch(run, points, new)
        refused = [self._log_batch(run, [], some) for some in _chunks(new, _MAX_PARAMS_PER_BATCH)]
        refused += [
            self._log_batch(run, some, []) for some in _chunks(points, _MAX_METRICS_PER_BATCH)
        ]
        return [one for some in refused for one in some]

    def _log_batch(
        self, run: StoredRun, points: Sequence[Any], params: Sequence[Any]
    ) -> list[Refusal]:
        """Log at once; what is refused as a whole, by halves: points may be logged twice."""
        if not points and not params:
            return []
        try:
            self._client.log_batch(run.run_id, metrics=points, params=params)
        except Exception as error:
            self.require_health(error, run)
            if len(points) + len(params) == 1:
                kind, item = ("metric", points[0]) if points else ("parameter", params[0])
                return [Refusal(f"{kind} {item.key[:_SHOWN_CHARS]!r}", error)]
            if points and params:
                return [*self._log_batch(run, [], params), *self._log_batch(run, points, [])]
            half = (len(points) + len(params) + 1) // 2
            first = self._log_batch(run, points[:half], params[:half])
            return [*first, *self._log_batch(run, points[half:], params[half:])]
        return []

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
        """Open artifacts of a run or model as the client does, which would keep 6 KB for each."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
        from mlflow.utils.uri import add_databricks_profile_info_to_artifact_uri

        place = add_databricks_profile_info_to_artifact_uri(uri, self._address.uri)
        return get_artifact_repository(place, tracking_uri=self._address.uri)

    def log_json(
        self, run: StoredRun, value: Mapping[str, Any], name: str, folder: str | None = None
    ) -> None:
        """Write ``value`` as a JSON artifact (in ``folder``)."""
        with TemporaryDirectory() as temporary:
            path = Path(temporary) / name
            path.write_text(json.dumps(value, indent=2), encoding="utf-8")
            self._artifacts_at(run.artifact_uri).log_artifact(str(path), folder)

    def end(self, run: StoredRun, status: EndStatus, at_ms: int) -> None:
        """Set how and when a run ended."""
        self._client.set_terminated(run.run_id, status=status, end_time=at_ms)

    def reopen(self, run: StoredRun) -> None:
        """Mark an ended run as running."""
        self._client.update_run(run.run_id, status="RUNNING")

    def end_running_trials(self, status: EndStatus, at_ms: int) -> None:
        """End every trial's run that is still marked as running."""
        for run in list(self._search("attributes.status = 'RUNNING'")):  # ending one moves pages
            if TRIAL_KEY_TAG in run.data.tags and run.info.lifecycle_stage != "deleted":
                self._client.set_terminated(run.info.run_id, status=status, end_time=at_ms)

    def _search(self, condition: str = "") -> Iterator[Any]:
        return search_runs(self._client, self.experiment_id, self._sweep_id, condition)

    def try_models(self) -> None:
        """Ask the registry for something, so that one that is not there says so."""
        self._client.search_registered_models(max_results=1)

    def remove(self, run: StoredRun) -> None:
        """Delete a run with its artifacts, from a database for good."""
        self._artifacts_at(run.artifact_uri).delete_artifacts()
        self._client.delete_run(run.run_id)
        self._remove_for_good("run", run.run_id)

    def remove_experiment(self) -> None:
        """Delete the experiment, from a database for good."""
        self._client.delete_experiment(self.experiment_id)
        self._remove_for_good("experiment", self.experiment_id)

    def _remove_for_good(self, kind: str, identifier: str) -> None:
        """Do what ``mlflow gc`` does; only databases can."""
        store = self._client._tracking_client.store
        remove = getattr(store, f"_hard_delete_{kind}", None)
        if remove is not None:
            remove(identifier)


@contextmanager
def _setup_lock(database: Path | None) -> Iterator[None]:
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(database.with_name(f".{database.name}.lock"), _SET_UP_S):
        yield


@contextmanager
def exclusive(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold an advisory lock on ``path`` over all processes; a kill sets it free.

    Raises StoreTrouble, by name, if another process holds it for longer than ``timeout_s``.
    """
    try:
        lock = FileLock(path, fallback_to_soft=False).acquire(timeout=timeout_s)
    except Timeout as error:
        raise StoreTrouble(
            f"{path} has been locked by another process for {timeout_s:.0f} s, which writes to "
            "MLflow too",
            "Wait for it, or end it if it hangs",
        ) from error
    with lock:
        yield


def _active_first(run: Any) -> tuple[bool, str]:
    return (run.info.lifecycle_stage == "deleted", run.info.run_id)


def _cut(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: str(value)[:_MAX_TAG_CHARS] for key, value in tags.items()}


def _chunks(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
