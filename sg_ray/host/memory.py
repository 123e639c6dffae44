"""How much memory this process may use: control groups and SLURM may leave it a part."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sg_ray.host import slurm_limits
from sg_ray.host.cgroups import group_folders, read_words

_MIB = 2**20
_LIMIT_FILES = {1: "memory.limit_in_bytes", 2: "memory.max"}


@dataclass(frozen=True)
class Memory:
    """The machine's memory in bytes, and how much of it this process may use."""

    usable_bytes: int
    present_bytes: int

    @property
    def is_limited(self) -> bool:
        """True if it may not use all of it."""
        return self.usable_bytes < self.present_bytes


def count_memory(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> Memory:
    """Return the least of the machine's memory, its control groups' limits and SLURM's.

    ``root`` is the file system that holds ``/proc`` and ``/sys``.
    """
    present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [present, *_group_limits(root)]
    job_mb = slurm_limits.memory_mb(environ)
    if job_mb is not None:
        limits.append(job_mb * _MIB)
    return Memory(min(limits), present)


def _group_limits(root: Path) -> Iterator[int]:
    """Yield the limits in bytes. "No limit" is ``max``, or a number no machine has."""
    for version, folder in group_folders("memory", root):
        words = read_words(folder / _LIMIT_FILES[version])
        if len(words) == 1 and words[0].isdigit() and int(words[0]):
            yield int(words[0])
