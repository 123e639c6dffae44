"""How many CPUs this process may use: not always as many as the machine has.

``taskset`` and cpusets leave a process some of them, a container's quota a share of their time, and
a SLURM job what it asked for. Who starts as many workers as the machine has CPUs lets them wait
for each other.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sg_ray.host import slurm_limits
from sg_ray.host.cgroups import group_folders, read_words


@dataclass(frozen=True)
class Cpus:
    """The CPUs of the machine, and how many of them this process may use (at least 1)."""

    num_usable: int
    num_present: int

    def __str__(self) -> str:
        """Return e.g. ``1 CPU (of 2: this process may use 1)``."""
        counted = f"{self.num_usable} CPU{'' if self.num_usable == 1 else 's'}"
        if self.num_usable >= self.num_present:
            return counted
        return f"{counted} (of {self.num_present}: this process may use {self.num_usable})"


def num_cpus() -> int:
    """Return how many CPUs this process may use; at least 1."""
    return count_cpus().num_usable


def count_cpus(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> Cpus:
    """Return the least of affinity, control groups' quotas and SLURM's variables.

    A quota counts in whole CPUs, rounded down: a worker that has half a CPU holds up the others.
    ``root`` is the file system that holds ``/proc`` and ``/sys``.
    """
    num_present = os.cpu_count() or 1
    limits = [_affinity() or num_present, *_quotas(root)]
    job = slurm_limits.num_cpus(environ)
    if job is not None:
        limits.append(job)
    return Cpus(max(1, int(min(limits))), num_present)


def _affinity() -> int | None:
    """Return how many CPUs the process may be scheduled on, which heeds cpusets too."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not Linux
        return None


def _quotas(root: Path) -> Iterator[float]:
    """Yield the CPUs that each enclosing group allows, in CPU seconds a second."""
    for version, folder in group_folders("cpu", root):
        if version == 2:
            words = read_words(folder / "cpu.max")
        else:
            words = read_words(folder / "cpu.cfs_quota_us")
            words += read_words(folder / "cpu.cfs_period_us")
        if len(words) == 2 and all(word.isdigit() and int(word) for word in words):  # not "max", -1
            yield int(words[0]) / int(words[1])
