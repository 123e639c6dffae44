"""Commands that a benchmark runs to their end, and of which it wants to hear only if they fail."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

PATIENCE_S = 300
"""More than any of them takes."""


def run_to_its_end(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    """Run a command in ``folder``. Raises RuntimeError, with the end of its output, if it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}")
