"""Why Ray does not start here, by what Ray really raised; and a start in a poor place."""

import errno
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray._private import services
from ray._private.runtime_env.context import RuntimeEnvContext
from ray.core.generated.common_pb2 import Language
from ray.exceptions import RpcError

from sg_ray.cluster import ray_check
from sg_ray.cluster import session as ray_session
from sg_ray.cluster import trouble as ray_trouble
from sg_ray.cluster.ray_private.core_names import worker
from sg_ray.errors import InputError
from sg_ray.host.memory import Memory
from sg_ray.host.process_limits import Room

ROOT = Path(__file__).parents[2]
GIB = 2**30

LATE = Exception(
    "The current node timed out during startup. This could happen because some of the raylet "
    "failed to startup or the GCS has become overloaded."
)
DASHBOARD = Exception(
    """
The last 20 lines of /tmp/ray/session_x/logs/dashboard.log (it contains the error message):
  File "job_head.py", line 72, in <module>
    class RayActivityResponse(BaseModel, extra=Extra.allow):
                                               ^^^^^^^^^^^
    warnings.warn(
pydantic.warnings.PydanticDeprecatedSince20: pydantic.config.Extra is deprecated
"""
)
COLOURED = RpcError(
    "\x1b[36mray::_state_service_error()\x1b[39m (pid=17, ip=127.0.0.1)\n  File x, line 1\n"
)


@pytest.fixture
def no_ray_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(worker, "_global_node", None)  # that of other tests is not ours to end


def starting(tmp_path: Path) -> Any:
    return ray_session.starting_ray("local", log=tmp_path / "ray.log", several_workers=False)


def session(tmp_path: Path) -> Any:
    return ray_session.ray_session("local", log=tmp_path / "ray.log", several_workers=False)


@pytest.mark.usefixtures("no_ray_yet")
def test_a_late_start_is_tried_again_with_more_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str | None] = []

    def init(**settings: Any) -> None:
        tries.append(os.environ.get("RAY_gcs_server_port_wait_time_s"))  # noqa: SIM112 - Ray's name
        if len(tries) == 1:
            raise LATE

    monkeypatch.setattr(ray, "init", init)
    with session(tmp_path):
        pass
    assert tries == [None, "150"]


@pytest.mark.usefixtures("no_ray_yet")
def test_the_machine_is_blamed_after_the_second_try_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**settings: Any) -> None:
        raise LATE

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(InputError, match="tried 2 times") as raised, session(tmp_path):
        pass
    assert "--address" not in str(raised.value)
    assert "If the machine is busy, try again" in str(raised.value)
    assert services.get_node.__module__ == services.__name__


@pytest.mark.usefixtures("no_ray_yet")
def test_e02_a_node_that_has_died_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray asks for its node again and again; there is none below this process."""

    def no_such_node(*arguments: Any) -> None:
        raise RuntimeError("no such node")

    monkeypatch.setattr(services, "get_node", no_such_node)
    monkeypatch.setattr(ray_trouble, "descendants", frozenset)
    monkeypatch.setattr(ray, "init", lambda **_: services.get_node("127.0.0.1:1", "a"))
    with pytest.raises(InputError, match=r"raylet. ended while it started"), session(tmp_path):
        pass


@pytest.mark.usefixtures("no_ray_yet")
def test_other_failures_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    num_tries = 0

    def init(**settings: Any) -> None:
        nonlocal num_tries
        num_tries += 1
        raise DASHBOARD

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(InputError) as raised, session(tmp_path):
        pass
    assert num_tries == 1
    assert "Ray did not start on this machine: pydantic.warnings" in str(raised.value)
    assert "--address" not in str(raised.value)


@pytest.mark.usefixtures("no_ray_yet")
def test_c13_ray_gets_what_this_process_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(ray, "init", lambda **settings: given.update(settings))
    monkeypatch.setattr(ray_session, "num_cpus", lambda: 3)
    monkeypatch.setattr(ray_session, "count_memory", lambda: Memory(GIB, 64 * GIB))
    with session(tmp_path):
        pass
    assert given["num_cpus"] == 3
    assert 80 * 2**20 <= given["object_store_memory"] <= 0.3 * GIB
    assert given["object_store_memory"] + given["_memory"] <= GIB
    monkeypatch.setattr(ray_session, "count_memory", lambda: Memory(64 * GIB, 64 * GIB))
    given.clear()
    with session(tmp_path):
        pass
    assert not given.keys() & {"object_store_memory", "_memory"}


@pytest.mark.usefixtures("no_ray_yet")
def test_e01_a_session_has_a_token_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written into the home folder, and the variables are gone afterwards."""
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(ray, "init", lambda **_: seen.append(dict(os.environ)))
    monkeypatch.setattr(ray_session, "_read_settings_anew", lambda: None)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    with session(tmp_path):
        pass
    assert seen[0]["RAY_AUTH_MODE"] == "token"
    assert len(seen[0]["RAY_AUTH_TOKEN"]) == 64
    assert "PYTHONWARNINGS" not in seen[0]
    assert "RAY_AUTH_TOKEN" not in os.environ
    assert os.environ["PYTHONWARNINGS"] == "error"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    with session(tmp_path):
        pass
    assert seen[1]["RAY_AUTH_TOKEN"] == "0" * 64
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with session(tmp_path):
        pass
    assert (seen[2]["RAY_AUTH_MODE"], "RAY_AUTH_TOKEN" in seen[2]) == ("disabled", False)


@pytest.mark.usefixtures("no_ray_yet")
def test_e03_leftovers_of_older_sweeps_stay_out_of_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune raises for the first two; with the third, relative paths lead elsewhere."""
    left = {"TUNE_RESULT_DIR": "/old", "RAY_AIR_LOCAL_CACHE_DIR": "/old"}
    left["RAY_CHDIR_TO_TRIAL_DIR"] = "1"
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(ray, "init", lambda **_: seen.append(dict(os.environ)))
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    with session(tmp_path):
        pass
    assert {name: seen[0].get(name) for name in left} == {
        "TUNE_RESULT_DIR": None,
        "RAY_AIR_LOCAL_CACHE_DIR": None,
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
    }
    assert {name: os.environ[name] for name in left} == left


@pytest.mark.usefixtures("no_ray_yet")
def test_e02_few_processes_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_trouble, "room_for_processes", lambda: Room(91, "ulimit -u 120"))
    with pytest.raises(InputError, match=r"ulimit -u 120 leaves 91 more"), session(tmp_path):
        pass
    monkeypatch.undo()
    few_files = (resource.RLIMIT_NOFILE, (64, 64))
    monkeypatch.setattr(resource, "getrlimit", dict([few_files]).__getitem__)
    with pytest.raises(InputError, match=r"ulimit -Hn is 64"):
        ray_trouble._refuse_few_files()


@pytest.mark.usefixtures("no_ray_yet")
def test_ray_starts_while_something_else_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, is_there = threading.Event(), threading.Event()

    def init(**_: Any) -> None:
        assert may_end.wait(60)
        is_there.set()

    monkeypatch.setattr(ray, "init", init)
    with starting(tmp_path) as wait:
        assert not is_there.is_set()
        may_end.set()
        wait()
        assert is_there.is_set()


@pytest.mark.usefixtures("no_ray_yet")
def test_a_start_that_nobody_waited_for_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(ray, "init", lambda **_: done.append("started"))
    monkeypatch.setattr(ray_session, "_end_private", lambda: done.append("ended"))
    with pytest.raises(InputError, match="bad data"), starting(tmp_path):
        raise InputError("bad data")
    assert done == ["started", "ended"]


@pytest.mark.usefixtures("no_ray_yet")
def test_why_it_does_not_start_is_told_to_who_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/ray/session_x")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray_session, "_end_private", lambda: pytest.fail("there is none to end"))
    with starting(tmp_path) as wait, pytest.raises(InputError, match="No space left on device"):
        wait()


@pytest.mark.usefixtures("no_ray_yet")
@pytest.mark.parametrize("character", ["'", "\\", "\n"])
def test_e04_paths_that_ray_would_read_as_quoted_are_refused(
    character: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's node process ends of them, or its workers never start."""
    with monkeypatch.context() as changed:
        changed.setattr(sys, "executable", f"/it{character}s/.venv/bin/python")
        with pytest.raises(InputError, match=r"cannot start its workers there\. Move the checkout"):
            ray_trouble.refuse_what_cannot_hold_ray()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / f"it{character}s"))
    with pytest.raises(InputError, match="Set RAY_TMPDIR to another folder"):
        ray_trouble.refuse_what_cannot_hold_ray()


@pytest.mark.usefixtures("no_ray_yet")
@pytest.mark.parametrize("folder", ["a b", "50%20", "x#y", "$(x) & y", 'the "new" one', "caf\xe9"])
def test_e04_the_shell_that_starts_workers_gets_the_path_of_python_whole(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / folder / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    given: dict[str, Any] = {}
    monkeypatch.setattr(ray, "init", lambda **settings: given.update(settings))
    monkeypatch.setattr(sys, "executable", str(python))
    with session(tmp_path):
        pass
    named = given.get("runtime_env", {}).get("py_executable", sys.executable)
    command = RuntimeEnvContext(py_executable=named)
    monkeypatch.setattr(os, "execvp", lambda _, args: subprocess.run(args, check=True))
    monkeypatch.chdir(tmp_path)
    command.exec_worker(["-c", "open('started', 'w')"], Language.PYTHON)
    assert (tmp_path / "started").exists()


@pytest.mark.usefixtures("no_ray_yet")
@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_e03_a_temporary_folder_with_a_long_name_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, str(tmp_path / ("d" * 130)))
    with pytest.raises(InputError) as raised:
        ray_trouble.refuse_what_cannot_hold_ray()
    assert f"({name}) has too long a name" in str(raised.value)
    assert "107 bytes" in str(raised.value)


@pytest.mark.usefixtures("no_ray_yet")
@pytest.mark.parametrize("name", ["f\xfcr uns", "\udcff"])
def test_e03_a_temporary_folder_beyond_ascii_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", f"/tmp/{name}")
    with pytest.raises(InputError, match=r"\(TMPDIR\) has characters beyond ASCII.*RAY_TMPDIR=/"):
        ray_trouble.refuse_what_cannot_hold_ray()


@pytest.mark.usefixtures("no_ray_yet")
@pytest.mark.parametrize(
    ("ray_tmpdir", "tmpdir", "expected"),
    [
        ("", "", "/tmp"),
        ("", "t", "t"),
        ("r/s", "/t", "r/s"),
        (None, "", "/tmp"),
        (None, "/t", "/t"),
    ],
)
def test_e03_ray_is_given_a_whole_path_to_its_temporary_folder(
    ray_tmpdir: str | None,
    tmpdir: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", tmpdir)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    if ray_tmpdir is not None:
        monkeypatch.setenv("RAY_TMPDIR", ray_tmpdir)
    seen: list[str] = []
    monkeypatch.setattr(ray_trouble, "refuse_what_cannot_hold_ray", lambda: None)
    monkeypatch.setattr(ray, "init", lambda **_: seen.append(os.environ["RAY_TMPDIR"]))
    monkeypatch.chdir(tmp_path)
    with session(tmp_path):
        pass
    assert seen == [str(tmp_path / expected)]
    assert os.environ.get("RAY_TMPDIR") == ray_tmpdir


@pytest.mark.usefixtures("no_ray_yet")
def test_e03_a_temporary_folder_that_cannot_be_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for folder in (Path("/proc/nowhere"), tmp_path / "file"):
        monkeypatch.setenv("RAY_TMPDIR", str(folder))
        monkeypatch.setattr(ray_trouble, "_LONGEST_SOCKET_PATH", 1000)
        with pytest.raises(InputError, match=r"Set RAY_TMPDIR to a place that can") as raised:
            ray_trouble.refuse_what_cannot_hold_ray()
        assert "cannot be written" in str(raised.value)


@pytest.mark.usefixtures("no_ray_yet")
def test_a_full_temporary_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=2**20)
    monkeypatch.setattr(ray_trouble.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match="has 1 MB free, too little"):
        ray_trouble.refuse_what_cannot_hold_ray()


def test_what_the_system_refuses_is_named_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nobody")
    home = OSError(errno.EROFS, "Read-only file system", "/nobody/.ray")
    full = OSError(errno.ENOSPC, "No space left on device", "/tmp/ray/session_x")
    files = OSError(errno.EMFILE, "Too many open files")
    assert "Ray needs a writable HOME" in ray_trouble.why_not_started(home)
    assert "/tmp/ray/session_x: No space left" in ray_trouble.why_not_started(full)
    assert "too few open files are allowed" in ray_trouble.why_not_started(files)


def test_case_47_what_ray_says_is_shown_without_colours() -> None:
    said = ray_trouble.first_words(COLOURED)
    assert said == "ray::_state_service_error() (pid=17, ip=127.0.0.1)"


def test_case_47_whatever_the_state_service_raises_is_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def list_actors(*arguments: Any, **settings: Any) -> None:
        raise COLOURED

    monkeypatch.setattr("ray.util.state.list_actors", list_actors)
    assert ray_check._state_service_error("127.0.0.1:1") == ray_trouble.first_words(COLOURED)


POOR_PLACE = """
import json, os, sys, warnings
from pathlib import Path
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
from sg_ray.cluster.ray_check import check_ray
report = check_ray(Path(sys.argv[1]), several_workers=False)
print(json.dumps([report.resources["CPU"], report.state_service_error, report.dead_cluster]))
"""


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Ray's sockets need short paths."""
    with TemporaryDirectory(prefix="p", dir="/tmp") as name:
        yield Path(name)


@pytest.mark.slow
def test_case_42_case_47_e01_e03_ray_starts_in_a_poor_place(short_folder: Path) -> None:
    """One CPU of several, no home, warnings as errors, a dead cluster noted, and one named."""
    (short_folder / "ray").mkdir()
    (short_folder / "ray" / "ray_current_cluster").write_text("127.0.0.1:9")
    environ = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    environ |= {"HOME": "/proc/nowhere", "PYTHONWARNINGS": "error", "PYTHONPATH": str(ROOT)}
    environ |= {"RAY_ADDRESS": "127.0.0.1:9"}
    ended = subprocess.run(
        [sys.executable, "-c", POOR_PLACE, str(short_folder / "ray.log")],
        env={**environ, "RAY_TMPDIR": str(short_folder)},
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == [1.0, None, "127.0.0.1:9"]
