"""Signals are heard while something long goes on, and end it in order."""

import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from tiny_sweep import write_experiment

from sg_ray.cli import main
from sg_ray.features.worker_pool import worker_pool
from sg_ray.host.helper_thread import hearing_signals, helper_thread
from sg_ray.host.signals import SIGNALS, StopRequest, stopping

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", SIGNALS, ids=str)
def test_a_signal_is_heard_while_a_library_is_at_work(number: signal.Signals) -> None:
    release, stop = threading.Event(), StopRequest()
    before = signal.signal(number, signal.SIG_DFL)  # nohup has HUP ignored, and so it stays

    def library() -> None:
        os.kill(os.getpid(), number)
        release.wait(60)

    started = time.monotonic()
    try:
        with stopping(stop), pytest.raises(KeyboardInterrupt):
            hearing_signals(library)
    finally:
        signal.signal(number, before)
        release.set()
    assert time.monotonic() - started < 30
    assert stop.exit_code == 128 + number


def test_a_call_returns_and_raises_what_the_library_does() -> None:
    assert hearing_signals(lambda: 2 + 2) == 4
    with pytest.raises(ZeroDivisionError):
        hearing_signals(lambda: 1 // 0)


def test_an_interruption_waits_for_what_must_be_finished() -> None:
    finished = threading.Event()

    def shut_down() -> None:
        os.kill(os.getpid(), signal.SIGUSR2)
        time.sleep(0.3)
        finished.set()

    with stopping(StopRequest()), helper_thread() as helper, pytest.raises(KeyboardInterrupt):
        helper.finish(shut_down)
    assert finished.is_set()


@pytest.mark.parametrize("leaves", [set(SIGNALS) - {signal.SIGTERM}, set(SIGNALS)])
def test_what_a_helper_starts_leaves_signals_to_us(leaves: set[signal.Signals]) -> None:
    command = ["grep", "SigBlk", "/proc/self/status"]
    with helper_thread(leaves) as helper:
        shown = helper.call(lambda: subprocess.run(command, capture_output=True, check=True))
    blocked = int(shown.stdout.split()[1], 16)
    numbers = {number for number in SIGNALS if blocked & 1 << (number - 1)}
    assert numbers == leaves


def test_a_hangup_that_nohup_has_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping(StopRequest()):
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.1)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_feature_workers_end_with_an_interruption() -> None:
    def interrupted() -> None:
        with worker_pool(2, "graphs") as pool:
            pool.map(time.sleep, [600])
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - started < 60
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_case_43_usr1_while_features_are_made_says_how_to_go_on(tmp_path: Path) -> None:
    write_experiment(tmp_path, data={"source": "synthetic", "num_samples": 6000})
    arguments = ["train", "gnn", "experiment.yaml", "tracking.enabled=false", "--epochs", "1"]
    with (tmp_path / "log").open("wb") as log:
        process = psutil.Popen(
            [sys.executable, "-m", "sg_ray", *arguments],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    deadline = time.monotonic() + 120
    while not (tmp_path / "cache").is_dir() and time.monotonic() < deadline:
        time.sleep(0.02)
    below = process.children(recursive=True)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=60) == 128 + signal.SIGUSR1, (tmp_path / "log").read_text()
    assert psutil.wait_procs(below, timeout=10)[1] == []
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said
    assert "positions saved" not in said
    command = shlex.split(said.partition("go on with: ")[2])
    assert command[-len(arguments) :] == arguments


def test_a_password_on_the_command_line_is_not_said_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("sg_ray.cli.sweep.run", interrupted)
    assert main(["sweep", "a b.yaml"]) == 130
    assert "sweep 'a b.yaml'" in capsys.readouterr().err
    assert main(["sweep", "tracking.uri=http://me:secret@host/"]) == 130
    assert "secret" not in capsys.readouterr().err
