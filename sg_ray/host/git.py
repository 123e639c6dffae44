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
    """Return what git prints about ``folder``; None if it fails.

    Of the programs that a repository's own configuration names it runs no monitor, but filters,
    such as git-lfs, as every ``git status`` does: without them a fresh clone would count as
    changed. That git itself started this process, as for one of its hooks, makes no difference.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command,
            env={**own, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return os.fsdecode(done.stdout).strip()
