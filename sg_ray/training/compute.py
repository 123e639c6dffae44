"""How a forward pass is computed: on which device, in which number format, beside which workers."""

import platform
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sg_ray import __version__
from sg_ray.models.family import NeuralConfig, SplitData
from sg_ray.training.batches import Indices
from sg_ray.training.precision import Precision, resolve_precision
from sg_ray.training.workers import ALONE, Workers


@dataclass(frozen=True)
class Compute:
    """This process's device and number format, and the workers it belongs to."""

    device: torch.device
    precision: Precision
    workers: Workers

    def forward(self, model: nn.Module, split: SplitData, indices: Indices) -> Tensor:
        """Return the float32 logits of these samples, shape [B], on the device."""
        batch = {name: self.put(tensor) for name, tensor in split.collate(indices).items()}
        with self.precision.autocast():
            logits: Tensor = model(batch)
        return logits.float()

    def put(self, tensor: Tensor) -> Tensor:
        """Return a CPU tensor on the device; to CUDA by way of pinned memory, without waiting."""
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


def make_compute(config: NeuralConfig, device: torch.device, workers: Workers = ALONE) -> Compute:
    """Return the Compute of ``config``. Raises InputError for a format the device cannot do."""
    return Compute(device, resolve_precision(config.precision, device), workers)


def environment(compute: Compute) -> dict[str, Any]:
    """Return what the numbers depend on besides the settings."""
    device = compute.device
    is_cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_cuda else device.type,
        "precision": compute.precision.name,
        "num_workers": compute.workers.world_size,
        "num_threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of what computes."""
    return {
        "sg_ray": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
