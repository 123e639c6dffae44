"""The process of a trial hears a stop, whatever it is doing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sg_ray.host import stop_flag
from sg_ray.host.signals import SAME_SIGNAL_S, SIGNALS
from sg_ray.host.stop_flag import StopFlag

ROOT = Path(__file__).parents[2]

BUSY = """
import hashlib, signal, threading, time
signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))  # as Ray's processes hand it down
from sg_ray.host.stop_flag import flag_of_this_process, hear_signals
hear_signals()

def watch():
    while flag_of_this_process()() is None:
        time.sleep(0.01)
    print("told", flag_of_this_process()(), flush=True)

threading.Thread(target=watch, daemon=True).start()
print("ready", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # minutes in which Python runs no handler
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=str)
def test_a_signal_is_heard_inside_a_library_and_a_second_one_ends_it(
    number: signal.Signals,
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == b"told stop\n"
        time.sleep(SAME_SIGNAL_S + 0.2)
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number


def test_an_orphan_is_told_to_stop_and_ends() -> None:
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}])"
    process = subprocess.Popen(
        [sys.executable, "-c", parent],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        process.wait(timeout=30)
        assert process.stdout.readline() == b"told stop\n"
        assert process.stdout.readline() == b""  # the end of all that could write there


def test_that_all_stop_is_the_last_word() -> None:
    flag = StopFlag()
    assert flag() is None
    flag.tell("preempted")
    assert flag() == "preempted"
    flag.tell("stop")
    flag.tell("preempted")
    assert flag() == "stop"
    flag.begin()
    assert flag() == "stop"


def test_a_signal_is_for_the_work_in_progress_alone() -> None:
    flag = StopFlag()
    flag.take_signal(signal.SIGTERM)
    assert flag() == "stop"
    flag.begin()
    assert flag() is None


def test_signals_that_come_together_count_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[int] = []
    monkeypatch.setattr(stop_flag.os, "_exit", ends.append)
    now_s = [100.0]
    monkeypatch.setattr(stop_flag.time, "monotonic", lambda: now_s[0])
    flag = StopFlag()
    for number in SIGNALS:
        flag.take_signal(number)
    assert ends == []
    now_s[0] += 2 * SAME_SIGNAL_S
    flag.take_signal(signal.SIGUSR2)
    assert ends == [128 + signal.SIGUSR2]
