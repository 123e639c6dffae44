"""Whether an MLflow store takes what a sweep sends: tried with one run and one file of it.

What was tried is deleted. A database keeps no trace of it; a server keeps a deleted run, and if the
sweep has no experiment there yet, a deleted experiment under a name that nobody wants.
"""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote, unquote, urlsplit
from uuid import uuid4

from sg_ray.host.folders import nearest_existing, require_writable
from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.address import Address, find_address
from sg_ray.tracking.client import open_client
from sg_ray.tracking.mlflow_experiments import ARTIFACTS, find_experiment, owner_of
from sg_ray.tracking.mlflow_store import Metric, MlflowStore, StoredRun
from sg_ray.tracking.troubles import StoreTrouble, reason, trouble_of, unreachable

_TRIED = "sg-ray-preflight"
"""How experiments, runs and folders are called that are made to be tried and deleted."""
_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class StoreReport:
    """What was found, in words; ``warning`` is what a sweep does without."""

    detail: str
    warning: str = ""


def check_store(uri: str, base: Path, name: str, folder: SweepFolder) -> StoreReport:
    """Try the store at ``uri``, a relative path from ``base``, for a sweep called ``name``.

    A run is written as the mirror writes it, with a metric, a parameter and a file, and deleted.
    In place of a database that is not there yet, another one in its folder is tried. Raises
    StoreTrouble or InputError, with what to do, if something does not work.
    """
    address = find_address(uri, base)
    if address.is_server:
        _knock(address)
    database = address.database
    if database is None:
        return _try(address, name, owner_of(folder, address))
    for place in (database.parent, database.parent / ARTIFACTS):
        require_writable(place, "tracking.uri")
    with _without_new_lock(database):
        if database.is_file() and database.stat().st_size:
            return _try(address, name, owner_of(folder, address))
        if database.exists() and not database.is_file():
            raise StoreTrouble(f"tracking.uri: {database} is no file", "Name another database")
        with _database_beside(address) as beside:
            _try(beside, name, owner_of(folder, beside))
    return StoreReport(f"{address.shown}: a new database; one beside it took a run and a file")


def _try(address: Address, name: str, owner: str) -> StoreReport:
    """Write a run with a file to the sweep's experiment; for want of it, to one made for that."""
    try:
        own_name, found = find_experiment(open_client(address), address, name, "", owner)
    except Exception as error:
        raise trouble_of(error, address) from error
    place = name if found is not None else f"{_TRIED}-{uuid4().hex[:12]}"
    store = MlflowStore(address, place, uuid4().hex, owner if found is not None else "")
    try:
        warning = _write_and_remove_run(store, address)
    except Exception as error:
        raise trouble_of(error, address) from error
    finally:
        if found is None:
            with suppress(Exception):  # the first error is the one to tell
                store.remove_experiment()
    shared = "" if own_name == name else f"; {name} there is another folder's sweep: {own_name}"
    return StoreReport(f"{address.shown}: took a run and a file{shared}", warning)


def _write_and_remove_run(store: MlflowStore, address: Address) -> str:
    """Return what is wrong with the registry of models, which a sweep does without."""
    now_ms = time.time_ns() // 1_000_000
    run = store.create_run(_TRIED, {"sg_ray.kind": "preflight"}, now_ms)
    try:
        refused = store.log(run, [Metric("val_loss", 0.5, now_ms, 1)], {"seed": 1})
        if refused:
            raise refused[0].args[1]
        store.end(run, "FINISHED", now_ms)
        _write_file(store, run, address)
        return _try_models(store, address)
    finally:
        with suppress(Exception):
            store.remove(run)
        _remove_empty_folders(run.artifact_uri)


def _write_file(store: MlflowStore, run: StoredRun, address: Address) -> None:
    try:
        store.log_json(run, {"from": _TRIED}, f"{_TRIED}.json")
    except Exception as error:
        store.require_experiment(error)
        raise StoreTrouble(
            f"tracking.uri: {address.shown} takes runs, but no files for them: "
            f"{run.artifact_uri.rpartition(run.run_id)[0]} ({reason(error, address)})",
            "Make that place writable from here, choose another name=... or another tracking.uri, "
            "or set tracking.enabled=false",
        ) from error


def _try_models(store: MlflowStore, address: Address) -> str:
    try:
        store.try_models()
    except Exception as error:
        return f"the winner will not be registered ({reason(error, address)})"
    return ""


def _knock(address: Address) -> None:
    """Raise StoreTrouble if nobody answers there within seconds. MLflow itself asks longer."""
    try:
        with urllib.request.urlopen(f"{address.page}/health", timeout=_TIMEOUT_S) as answer:
            answer.read()
    except urllib.error.HTTPError:
        return  # somebody does; who that is, MLflow's own requests tell
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise unreachable(address, str(error)) from error


@contextmanager
def _database_beside(address: Address) -> Iterator[Address]:
    """Yield a new database near where another is to be; its folder goes with the block."""
    assert address.database is not None
    parent = nearest_existing(address.database.parent)
    with TemporaryDirectory(prefix=f".{_TRIED}-", dir=parent) as folder:
        beside = find_address(f"sqlite:///{quote(address.database.name)}", Path(folder))
        query = address.uri.partition("?")[2]
        yield replace(beside, uri=f"{beside.uri}?{query}" if query else beside.uri)


@contextmanager
def _without_new_lock(database: Path) -> Iterator[None]:
    lock = database.with_name(f".{database.name}.lock")
    existed = lock.exists()
    try:
        yield
    finally:
        if not existed:
            lock.unlink(missing_ok=True)


def _remove_empty_folders(artifact_uri: str) -> None:
    """Remove what the tried run leaves of its folders on this machine, if nothing else is there."""
    if not artifact_uri.startswith("file://"):
        return
    folder = Path(unquote(urlsplit(artifact_uri).path))
    with suppress(OSError):
        for own in (folder, *folder.parents[:3]):  # run, experiment, the folder of all of them
            if own.exists():
                own.rmdir()
