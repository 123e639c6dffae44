"""Whether Ray can do here what a sweep asks of it; nothing of the trial is left behind."""

import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray
from ray.exceptions import RayError, RayTaskError

from sg_ray.cluster.ray_address import is_answered
from sg_ray.cluster.ray_private.core_names import services
from sg_ray.cluster.session import ray_session
from sg_ray.cluster.trouble import TooLateError, first_words
from sg_ray.errors import InputError
from sg_ray.host.processes import descendants, end

_TASK_TIMEOUT_S = 60.0
_STATE_TIMEOUT_S = 10
_PATIENCE_S = 20.0
"""How long Ray's processes may take to end by themselves."""


@dataclass(frozen=True)
class RayReport:
    """What a private Ray session did.

    ``state_service_error`` is None if the service answered, and ``is_only_ray`` tells whether it
    can be found without its address, as Train looks for it. ``session_dir`` is where Ray kept its
    logs and sockets, and ``processes`` are those it started: both are gone by now, or should be.
    ``dead_cluster`` is the address of a cluster that is noted as this machine's, and is no more.
    """

    resources: Mapping[str, float]
    start_s: float
    task_s: float
    state_service_error: str | None
    is_only_ray: bool
    session_dir: Path | None
    processes: frozenset[psutil.Process]
    dead_cluster: str | None = None


@dataclass
class _Traces:
    """What a session has to take away with it."""

    session_dir: Path | None = None
    processes: frozenset[psutil.Process] = frozenset()


def check_ray(log: Path, *, several_workers: bool) -> RayReport:
    """Start Ray as a sweep does, run a task, ask the state service, and end Ray again.

    ``several_workers`` says that trials need the state service; if they do not and it keeps Ray
    from starting, Ray is tried without it. Raises InputError if Ray does not start or runs nothing.
    """
    try:
        return _try_session(log, with_state_service=True)
    except TooLateError:  # it has been tried more than once
        raise
    except InputError:
        if several_workers:
            raise
        return _try_session(log, with_state_service=False)


def _try_session(log: Path, *, with_state_service: bool) -> RayReport:
    started = time.perf_counter()
    with _private_session(log, with_state_service=with_state_service) as traces:
        start_s = time.perf_counter() - started
        here = ray.get_runtime_context().gcs_address
        dead_cluster = _dead_cluster(here)
        # Who asks for the noted cluster where none is waits for minutes.
        error_in_task = _run_task(None if dead_cluster is None else here)
        task_s = time.perf_counter() - started - start_s
        resources = ray.cluster_resources()
        error = _state_service_error(here)
    return RayReport(
        resources=resources,
        start_s=start_s,
        task_s=task_s,
        state_service_error=error,
        is_only_ray=error_in_task is None and dead_cluster is None,
        session_dir=traces.session_dir,
        processes=traces.processes,
        dead_cluster=dead_cluster,
    )


@contextmanager
def _private_session(log: Path, *, with_state_service: bool) -> Iterator[_Traces]:
    """Hold a Ray session; afterwards its processes have ended and its folder is gone.

    Inside a process that runs Ray already, that one is used and left as it is.
    """
    traces = _Traces()
    if ray.is_initialized():
        yield traces
        return
    before = descendants()
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        with ray_session("local", log=log, several_workers=with_state_service):
            traces.session_dir = _session_dir()
            try:
                yield traces
            finally:
                traces.processes = descendants() - before
    finally:
        end(traces.processes | (descendants() - before), _PATIENCE_S)
        if traces.session_dir is not None:
            _remove(traces.session_dir)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray leaves its own, or none


def _run_task(address: str | None) -> str | None:
    """Run a task that asks the state service from a worker, as Train does; return its answer."""
    try:
        answer: str | None = ray.get(
            ray.remote(_state_service_error).remote(address), timeout=_TASK_TIMEOUT_S
        )
    except RayTaskError as error:  # it ran
        return first_words(error.cause or error)
    except RayError as error:
        raise InputError(
            f"Ray started, but ran no task within {_TASK_TIMEOUT_S:g} s ({first_words(error)}). "
            "Too little memory and a firewall between local ports are the usual causes; `ray start "
            "--head` leaves logs that tell more."
        ) from error
    return answer


def _state_service_error(address: str | None = None) -> str | None:
    """Return why the state service did not answer; None if it did."""
    from ray.util.state import list_actors

    try:
        list_actors(address, limit=1, timeout=_STATE_TIMEOUT_S)
    except Exception as error:  # of many kinds: from Ray, from gRPC, from the dashboard's server
        return first_words(error).partition(". ")[0]
    return None


def _dead_cluster(here: str) -> str | None:
    """Return the address that `ray start` left in Ray's temporary folder, if nobody is there."""
    noted: str | None = services.find_bootstrap_address(None)
    if noted is None or noted == here or is_answered(noted):
        return None
    return noted


def _session_dir() -> Path:
    """Return the session's folder, which holds ``sockets/plasma_store``."""
    return Path(ray.nodes()[0]["ObjectStoreSocketName"]).parents[1]


def _remove(session_dir: Path) -> None:
    """Delete a session's folder and Ray's links into it, such as ``session_latest``."""
    shutil.rmtree(session_dir, ignore_errors=True)
    for link in session_dir.parent.iterdir():
        if link.is_symlink() and link.readlink().is_relative_to(session_dir):
            link.unlink(missing_ok=True)
