"""Commands to print that run as printed, from the folder that this process was started in."""

import os
import shlex
import shutil
import sys
from pathlib import Path

GO_ON = "SG_RAY_GO_ON"
"""The variable by which a batch script says how to go on with what it runs."""


def way_on(command: str) -> str:
    """Return how to go on with what is interrupted: by ``command``, unless a script says how."""
    return os.environ.get(GO_ON) or command


def sg_ray_command(*arguments: object) -> str:
    """Return the shell line that runs sg-ray with ``arguments``, each quoted where it must be."""
    return shlex.join([*_program(), *map(str, arguments)])


def runnable(command: str) -> str:
    """Return a line that begins with "sg-ray " as one that runs here."""
    program, _, arguments = command.partition(" ")
    return f"{shlex.join(_program())} {arguments}" if program == "sg-ray" else command


def beside_python(name: str) -> str | None:
    """Return how to call a program of this Python's environment; None if it has no such program.

    That is the bare name where the shell would find the same file by it.
    """
    path = Path(sys.executable).parent / name
    if not path.exists():
        return None
    found = shutil.which(name)
    if found is not None and Path(found).absolute() == path:
        return name
    return str(from_here(path))


def from_here(path: Path) -> Path:
    """Return a path as seen from the working folder, if it lies below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _program() -> list[str]:
    script = beside_python("sg-ray")
    return [sys.executable, "-m", "sg_ray"] if script is None else [script]
