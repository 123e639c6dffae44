"""Where a sweep's numbers come from: the command, the commits, every installed package."""

import shlex
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePath

from pydantic import BaseModel, ConfigDict

from sg_ray.files import write_json
from sg_ray.host.git import Checkout, checkout_around, checkout_of_sources
from sg_ray.host.packages import installed_packages, packages_hash
from sg_ray.redaction import redact_words
from sg_ray.sweep_folder import SweepFolder

_PACKAGE = Path(__file__).parents[1]
_MAIN_JOB = _PACKAGE.parent.resolve() / "experiments" / "sweep.py"


class Commit(BaseModel):
    """A commit of a git repository; "dirty" if its files had been changed since."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    commit: str
    is_dirty: bool

    def __str__(self) -> str:
        return f"{self.commit}, changed since" if self.is_dirty else self.commit


class Origin(BaseModel):
    """What the driver of a trial was started with, and from which sources."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    command: str
    """The line that was typed, its secrets and the home folder's name taken out. Of a program that
    is not ours only the name: what its words mean, nobody here knows."""
    code: Commit | None
    """Of sg-ray itself; None if it was installed without its repository."""
    project: Commit | None
    """Of the repository around the working folder, if that is another one."""


@lru_cache(maxsize=1)
def origin_of_this_process() -> Origin:
    """Return where this process's results come from, as it was when that was last looked up."""
    code = checkout_of_sources(_PACKAGE)
    project = checkout_around(Path.cwd())
    if code is not None and project is not None and code.root == project.root:
        project = None
    return Origin(
        command=_command(sys.orig_argv, sys.argv[0] if sys.argv else ""),
        code=_commit(code),
        project=_commit(project),
    )


def look_up_origin() -> Origin:
    """Look up anew where results come from: a notebook may start several sweeps, hours apart."""
    origin_of_this_process.cache_clear()
    return origin_of_this_process()


def note_packages(folder: SweepFolder) -> None:
    """Write which packages are installed here, under the name by which records refer to it."""
    path = folder.packages(packages_hash())
    if not path.exists():
        write_json(path, installed_packages())


def _commit(checkout: Checkout | None) -> Commit | None:
    if checkout is None:
        return None
    return Commit(commit=checkout.commit, is_dirty=checkout.is_dirty)


def _command(line: Sequence[str], script: str) -> str:
    """Return a process's command line; ``sg-ray ...`` for the console script and the module.

    Our own main job is told in full, too. Of any other program it is interpreter and ``script`` by
    name, or ``-c`` without the code.
    """
    if script and Path(script).resolve() == _MAIN_JOB:
        at = line.index(script) if script in line else len(line)
        return shlex.join(["python", "experiments/sweep.py", *redact_words(line[at + 1 :])])
    for at, word in enumerate(line[:3]):
        is_module = list(line[at : at + 2]) == ["-m", "sg_ray"]
        if is_module or PurePath(word).name == "sg-ray":
            return shlex.join(["sg-ray", *redact_words(line[at + 1 + is_module :])])
    names = [PurePath(word).name for word in (*line[:1], script)]
    return shlex.join(redact_words([name for name in names if name]))
