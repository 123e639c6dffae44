"""Handing a batch script over to SLURM."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from sg_ray.errors import InputError


def submit(script: Path, arguments: Sequence[str] = ()) -> str:
    """Submit a script with its ``arguments`` by sbatch.

    Return what that says, such as ``Submitted batch job 12``. Raises InputError if there is no
    sbatch here, or if it refuses the script.
    """
    if shutil.which("sbatch") is None:
        raise InputError(
            f"--submit: there is no sbatch on this machine. {script} is written: submit it where "
            "SLURM is, with sbatch."
        )
    done = subprocess.run(
        ["sbatch", "--", str(script), *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise InputError(
            f"sbatch refuses {script}: {done.stderr.strip() or f'exit code {done.returncode}'}"
        )
    return done.stdout.strip()
