"""Which commit lies in a folder, as git tells; nothing where there is no git or no repository."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Checkout:
    """A repository, and whether its files are no more those of its commit."""

    root: Path
    commit: str
    is_dirty: bool


def checkout_of_sources(folder: Path) -> Checkout | None:
    """Return the repository that has the sources of ``folder``; None if they are not its own.

    Those of an installed package may lie within somebody's repository, and be none of it. New files
    count as changes, too.
    """
    if not _git(folder, "ls-files", "--", "."):
        return None
    return _checkout(folder, "--untracked-files=normal", "--", ".")


def checkout_around(folder: Path) -> Checkout | None:
    """Return the repository that ``folder`` is in; new files, such as results, are no changes."""
    return _checkout(folder, "--untracked-files=no")


def _checkout(folder: Path, *status_of: str) -> Checkout | None:
    root = _git(folder, "rev-parse", "--show-toplevel")
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    changes = _git(folder, "status", "--porcelain", *status_of)
    if not root or not commit or changes is None:
        return None
    return Checkout(Path(root), commit, bool(changes))


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints; None if it fails. It runs no program that the repository names."""
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return os.fsdecode(done.stdout).strip()
