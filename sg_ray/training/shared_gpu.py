"""A GPU that several processes share: each has its part of the memory, whoever runs beside it.

Whether their kernels run side by side is NVIDIA's MPS, which the user starts on a machine: what
CUDA finds running, each process uses by itself. Which part of the multiprocessors one may use
(CUDA_MPS_ACTIVE_THREAD_PERCENTAGE) is left to the user as well: libraries choose their kernels, and
with them the last bits, by how many they see.
"""

import gc
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from sg_ray.errors import InfrastructureError

_CONTEXT_BYTES = 600 * 2**20
"""What a process's CUDA context and loaded kernels take of a GPU."""
_MPS_FOLDER = "/tmp/nvidia-mps"
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_TRIED = re.compile(r"Tried to allocate (\d+(?:\.\d+)?) (bytes|KiB|MiB|GiB)")


def bound_memory(device: torch.device, gpus: float) -> None:
    """Let this process take no more of the GPU's memory than the share that it was given.

    Without a bound a neighbour's peak would be this trial's out-of-memory, which it mends by
    smaller pieces: its numbers would depend on who ran beside it. What each process takes outside
    of torch's sight is set apart first.
    """
    if device.type != "cuda":
        return
    fraction = 1.0
    if gpus < 1:
        total = torch.cuda.get_device_properties(device).total_memory
        fraction = gpus * max(0.5, 1 - int(1 / gpus) * _CONTEXT_BYTES / total)
    torch.cuda.set_per_process_memory_fraction(fraction, device)


def release_memory() -> None:
    """Give back what a trial that has ended held of a GPU: others there may need it."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        gc.collect()  # a model in a cycle of references would keep its part
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class MemoryAtFault:
    """What this process had of a GPU's memory when it got no more, in bytes."""

    wanted: int
    reserved: int
    """What torch holds here, in use or in its cache."""
    total: int
    fraction: float
    """The part of the GPU that ``bound_memory`` has given to this process."""

    @classmethod
    def now(cls, error: torch.OutOfMemoryError) -> "MemoryAtFault | None":
        """Return it, of the current GPU; None if the error is not one of CUDA's allocator."""
        found = _TRIED.search(str(error))
        if found is None or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            return None
        return cls(
            int(float(found[1]) * _UNITS[found[2]]),
            torch.cuda.memory_reserved(),
            torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory,
            torch.cuda.get_per_process_memory_fraction(),
        )

    @property
    def is_a_neighbours(self) -> bool:
        """Whether this process's own part would have held what it wanted."""
        share = min(self.fraction * self.total, self.total - _CONTEXT_BYTES)
        return self.reserved + self.wanted <= share


def refuse_what_neighbours_took(error: torch.OutOfMemoryError) -> None:
    """Raise InfrastructureError if memory ran out though this process has not used its part up.

    Smaller pieces would mend that, too, and the trial's numbers would be those of its company.
    """
    memory = MemoryAtFault.now(error)
    if memory is None or not memory.is_a_neighbours:
        return
    share_mb, held_mb = memory.fraction * memory.total / 2**20, memory.reserved / 2**20
    raise InfrastructureError(
        f"GPU memory that this trial was given is taken: it holds {held_mb:,.0f} MB of its "
        f"{share_mb:,.0f} MB, and gets no more. Another program uses this GPU (nvidia-smi names "
        "it), or the trials that share it take more beside torch's memory than is set apart: end "
        "the program, or let fewer trials share a GPU (a larger resources.gpus)."
    ) from error


@contextmanager
def telling_neighbours_apart() -> Iterator[None]:
    """Raise InfrastructureError as ``refuse_what_neighbours_took``, whatever ran out of memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        refuse_what_neighbours_took(error)
        raise


def mps_is_on() -> bool:
    """Return whether NVIDIA's MPS daemon is running here, by the socket that it listens at."""
    folder = os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or _MPS_FOLDER
    try:
        mode = Path(folder, "control").stat().st_mode
    except OSError:
        return False
    return stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)
