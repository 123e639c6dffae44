"""MLflow's pages of a database, served on loopback for as long as somebody looks at them."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sg_ray.config import load_experiment
from sg_ray.errors import InputError, SgRayError
from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.address import Address
from sg_ray.tracking.client import has_odd_place, import_mlflow
from sg_ray.tracking.mlflow_mirror import MlflowMirror, Page, address_of

HOST = "127.0.0.1"
FIRST_PORT = 5000
_NUM_PORTS = 100
_START_S = 120.0
_END_S = 10.0
_POLL_S = 0.1
_TAIL_CHARS = 2_000
_ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # processes that nobody needs here

_END_WITH_US = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); os.execv(sys.executable, sys.argv[2:])"
)
"""Has the kernel end the server with this process, which may be killed (PR_SET_PDEATHSIG)."""


@dataclass(frozen=True)
class UiServer:
    """A server that answers: its address, and its process."""

    root: str
    process: "subprocess.Popen[bytes]"

    def wait(self) -> None:
        """Return when it has ended by itself."""
        self.process.wait()


def page_of(folder: SweepFolder) -> Page:
    """Return MLflow's page of the sweep in ``folder``.

    Raises InputError if there is no sweep or no mirror of it, StoreTrouble if its store is away.
    """
    if not folder.is_sweep:
        raise InputError(f"{folder}: no sweep (it would hold {folder.settings.name}). Name one.")
    experiment = load_experiment(folder.settings, loads_code=False)
    return MlflowMirror(folder, address_of(experiment.tracking), experiment.name).page()


@contextmanager
def serving(address: Address, port: int = FIRST_PORT) -> Iterator[UiServer]:
    """Serve the pages of a database until the block's end, on ``port`` or the next that is free.

    Its processes are gone afterwards, and also if this one is killed. Raises InputError if no port
    is free or MLflow cannot serve from where it is installed, SgRayError with what MLflow said if
    it does not start.
    """
    if has_odd_place():
        raise InputError(
            f"MLflow does not serve below a folder with % in its name ({sys.prefix}): move it."
        )
    import_mlflow()  # sets its environment
    free = free_port(port)
    with tempfile.TemporaryFile() as log:
        process = _start(address, free, log.fileno())
        try:
            root = f"http://{HOST}:{free}"
            _wait_until_it_answers(root, process)
            yield UiServer(root, process)
        except _DidNotStart as error:
            log.seek(0)
            said = log.read().decode(errors="replace")[-_TAIL_CHARS:].strip()
            raise SgRayError(f"MLflow's server {error}:\n{address.hide(said)}") from error
        finally:
            _end(process)


def free_port(first: int) -> int:
    """Return the first port from ``first`` on that nobody listens on. Raises InputError."""
    last = min(first + _NUM_PORTS, 65_536)
    for port in range(first, last):
        with socket.socket() as candidate, suppress(OSError):
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            candidate.bind((HOST, port))
            return port
    raise InputError(f"--port {first}: no port is free from there to {last - 1}. Name another.")


class _DidNotStart(Exception):  # noqa: N818 - a state
    """The server has not come to answer."""


def _start(address: Address, port: int, log: int) -> "subprocess.Popen[bytes]":
    """Start MLflow in a session of its own: Ctrl-C is ours to hear, and its children are found.

    The store, which may hold a password, is told by the environment: arguments are for all to see.
    """
    arguments = ["-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    environment = {**os.environ, **_ENVIRONMENT, "MLFLOW_BACKEND_STORE_URI": address.uri}
    database = address.database
    return subprocess.Popen(
        [sys.executable, "-c", _END_WITH_US, str(os.getpid()), sys.executable, *arguments],
        env=environment,
        cwd=None if database is None else database.parent,  # where its own artifacts lie
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _wait_until_it_answers(root: str, process: "subprocess.Popen[bytes]") -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _START_S
    while process.poll() is None:
        with suppress(urllib.error.URLError, OSError):
            direct.open(f"{root}/health", timeout=_END_S).close()
            return
        if time.monotonic() > deadline:
            raise _DidNotStart(f"has not answered for {_START_S:.0f} s")
        time.sleep(_POLL_S)
    raise _DidNotStart(f"ended with exit code {process.returncode}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the server and whatever it has started."""
    _signal_all(process, signal.SIGTERM)
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _signal_all(process, signal.SIGKILL)
        process.wait()


def _signal_all(process: "subprocess.Popen[bytes]", number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
