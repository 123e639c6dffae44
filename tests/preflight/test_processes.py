"""Which processes are ours, and that they end."""

import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from sg_ray.host.processes import descendants, end, is_alive

STUBBORN = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def family() -> Iterator[tuple[subprocess.Popen[bytes], frozenset[psutil.Process]]]:
    """A process with a child of its own."""
    before = descendants()
    parent = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline())
        processes = descendants() - before
        assert {process.pid for process in processes} == {parent.pid, child_pid}
        yield parent, processes
        parent.kill()


def test_what_ran_before_and_its_children_may_be_left_out(family) -> None:
    parent, processes = family
    of_parent = frozenset(process for process in processes if process.pid == parent.pid)
    assert not processes & descendants(beside=of_parent)


def test_what_does_not_end_is_killed(family) -> None:
    _, processes = family
    assert all(is_alive(process) for process in processes)
    end(processes, patience_s=0.2)
    deadline = time.monotonic() + 10
    while any(is_alive(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_alive(process) for process in processes)


def test_a_later_process_of_the_same_id_is_another(family) -> None:
    parent, processes = family
    of_parent = next(process for process in processes if process.pid == parent.pid)
    earlier = psutil.Process(of_parent.pid)
    earlier._ident = (of_parent.pid, of_parent._ident[1] - 1)
    assert not is_alive(earlier)
    end(frozenset({earlier}), patience_s=0)
    assert is_alive(of_parent)


def test_one_that_has_ended_is_not_waited_for() -> None:
    before = descendants()
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as child:
        processes = descendants() - before
        assert child.stdin is not None
        child.stdin.close()
        started = time.monotonic()
        end(processes, patience_s=30)  # nobody has collected it yet
        assert time.monotonic() - started < 25
        assert not any(is_alive(process) for process in processes)


def test_a_process_of_which_a_thread_goes_on_has_not_ended() -> None:
    """Its first thread waits to be collected; the other one holds its files, and their locks."""
    code = (
        "import ctypes, sys, threading\n"
        "threading.Thread(target=sys.stdin.read).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as started:
        process = psutil.Process(started.pid)
        wait_for_status(process, psutil.STATUS_ZOMBIE)
        assert is_alive(process)
        end({process}, patience_s=0)
        assert not is_alive(process)


def wait_for_status(process: psutil.Process, status: str) -> None:
    deadline = time.monotonic() + 60
    while process.status() != status and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.status() == status
