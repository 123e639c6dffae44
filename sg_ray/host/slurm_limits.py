"""What a SLURM job may use, by the variables that it sets."""

import os
import re
from collections.abc import Mapping

_NODE_COUNTS = re.compile(r"(?P<num>[0-9]+)(?:\(x(?P<times>[0-9]+)\))?")
"""An entry of ``8(x2),4``: the first two nodes have 8 CPUs each, the third has 4."""


def num_cpus(environ: Mapping[str, str] = os.environ) -> int | None:
    """Return the CPUs of this task, or of its job on this node; None outside of SLURM."""
    counts = (
        _positive(environ.get("SLURM_CPUS_PER_TASK")),
        _positive(environ.get("SLURM_CPUS_ON_NODE")),
        _on_node(environ.get("SLURM_JOB_CPUS_PER_NODE", ""), environ.get("SLURM_NODEID")),
    )
    return min((count for count in counts if count is not None), default=None)


def memory_mb(environ: Mapping[str, str] = os.environ) -> int | None:
    """Return the memory of the job on this node, in MiB as SLURM counts; None if it is not said."""
    per_node = _positive(environ.get("SLURM_MEM_PER_NODE"))
    if per_node is not None:
        return per_node
    per_cpu = _positive(environ.get("SLURM_MEM_PER_CPU"))
    cpus_on_node = _positive(environ.get("SLURM_CPUS_ON_NODE")) or num_cpus(environ)
    return None if per_cpu is None or cpus_on_node is None else per_cpu * cpus_on_node


def _on_node(counts: str, node: str | None) -> int | None:
    """Return this node's count of e.g. ``8(x2),4``. A batch script runs on the first node."""
    left = int(node) if node is not None and _is_number(node) else 0
    for entry in counts.split(","):
        found = _NODE_COUNTS.fullmatch(entry.strip())
        if found is None:
            return None
        times = int(found["times"] or 1)
        if left < times:
            return _positive(found["num"])
        left -= times
    return None


def _positive(text: str | None) -> int | None:
    """Return a count above 0; None for what is none. 0 is SLURM's word for no limit."""
    if text is None or not _is_number(text):
        return None
    return int(text) or None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
