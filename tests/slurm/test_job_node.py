"""Ray on a node of a job: it lives as long as the job's script wants it to, signals or not."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
LIMIT_S = 120.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A name that is short enough for sockets, of nothing that is there."""
    parent = Path(tempfile.mkdtemp(prefix="jn-", dir="/tmp"))
    yield parent / "r"
    shutil.rmtree(parent)


def call(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "sg_ray.cluster.job_node", "--folder", str(folder), *words]


def test_ray_hears_no_signal_and_ends_with_the_script(folder: Path) -> None:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t" * 32}
    shares = {"SLURM_CPUS_ON_NODE": "1", "SLURM_GPUS_ON_NODE": "3", "SLURM_MEM_PER_NODE": "1000"}
    environment = {**os.environ, **token, **shares}
    head = subprocess.Popen(
        call(folder, "head", "127.0.0.1"), env=environment, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert head.stdin is not None
    assert head.stdout is not None
    with head.stdin, head.stdout:
        waited = subprocess.run(
            call(folder, "await", "1"), env=environment, stdout=subprocess.PIPE, text=True,
            timeout=LIMIT_S, check=True,
        )  # fmt: skip
        address = waited.stdout.strip()
        assert re.fullmatch(r"[0-9.]+:\d+", address)
        assert folder.stat().st_mode & 0o077 == 0
        tree = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
        assert not any("t" * 32 in " ".join(process.cmdline()) for process in tree)
        for process in tree:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGUSR1)
        asked = subprocess.run(
            [sys.executable, "-c", RESOURCES, address], env=environment, stdout=subprocess.PIPE,
            text=True, timeout=LIMIT_S, check=True,
        )  # fmt: skip
        assert asked.stdout.split() == ["1.0", "3.0"]
        head.stdin.close()
        assert head.wait(LIMIT_S) == 0
    assert not folder.exists()
    deadline = time.monotonic() + LIMIT_S
    while any(process.is_running() for process in tree):
        assert time.monotonic() < deadline
        time.sleep(0.1)


RESOURCES = (
    "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level=40); "
    "has = ray.cluster_resources(); print(has['CPU'], has['GPU'])"
)
