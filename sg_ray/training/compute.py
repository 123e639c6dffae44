"""How a forward pass is computed: on which device, in which number format, beside which workers."""

import platform
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sg_ray.code_version import code_version
from sg_ray.errors import InfrastructureError
from sg_ray.host.packages import packages_hash
from sg_ray.models.family import Batch, NeuralConfig, SplitData
from sg_ray.training.batches import Indices
from sg_ray.training.fallbacks import Fallbacks
from sg_ray.training.precision import Precision, resolve_precision
from sg_ray.training.shared_gpu import mps_is_on
from sg_ray.training.workers import ALONE, Workers
from sg_ray.version import __version__

CPU_INFO = Path("/proc/cpuinfo")

_LARGE_BYTES = 30 << 20
"""Of a block that glibc learns from, which looks at none above 32 MiB."""


@dataclass(frozen=True)
class Compute:
    """This process's device and number format, the workers it belongs to, what it fell back to."""

    device: torch.device
    precision: Precision
    workers: Workers
    fallbacks: Fallbacks

    def forward(self, model: nn.Module, split: SplitData, indices: Indices) -> Tensor:
        """Return the float32 logits of these samples, shape [B], on the device."""
        return self.logits(model, split.collate(indices))

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the float32 logits of a batch, shape [B], on the device."""
        on_device = {name: self.put(tensor) for name, tensor in batch.items()}
        with self.precision.autocast():
            logits: Tensor = model(on_device)
        return logits.float()

    def pinned(self, tensor: Tensor) -> Tensor:
        """Return a CPU tensor in memory from where it goes to the device without a wait."""
        return tensor.pin_memory() if self.device.type == "cuda" else tensor

    def put(self, tensor: Tensor) -> Tensor:
        """Return a tensor on the device; to CUDA by way of pinned memory, without waiting."""
        if tensor.device.type == self.device.type:
            return tensor
        if self.device.type == "cuda":
            return self.pinned(tensor).to(self.device, non_blocking=True)
        return tensor.to(self.device)


def device_for(gpus: float) -> torch.device:
    """Return where a trial that is given ``gpus`` (a share, or several) computes.

    Raises InfrastructureError if torch cannot use them: in silence on the CPU, a trial would take
    days, and other numbers.
    """
    if gpus == 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InfrastructureError(
            f"{platform.node()}: Ray granted a GPU (resources.gpus={gpus:g}) that torch "
            f"{torch.__version__} cannot use: is a CUDA build of torch installed there, and an "
            "NVIDIA driver? To train on the CPU, set resources.gpus=0."
        )
    return torch.device("cuda")


def make_compute(config: NeuralConfig, device: torch.device, workers: Workers = ALONE) -> Compute:
    """Return the Compute of ``config``. Raises InputError for a format the device cannot do."""
    precision = resolve_precision(config.precision, device)
    if device.type == "cpu":
        _keep_freed_memory()
    return Compute(device, precision, workers, Fallbacks(config.max_units_per_micro_batch))


def _keep_freed_memory() -> None:
    """Have the C library keep up to 60 MiB of freed memory for the next step.

    glibc gives the end of its heap back to the system once it is twice as large as the largest
    block that was ever mapped and freed. With small batches that is so in each step, whose memory
    is then zeroed page by page again: 6 to 12 % of a graph network's step. The block is never
    touched.
    """
    torch.empty(_LARGE_BYTES, dtype=torch.uint8)


def environment(device: torch.device, num_threads: int) -> dict[str, Any]:
    """Return the hardware and software that a trial's bits depend on, as plain values.

    ``host`` and ``code_version`` are those of this very process, whoever has planned the trial;
    ``packages`` is the hash of all that is installed (see ``SweepFolder.packages``);
    ``device_name`` is the GPU's name, or on a CPU its model. ``mps``, of a GPU: see ``shared_gpu``.
    """
    is_cuda = device.type == "cuda"
    cpu = cpu_model()
    return {
        "host": platform.node(),
        "code_version": code_version(),
        "packages": packages_hash(),
        **versions(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if is_cuda else None,  # type: ignore[no-untyped-call]
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if is_cuda else cpu,
        "cpu": cpu,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "num_threads": num_threads,
        **({"mps": mps_is_on()} if is_cuda else {}),
    }


def versions() -> dict[str, str]:
    """Return the versions of what computes."""
    return {
        "sg_ray": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


@cache
def cpu_model() -> str:
    """Return the processor's name as Linux knows it, else its architecture."""
    try:
        text = CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    names = re.findall(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return names[0] if names else platform.machine()
