"""``sg-ray ui``: MLflow's own pages of a real store, on loopback, and gone afterwards."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scripted_sweep import tell_sweep

from sg_ray.config.yaml_text import write_yaml
from sg_ray.errors import InputError
from sg_ray.host.processes import descendants
from sg_ray.records.journal import Journal
from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.mlflow_mirror import MlflowMirror
from sg_ray.tracking.ui_server import free_port, page_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def mirrored(journal: Journal, sweep_dir: Path, uri: str) -> Path:
    """A sweep that its store has."""
    tell_sweep(journal, sweep_dir)
    settings = {"name": "tiny", "output_dir": str(sweep_dir.parent), "tracking": {"uri": uri}}
    SweepFolder(sweep_dir).settings.write_text(write_yaml(settings))
    MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync()
    return sweep_dir


@contextmanager
def running_ui(sweep_dir: Path, port: int) -> "Iterator[subprocess.Popen[str]]":
    """The command in a process of its own; killed at the end if it still runs."""
    environment = {n: v for n, v in os.environ.items() if n not in ("DISPLAY", "WAYLAND_DISPLAY")}
    process = subprocess.Popen(
        [sys.executable, "-m", "sg_ray", "ui", str(sweep_dir), "--port", str(port)],
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answer(root: str, path: str) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{root}/{path}", timeout=30) as response:
        return json.load(response)


def wait_until_gone(processes: Any) -> None:
    deadline = time.monotonic() + 60
    while any(process.is_running() for process in processes):
        assert time.monotonic() < deadline, "the server was left running"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGKILL, -9)])
def test_the_view_is_served_and_no_server_is_left(
    mirrored: Path, number: signal.Signals, code: int
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        before = descendants()
        with running_ui(mirrored, port) as process:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            parts = urllib.parse.urlsplit(address)
            assert parts.hostname == "127.0.0.1"
            assert parts.port is not None
            assert parts.port > port
            root, view = address.split("/#/")
            experiment = view.split("/")[1]
            found = answer(root, f"api/2.0/mlflow/experiments/get?experiment_id={experiment}")
            tags = {tag["key"]: tag["value"] for tag in found["experiment"]["tags"]}
            key = urllib.parse.parse_qs(view.partition("?")[2])["viewStateShareKey"][0]
            saved = json.loads(tags[f"mlflow.sharedViewState.{key}"])
            assert saved["name"] == "Configurations, mean over seeds"
            started = descendants() - before
            assert len(started) >= 2, "the command and its server"
            process.send_signal(number)
            assert process.wait(60) == code
            wait_until_gone(started)


def test_a_sweep_that_mlflow_does_not_have_is_told(mirrored: Path) -> None:
    assert "/experiments/" in page_of(SweepFolder(mirrored)).view
    SweepFolder(mirrored).position_of_mirror.unlink()
    with pytest.raises(InputError, match="track sync"):
        page_of(SweepFolder(mirrored))
    with pytest.raises(InputError, match="nowhere: no sweep"):
        page_of(SweepFolder(Path("nowhere")))


def test_a_port_that_is_taken_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) > port
    with pytest.raises(InputError, match="--port 65536"):
        free_port(65_536)
