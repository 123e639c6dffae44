"""The end of a Ray session is not the end of the process."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import gc, sys, threading
from pathlib import Path

import ray

from sg_ray.cluster.session import ray_session


class Cycle:
    def __init__(self):
        self.itself, self.kept = self, ray.put(1)


def shut_down_while_another_thread_collects():
    for _ in range(2):
        threading.Thread(target=gc.collect).start()
    shut_down()


shut_down, ray.shutdown = ray.shutdown, shut_down_while_another_thread_collects
with ray_session("local", log=Path(sys.argv[1]), several_workers=False):
    gc.disable()
    for _ in range(20_000):
        Cycle()
print("went on")
"""


@pytest.mark.slow
def test_references_that_another_thread_frees_while_ray_ends_end_nothing(tmp_path: Path) -> None:
    """Ray ends a process that lets go of an object when its own part of it is gone."""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "ray.log")],
        capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, "went on\n"), ran.stderr[-2000:]
