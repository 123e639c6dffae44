"""Hosts of labs: apart where hosts are apart, and gone at the end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hosts import Host, hosts
from lab import missing_namespaces

pytestmark = pytest.mark.skipif(missing_namespaces() is not None, reason=str(missing_namespaces()))

LIMIT_S = 60.0


def answers(asked: Host, by: Host) -> bool:
    """Return whether a port of one host can be reached by another; it may take two seconds."""
    code = f"import socket; socket.create_connection(({asked.address!r}, 4000), timeout=2)"
    process = by.popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    return process.wait() == 0


def test_hosts_reach_each_other_until_a_link_is_cut(tmp_path: Path) -> None:
    with hosts("hoststest", 2, shared=tmp_path) as (one, two):
        assert two.run(["hostname"]) == "hoststest-2\n"
        assert one.address in two.run(["getent", "hosts", one.name])
        listen = "import socket; s = socket.create_server(('', 4000)); print(flush=True); "
        server = one.popen(
            [sys.executable, "-c", listen + "exec('while True: s.accept()')"],
            stdout=subprocess.PIPE,
        )
        assert server.stdout is not None
        with server.stdout as told:
            told.readline()
        assert answers(one, by=two)
        one.cut()
        assert not answers(one, by=two)
        one.mend()
        assert answers(one, by=two)
        server.send_signal(signal.SIGTERM)  # meets the command itself
        assert server.wait() == -signal.SIGTERM


def test_a_slow_link_is_slow_and_loses_some(tmp_path: Path) -> None:
    with hosts("hoststest", 2, shared=tmp_path) as (one, two):
        assert min(round_trip_s(two, one, number=3)) < 0.06
        one.slow_down(delay_s=0.03, loss=0.3)
        there_and_back_s = round_trip_s(two, one, number=20)
        assert 0 < len(there_and_back_s) < 20
        assert min(there_and_back_s) >= 0.06


def test_hosts_share_one_folder_and_nothing_else_in_tmp(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    with hosts("hoststest", 2, shared=tmp_path / "shared") as (one, two):
        one.run(["sh", "-c", f"echo seen > {tmp_path}/shared/file; echo own > /tmp/own"])
        assert two.run(["cat", tmp_path / "shared" / "file"]) == "seen\n"
        assert (one.tmp / "own").read_text() == "own\n"
        assert "No such file" in two.run(["cat", "/tmp/own"], check=False)
        folder = one.tmp
    assert not folder.exists()
    assert (tmp_path / "shared" / "file").read_text() == "seen\n"


def test_what_a_host_runs_ends_with_it_however_it_was_started(tmp_path: Path) -> None:
    detached = ["sh", "-c", "setsid sleep 1000 &"]
    marker = {**os.environ, "HOSTS_TEST": str(tmp_path)}

    def run_and_raise() -> None:
        with hosts("hoststest", 1, shared=tmp_path) as (one,):
            one.popen(detached, env=marker).wait()
            sleeper = one.popen(["sleep", "1000"], env=marker)
            wait_until(lambda: marked(tmp_path) == ["sleep 1000"] * 2)
            one.kill()
            assert sleeper.poll() == -signal.SIGKILL
            assert marked(tmp_path) == []
            one.popen(detached, env=marker).wait()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_and_raise()
    assert marked(tmp_path) == []


def test_hosts_end_with_a_lab_that_is_killed(tmp_path: Path) -> None:
    lab = (
        "import os, signal, sys; from pathlib import Path; from hosts import hosts\n"
        "with hosts('hoststest', 1, shared=Path(sys.argv[1])) as (one,):\n"
        "    one.popen(['sleep', '1000'])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "HOSTS_TEST": str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", lab, str(tmp_path)]
    code = subprocess.run(command, cwd=Path(__file__).parent, env=environment, check=False)
    assert code.returncode == -signal.SIGKILL
    wait_until(lambda: not marked(tmp_path))


def round_trip_s(by: Host, asked: Host, *, number: int) -> list[float]:
    """Return how long those of so many packets took that came back."""
    code = (
        "import socket, time\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.3)\n"
        f"for number in range({number}):\n"
        f"    began = time.monotonic(); s.sendto(bytes([number]), ({asked.address!r}, 4001))\n"
        "    try:\n"
        "        while s.recv(1) != bytes([number]): pass\n"
        "        print(time.monotonic() - began)\n"
        "    except TimeoutError: pass\n"
    )
    echo = (
        "import socket\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 4001))\n"
        "print(flush=True)\n"
        "while True: s.sendto(*s.recvfrom(1))\n"
    )
    server = asked.popen([sys.executable, "-c", echo], stdout=subprocess.PIPE)
    assert server.stdout is not None
    with server.stdout as told:
        told.readline()
        printed = by.run([sys.executable, "-c", code])
    server.kill()
    server.wait()
    return [float(line) for line in printed.split()]


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def marked(folder: Path) -> list[str]:
    """Return the commands that run with the marker of a test."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            if f"HOSTS_TEST={folder}".encode() in environment:
                found.append((process / "cmdline").read_text().strip("\0").replace("\0", " "))
        except OSError:
            continue
    return found
