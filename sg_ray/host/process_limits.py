"""How many more processes and threads this user may start; Linux counts both alike."""

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sg_ray.host.cgroups import group_folders, read_words

_EXEMPT = (1 << 21) | (1 << 24)
"""CAP_SYS_ADMIN and CAP_SYS_RESOURCE: no user limit holds for who has one of them."""


@dataclass(frozen=True)
class Room:
    """How many more may be started, and the name of the limit that says so."""

    num_left: int
    limit: str


def room_for_processes(root: Path = Path("/")) -> Room | None:
    """Return the tightest limit on processes and threads; None if there is none."""
    return min(_rooms(root), key=lambda room: room.num_left, default=None)


def _rooms(root: Path) -> Iterator[Room]:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if allowed != resource.RLIM_INFINITY and not _is_exempt(root):
        yield Room(allowed - _num_running(root, os.getuid()), f"ulimit -u {allowed}")
    for _, folder in group_folders("pids", root):
        most, current = read_words(folder / "pids.max"), read_words(folder / "pids.current")
        if most and current and most[0].isdigit() and current[0].isdigit():
            yield Room(int(most[0]) - int(current[0]), f"{folder / 'pids.max'} {most[0]}")


def _is_exempt(root: Path) -> bool:
    effective = _status(root / "proc/self/status").get("CapEff", "0")
    return os.getuid() == 0 or bool(int(effective, 16) & _EXEMPT)


def _num_running(root: Path, uid: int) -> int:
    """Count the threads of a user's processes, as far as they can be seen."""
    entries = (_status(path) for path in (root / "proc").glob("[0-9]*/status"))
    return sum(
        int(entry["Threads"])
        for entry in entries
        if "Threads" in entry and entry.get("Uid", "").split()[:1] == [str(uid)]
    )


def _status(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # it has ended
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
