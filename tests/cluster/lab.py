"""What a lab is: several machines, made of one, on which a sweep is run and disturbed.

Each module in ``labs/`` is one. It has

- ``TITLE``: what it tries, in a few words;
- ``missing() -> str | None``: what this machine lacks for it; None if nothing;
- ``run(folder, parts) -> Iterator[Line]``: a line for each thing that was tried, as soon as it is
  known, of some parts or (none named) of all. ``folder`` is empty and its own. Whatever was
  started is ended, also if it raises;
- ``PARTS``: the names of what can be run alone, in order; empty if nothing can.
"""

import importlib
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import labs

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "sweep"))  # labs run and compare sweeps as tests there do


@dataclass(frozen=True)
class Line:
    """One thing that was tried: ``result`` says what came of it, with its figures."""

    what: str
    result: str
    is_ok: bool


class Lab(Protocol):
    """A module of ``labs/``."""

    TITLE: str
    PARTS: tuple[str, ...]

    def missing(self) -> str | None:
        """Return what this machine lacks."""

    def run(self, folder: Path, parts: Collection[str] = ()) -> Iterator[Line]:
        """Try it, or some of its parts."""


def all_labs() -> dict[str, Lab]:
    """Return the labs by name, in alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules(labs.__path__))
    return {name: cast(Lab, importlib.import_module(f"labs.{name}")) for name in names}


def missing_programs(*names: str) -> str | None:
    """Return which of these programs are not installed; None if all are."""
    lacking = [name for name in names if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else None


def missing_namespaces() -> str | None:
    """Return why hosts of our own cannot be made here; None if they can."""
    if lacking := missing_programs("ip", "unshare"):
        return lacking
    made = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False)
    return None if made.returncode == 0 else "network namespaces may not be made (not root?)"
