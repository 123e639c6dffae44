"""One sweep's runs in an MLflow store; every operation may be repeated without effect.

All goes through an explicit client, so neither an active run nor the process's tracking URI exist.

An experiment belongs to the folder that first mirrored a sweep of its name. Another sweep of that
name has an experiment (and a registered model) of its own, with a suffix: on a shared server two
people's ``quick`` are two things. An experiment without an owner is shared by whoever names it.

In a SQLite store the artifacts of a new experiment lie beside the database, in ``mlartifacts/``:
MLflow's own default depends on the current folder, which Ray changes.
"""

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from urllib.parse import quote

from filelock import FileLock, Timeout

from sg_ray.files import content_hash
from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.address import Address
from sg_ray.tracking.client import open_client
from sg_ray.tracking.datasets import DataInput, to_mlflow
from sg_ray.tracking.mlflow_models import OWNER_TAG, TRIAL_KEY_TAG, MlflowModels
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

SWEEP_ID_TAG = "sg_ray.sweep_id"
PARENT_TAG = "mlflow.parentRunId"
KIND_TAG = "mlflow.experimentKind"
EXPERIMENT_KIND = "custom_model_development"
"""Untold, MLflow's page asks what kind of experiment it is, or shows that of chat models."""

ARTIFACTS = "mlartifacts"
"""The folder of artifacts beside a SQLite database."""

EndStatus = Literal["FINISHED", "FAILED", "KILLED"]

_MAX_METRICS_PER_BATCH = 900  # MLflow's limits: 1,000 metrics, 100 parameters, 1,000 together
_MAX_PARAMS_PER_BATCH = 100
_MAX_PARAM_CHARS = 6000
_MAX_TAG_CHARS = MAX_CHARS
_SHOWN_CHARS = 60
_OWNER_CHARS = 8
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
        self._address, self._sweep_id, self._owner = address, sweep_id, owner
        try:
            with _setup_lock(address.database):
                self._client = open_client(address)
                self.experiment_name, self.experiment_id = self._find_or_create(experiment)
        except Exception as error:  # whatever MLflow, its database or its server raises
            raise trouble_of(error, address) from error
        self._artifacts_at = lru_cache(maxsize=1)(self._open_artifacts)
        self.models = MlflowModels(self._client, self.experiment_id, owner)

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
        """Open a run's artifacts as the client does, which would keep 6 KB for each run."""
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
        return _search(self._client, self.experiment_id, self._sweep_id, condition)

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

    def _find_or_create(self, name: str) -> tuple[str, str]:
        """Return name and id of the experiment for the sweep called ``name``."""
        own_name, found = find_experiment(
            self._client, self._address, name, self._sweep_id, self._owner
        )
        found = found or self._create(own_name)
        if self._owner and found.tags.get(OWNER_TAG) != self._owner:
            self._client.set_experiment_tag(found.experiment_id, OWNER_TAG, self._owner)
        return own_name, str(found.experiment_id)

    def _create(self, name: str) -> Any:
        from mlflow.exceptions import MlflowException

        place = _artifact_location(self._address.database, name)
        owner = {OWNER_TAG: self._owner} if self._owner else {}
        tags = {KIND_TAG: EXPERIMENT_KIND, **owner}
        try:
            self._client.create_experiment(name, place, tags)
        except MlflowException as error:  # somebody was faster
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return self._client.get_experiment_by_name(name)


def find_experiment(
    client: Any, address: Address, name: str, sweep_id: str, owner: str
) -> tuple[str, Any | None]:
    """Return the experiment of a sweep called ``name``, under the name that it has or is to have.

    That is another one if somebody else's sweep has the name. Raises ExperimentDeleted.
    """
    found = client.get_experiment_by_name(name)
    if found is not None and _is_anothers(client, found, sweep_id, owner):
        name = f"{name}-{owner}"
        found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise ExperimentDeleted(address, name, found.experiment_id)
    return name, found


def owner_of(folder: SweepFolder, address: Address) -> str:
    """Return whose sweeps are the same by their name: those of one folder (on one machine).

    A database that is a file is seen by one machine, whatever that is called today.
    """
    machine = "" if address.database is not None else socket.gethostname()
    return content_hash([machine, str(folder.path.resolve())], _OWNER_CHARS)


def _is_anothers(client: Any, experiment: Any, sweep_id: str, owner: str) -> bool:
    """Whether the name is taken: not by this folder's sweeps, nor by this one, moved."""
    noted = experiment.tags.get(OWNER_TAG)
    if not owner or noted in (None, owner):
        return False
    return next(_search(client, experiment.experiment_id, sweep_id), None) is None


def _search(client: Any, experiment_id: str, sweep_id: str, condition: str = "") -> Iterator[Any]:
    from mlflow.entities import ViewType

    wanted = f"tags.`{SWEEP_ID_TAG}` = '{sweep_id}'"
    query = f"{wanted} and {condition}" if condition else wanted
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], query, run_view_type=ViewType.ALL, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _artifact_location(database: Path | None, experiment: str) -> str | None:
    if database is None:
        return None
    return (database.parent / ARTIFACTS / quote(experiment, safe="")).as_uri()


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
