"""Where the limits of this process's control groups are written, in both versions of cgroups.

A limit holds for everything below it, so those of the enclosing groups count too. Which of them a
process can see depends on the container: with a namespace of its own the group's path is ``/``,
without one the path is the host's and only the part below the mount is there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_VERSION_2 = "cgroup2"
_VERSION_1 = "cgroup"


@dataclass(frozen=True)
class _Mount:
    """A hierarchy of groups: ``top`` is the group that is seen at ``folder``."""

    folder: Path
    top: PurePosixPath
    version: str
    controllers: frozenset[str]


def group_folders(controller: str, root: Path = Path("/")) -> Iterator[tuple[int, Path]]:
    """Yield (cgroups' version, folder) of this process's groups that govern ``controller``.

    ``controller`` is "cpu" or "memory". From each group outwards; folders that this process cannot
    see are left out. ``root`` is the file system to look in.
    """
    paths = _own_paths(root)
    for mount in _mounts(root):
        if mount.version == _VERSION_2:
            yield from ((2, folder) for folder in _outwards(mount, paths.get("")))
        elif controller in mount.controllers:
            yield from ((1, folder) for folder in _outwards(mount, paths.get(controller)))


def read_words(path: Path) -> list[str]:
    """Return the words in a limit's file; none if it cannot be read."""
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return []


def _own_paths(root: Path) -> dict[str, PurePosixPath]:
    """Return the process's group in each hierarchy, by controller; "" is that of version 2."""
    found: dict[str, PurePosixPath] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if separator:
            found.update(dict.fromkeys(controllers.split(","), PurePosixPath(path)))
    return found


def _mounts(root: Path) -> Iterator[_Mount]:
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or not kind or kind[0] not in (_VERSION_1, _VERSION_2):
            continue
        top, folder = fields[3], root / fields[4].lstrip("/")
        controllers = frozenset(kind[2].split(",")) if len(kind) > 2 else frozenset[str]()
        yield _Mount(folder, PurePosixPath(top), kind[0], controllers)


def _outwards(mount: _Mount, own: PurePosixPath | None) -> Iterator[Path]:
    """Yield the folders from a process's group up to the mount's; the mount's alone if unseen."""
    below = PurePosixPath()
    if own is not None and own.is_relative_to(mount.top) and ".." not in own.parts:
        below = own.relative_to(mount.top)
    for part in (below, *below.parents):
        folder = mount.folder / part
        if folder.is_dir():
            yield folder


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux, or /proc is hidden
        return []
