"""Ray for the length of a sweep: started here or joined, its chatter in a file."""

import contextlib
import gc
import logging
import os
import secrets
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ray

from sg_ray.cluster import trouble as ray_trouble
from sg_ray.cluster.chosen_address import LOCAL, shown_address
from sg_ray.cluster.patience import PATIENCE
from sg_ray.cluster.ray_address import check_address
from sg_ray.cluster.ray_private.core_names import raylet, services, worker
from sg_ray.errors import InputError
from sg_ray.host.cpus import num_cpus
from sg_ray.host.helper_thread import HelperThread, helper_thread, wait_for
from sg_ray.host.memory import count_memory
from sg_ray.host.processes import descendants, end, trees
from sg_ray.host.signals import SIGNALS

_EXTRA_TIME_S = (0.0, 120.0)
"""By start: how much longer than Ray does to wait for its parts. The second finds files cached."""

_PREFERRED = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_prestart_worker_first_driver": "0"}
_NEEDED = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a relative pretrained=DIR stays right
    "TUNE_RESULT_DIR": None,  # these two have no effect any more, but Tune raises for them
    "RAY_AIR_LOCAL_CACHE_DIR": None,
}
"""Variables that are so for the length of a session, whatever they were; None: not set."""
_OBJECT_STORE_SHARE = 0.3
"""Of the memory that this process may use; as Ray has it of the machine's."""
_LEAST_OBJECT_STORE_BYTES = 80 * 2**20


@contextlib.contextmanager
def ray_session(address: str, *, log: Path, several_workers: bool) -> Iterator[None]:
    """Start Ray on this machine (``local``) or join a cluster; stop what was started here.

    A Ray of this machine's own gets the CPUs and the memory that this process may use, and a token
    of its own. Inside a process that runs Ray already, that one is used and left running. Raises
    InputError, with the cause, if Ray does not start or no cluster answers.
    """
    with starting_ray(address, log=log, several_workers=several_workers) as wait:
        wait()
        yield


@contextlib.contextmanager
def starting_ray(address: str, *, log: Path, several_workers: bool) -> Iterator[Callable[[], None]]:
    """As ``ray_session``, but a Ray of this machine's own starts while something else is done.

    What is yielded waits until Ray is there, and raises InputError if it does not start.
    """
    for name, value in _PREFERRED.items():
        os.environ.setdefault(name, value)
    # Its thread lives as long as Ray does, whose processes hear no signal: see HelperThread.
    with _variables(_NEEDED), _logged_to(log), helper_thread(set(SIGNALS)) as helper:
        if ray.is_initialized():
            yield _nothing
        elif address == LOCAL:
            with _private(helper, several_workers) as wait:
                yield wait
        else:
            with _joined(helper, address):
                yield _nothing


def _nothing() -> None:
    """Wait for a Ray that is there."""


@contextlib.contextmanager
def _joined(helper: HelperThread, address: str) -> Iterator[None]:
    helper.call(partial(check_address, address))
    try:
        with _variables({name: os.environ.get(name, own) for name, own in PATIENCE.items()}):
            _read_settings_anew()
            helper.call(partial(ray.init, address=address, **_QUIET))
    except Exception as error:  # a bare one if the cluster's metadata do not fit
        raise InputError(
            f"{shown_address(address)}: the cluster answers, but cannot be joined from this "
            f"machine ({ray_trouble.first_words(error.__cause__ or error)}). Run the sweep on one "
            "of its nodes: on this machine after `ray start --address=HOST:PORT`, or on the head."
        ) from error
    try:
        yield
    finally:
        helper.finish(_shut_down)


@contextlib.contextmanager
def _private(helper: HelperThread, several_workers: bool) -> Iterator[Callable[[], None]]:
    ray_trouble.refuse_what_cannot_hold_ray()
    with _environment_of_its_own():
        start = _Start(helper, _private_settings(several_workers))
        try:
            yield start.wait
        finally:
            if start.is_up():
                helper.finish(_end_private)


def _end_private() -> None:
    """Leave a Ray of this machine's own, and end it. Nothing is left that it had to do.

    Ray asks its processes to end and gives each a second; they do not hear that.
    """
    node = worker._global_node
    if node is None:  # somebody has shut it down
        return
    processes = trees(process.pid for _, process in node.live_processes())
    end_all = node.kill_all_processes
    node.kill_all_processes = lambda **how: end_all(**{**how, "allow_graceful": False})
    try:
        _shut_down()
    finally:
        end(processes, patience_s=0)


def _shut_down() -> None:
    """Leave Ray, and have no thread free a reference to an object of Ray's meanwhile.

    Ray would end this process for that: its own part is gone by then. Python's collector frees what
    it finds in whichever thread it comes up, so it goes first, and then waits.
    """
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        if was_on:
            gc.enable()


class _Start:
    """The start of a Ray of this machine's own; on a busy machine once more, with more time."""

    def __init__(self, helper: HelperThread, settings: Mapping[str, Any]) -> None:
        self._helper, self._settings = helper, settings
        self._began_s = time.monotonic()
        self._has_failed = False
        self._begin(_EXTRA_TIME_S[0])

    def _begin(self, extra_s: float) -> None:
        self._before = descendants()
        self._outcome = self._helper.begin(partial(_init, extra_s, self._settings))

    def wait(self) -> None:
        """Wait until Ray is there. Raises InputError if it does not start."""
        for number, extra_s in enumerate((*_EXTRA_TIME_S[1:], None), start=1):
            try:
                wait_for(self._outcome)
                return
            except KeyboardInterrupt:
                self._end()
                raise
            except Exception as error:  # a bare one if a node does not start in time
                self._end()  # what has started; it would live on
                if not ray_trouble.is_late(error):
                    raise InputError(ray_trouble.why_not_started(error)) from error
                if extra_s is None:
                    why = ray_trouble.why_too_late(error, time.monotonic() - self._began_s, number)
                    raise ray_trouble.TooLateError(why) from error
                logging.getLogger("ray").warning("started once more, with more time: %s", error)
                self._has_failed = False
                self._begin(extra_s)

    def is_up(self) -> bool:
        """Return whether there is a Ray to be ended; one that still starts is waited for."""
        if self._has_failed:
            return False
        try:
            wait_for(self._outcome)
        except KeyboardInterrupt:
            self._end()
            raise
        except Exception:
            self._end()
        return not self._has_failed

    def _end(self) -> None:
        self._has_failed = True
        end(descendants() - self._before, patience_s=0)


def _init(extra_s: float, settings: Mapping[str, Any]) -> None:
    serves = contextlib.nullcontext() if settings["include_dashboard"] else _without_server()
    with _waiting(extra_s), serves:
        ray.init(address="local", **settings)


@contextlib.contextmanager
def _without_server() -> Iterator[None]:
    """Have Ray not start the server of its dashboard, which it does even where none is wanted.

    It would load as much as a trial, and Ray would wait for it: a quarter of its start.
    """
    start_server = services.start_api_server
    services.start_api_server = lambda *_, **__: (None, None)
    try:
        yield
    finally:
        services.start_api_server = start_server


@contextlib.contextmanager
def _waiting(extra_s: float) -> Iterator[None]:
    """Have Ray wait ``extra_s`` longer for its server of state and for its node, if that lives.

    The first wait has a variable. The second (30 s) has none: it goes on until this function says
    that the node is there, and would go on if the node had died.
    """
    get_node = services.get_node

    def watched(*args: Any, **kwargs: Any) -> Any:
        return _asked_again(lambda: get_node(*args, **kwargs), extra_s)

    wait_s = {"RAY_gcs_server_port_wait_time_s": f"{30 + extra_s:.0f}"} if extra_s else {}
    services.get_node = watched
    try:
        with _variables(wait_s):
            yield
    finally:
        services.get_node = get_node


def _asked_again(ask: Callable[[], Any], for_s: float) -> Any:
    """Return what ``ask`` does once it does not raise RuntimeError any more."""
    deadline = time.monotonic() + for_s
    while True:
        try:
            return ask()
        except RuntimeError as error:
            if not ray_trouble.node_is_alive():
                raise ray_trouble.NodeDiedError from error
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.5)


_QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}


def _private_settings(several_workers: bool) -> dict[str, Any]:
    """Return what ``ray.init`` takes: this process's CPUs, and its memory if that is limited."""
    # Train frees the workers' placement groups with the help of the state service, which
    # comes with the dashboard.
    dashboard = {"include_dashboard": several_workers, "dashboard_host": "127.0.0.1"}
    return {
        **_QUIET,
        **dashboard,
        "num_cpus": num_cpus(),
        **memory_settings(),
        **_quoted_python(),
    }


def _quoted_python() -> dict[str, Any]:
    """Ray has a shell start its workers, and names Python there without quotes."""
    quoted = shlex.quote(sys.executable)
    return {} if quoted == sys.executable else {"runtime_env": {"py_executable": quoted}}


def memory_settings() -> dict[str, int]:
    """Return what Ray is told of memory: it sees the whole machine from inside a job of SLURM."""
    memory = count_memory()
    if not memory.is_limited:
        return {}
    shared = os.statvfs("/dev/shm")
    free_bytes = int(0.95 * shared.f_bavail * shared.f_frsize)
    wanted_bytes = int(_OBJECT_STORE_SHARE * memory.usable_bytes)
    store_bytes = max(_LEAST_OBJECT_STORE_BYTES, min(wanted_bytes, free_bytes))
    left_bytes = max(_LEAST_OBJECT_STORE_BYTES, memory.usable_bytes - store_bytes)
    return {"object_store_memory": store_bytes, "_memory": left_bytes}


@contextlib.contextmanager
def _environment_of_its_own() -> Iterator[None]:
    """Keep from Ray's processes what would end them, and give the session its own token.

    Ray writes a token into the home folder, which not everybody has, and which would have later
    clusters ask for it. Its processes also warn, and must not end of it (PYTHONWARNINGS=error);
    they are not to look for another cluster (RAY_ADDRESS), and all find the one temporary folder.
    """
    place = {"RAY_TMPDIR": str(ray_trouble.temporary_folder())}
    with _variables({"PYTHONWARNINGS": None, "RAY_ADDRESS": None, **place, **_own_token()}):
        _read_settings_anew()
        yield
    _read_settings_anew()


def _own_token() -> dict[str, str]:
    """Return the variables of a new token; none if the user has turned tokens off or gives one."""
    mode_is_open = os.environ.get("RAY_AUTH_MODE", "token").lower() == "token"
    if not mode_is_open or {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        return {}
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _read_settings_anew() -> None:
    """Ray keeps what it has read of its variables, and the token."""
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def _variables(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables of the environment (None: take away); afterwards they are as before."""
    before = {name: os.environ.get(name) for name in values}
    _set_variables(values)
    try:
        yield
    finally:
        _set_variables(before)


def _set_variables(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextlib.contextmanager
def _logged_to(path: Path) -> Iterator[None]:
    """Send what Ray logs in this process to a file instead of the console."""
    logger = logging.getLogger("ray")
    before, propagate = list(logger.handlers), logger.propagate
    handler = _QuietFile(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.handlers, logger.propagate = [handler], False
    # Ray prints ten lines on standard output for each worker that dies; the journal says why.
    prints, worker._worker_logs_enabled = worker._worker_logs_enabled, False
    try:
        yield
    finally:
        worker._worker_logs_enabled = prints
        logger.handlers, logger.propagate = before, propagate
        with contextlib.suppress(OSError):
            handler.close()


class _QuietFile(logging.FileHandler):
    """A log file that says nothing of its own on the console when the disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Let the record go."""
