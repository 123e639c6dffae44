"""Which experiment of an MLflow store a sweep's runs are in; one that is missing is created.

An experiment belongs to the folder that first mirrored a sweep of its name. Another sweep of that
name has an experiment (and a registered model) of its own, with a suffix: on a shared server two
people's ``quick`` are two things. Trainings by themselves share one experiment: each has a folder
of its own, and in the sweep's experiment the first would take it from all others.

In a SQLite store the artifacts of a new experiment lie beside the database, in ``mlartifacts/``:
MLflow's own default depends on the current folder, which Ray changes.
"""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sg_ray.files import content_hash
from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.address import Address
from sg_ray.tracking.mlflow_models import OWNER_TAG
from sg_ray.tracking.troubles import ExperimentDeleted

SWEEP_ID_TAG = "sg_ray.sweep_id"
KIND_TAG = "mlflow.experimentKind"
EXPERIMENT_KIND = "custom_model_development"
"""Untold, MLflow's page asks what kind of experiment it is, or shows that of chat models."""

ARTIFACTS = "mlartifacts"
"""The folder of artifacts beside a SQLite database."""

_OWNER_CHARS = 8


def experiment_of(
    client: Any, address: Address, name: str, sweep_id: str, owner: str
) -> tuple[str, str]:
    """Return name and id of the experiment for the sweep called ``name``, found or created.

    ``owner`` says whose runs under the name are one and the same experiment; "" shares it with all.
    Raises ExperimentDeleted.
    """
    own_name, found = find_experiment(client, address, name, sweep_id, owner)
    found = found or _create(client, address, own_name, owner)
    if owner and found.tags.get(OWNER_TAG) != owner:
        client.set_experiment_tag(found.experiment_id, OWNER_TAG, owner)
    return own_name, str(found.experiment_id)


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


def of_trainings(name: str) -> tuple[str, str]:
    """Return name and owner of the experiment of trainings by themselves with settings ``name``.

    A sweep that is called as it is has another owner, and so another experiment.
    """
    return f"{name}-trainings", "trainings"


def owner_of(folder: SweepFolder, address: Address) -> str:
    """Return whose sweeps are the same by their name: those of one folder (on one machine).

    A database that is a file is seen by one machine, whatever that is called today.
    """
    machine = "" if address.database is not None else socket.gethostname()
    return content_hash([machine, str(folder.path.resolve())], _OWNER_CHARS)


def search_runs(
    client: Any, experiment_id: str, sweep_id: str, condition: str = ""
) -> Iterator[Any]:
    """Yield the runs of a sweep, deleted ones too, that fulfil a condition of MLflow's search."""
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


def _create(client: Any, address: Address, name: str, owner: str) -> Any:
    from mlflow.exceptions import MlflowException

    place = _artifact_location(address.database, name)
    tags = {KIND_TAG: EXPERIMENT_KIND, **({OWNER_TAG: owner} if owner else {})}
    try:
        client.create_experiment(name, place, tags)
    except MlflowException as error:  # somebody was faster
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.get_experiment_by_name(name)


def _is_anothers(client: Any, experiment: Any, sweep_id: str, owner: str) -> bool:
    """Whether the name is taken: not by this folder's sweeps, nor by this one, moved."""
    noted = experiment.tags.get(OWNER_TAG)
    if not owner or noted in (None, owner):
        return False
    return next(search_runs(client, experiment.experiment_id, sweep_id), None) is None


def _artifact_location(database: Path | None, experiment: str) -> str | None:
    if database is None:
        return None
    return (database.parent / ARTIFACTS / quote(experiment, safe="")).as_uri()
