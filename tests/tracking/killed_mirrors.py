"""Mirrors a scripted sweep in processes that are killed with SIGKILL, one after the other.

Run as a program: ``killed_mirrors.py SWEEP_DIR URI NUM_KILLS SEED``. The processes are forked from
this one, which has imported MLflow (seconds) but opened nothing. Half of them are killed after a
random time, half right after a random write to the store, before its caller knows of it. Some
lose the position and replay the journal from its start. Prints how many were killed.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import mlflow.tracking
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from scripted_sweep import tell_sweep, write_winner

from sg_ray.records.journal import Journal
from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.mlflow_mirror import MlflowMirror

FILES = LocalArtifactRepository
FILE_WRITES = ("log_artifact", "log_artifacts")

TRIALS = {f"t{n}": ("completed", "pruned", "failed")[n % 3] for n in range(6)}
WRITES = (
    "create_run",
    "log_batch",
    "log_inputs",
    "set_terminated",
    "create_experiment",
    "create_logged_model",
    "log_outputs",
    "finalize_logged_model",
    "create_registered_model",
    "create_model_version",
    "set_logged_model_tags",
    "set_registered_model_alias",
)


def main(sweep_dir: Path, uri: str, num_kills: int, seed: int) -> None:
    generator = random.Random(seed)
    num_killed = 0
    for number in range(num_kills):
        by_write = number % 2 == 0
        writes_left = generator.randint(1, 25) if by_write else 1_000_000
        child = _start(sweep_dir, uri, writes_left)
        if not by_write:
            time.sleep(generator.uniform(0.02, 1.5))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        num_killed += os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        if generator.random() < 0.3:
            (sweep_dir / "tracking.json").unlink(missing_ok=True)
    print(num_killed)
    _, status = os.waitpid(_start(sweep_dir, uri, 1_000_000), 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def _start(sweep_dir: Path, uri: str, writes_left: int) -> int:
    child = os.fork()
    if child == 0:
        _die_after(writes_left)
        os._exit(_mirror(sweep_dir, uri))
    return child


def _mirror(sweep_dir: Path, uri: str) -> int:
    write_winner(sweep_dir, "t0")
    mirror = MlflowMirror(SweepFolder(sweep_dir), uri, "tiny")
    journal = Journal(sweep_dir / "events.jsonl", listeners=(lambda _: mirror.sync(),))
    tell_sweep(journal, sweep_dir, TRIALS)
    result = mirror.close()
    return int(result.num_pending > 0 or result.error is not None)


def _die_after(num_writes: int) -> None:
    client = mlflow.tracking.MlflowClient
    left = num_writes

    def deadly(write):
        def wrapped(*args, **kwargs):
            nonlocal left
            answer = write(*args, **kwargs)
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return wrapped

    deadly_ones = [*((client, name) for name in WRITES), *((FILES, name) for name in FILE_WRITES)]
    for owner, name in deadly_ones:
        setattr(owner, name, deadly(getattr(owner, name)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
