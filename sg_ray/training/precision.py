"""Number formats of the forward pass (automatic mixed precision)."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

from sg_ray.errors import InputError

FormatName = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[FormatName, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """The number format of forward passes on one device. Weights stay float32."""

    name: FormatName
    device_type: str

    @property
    def resolution(self) -> float:
        """Relative distance of neighbouring numbers, at most."""
        return torch.finfo(DTYPES.get(self.name, torch.float32)).eps

    def autocast(self) -> AbstractContextManager[None]:
        """Return a new context for one forward pass."""
        return torch.autocast(
            self.device_type, dtype=DTYPES.get(self.name), enabled=self.name != "fp32"
        )

    def grad_scaler(self) -> torch.amp.GradScaler:
        """Return a loss scaler, which does nothing unless the format is fp16.

        bfloat16 has the exponent range of float32, so its gradients do not underflow.
        """
        return torch.amp.GradScaler(self.device_type, enabled=self.name == "fp16")


def resolve_precision(
    requested: Literal["auto", "fp32", "bf16", "fp16"], device: torch.device
) -> Precision:
    """Return the format to use: "auto" is bf16 where CUDA has it, else fp16; fp32 on CPU.

    Raises InputError for fp16 on a device other than CUDA.
    """
    if requested == "fp16" and device.type != "cuda":
        raise InputError(
            f"precision: fp16 needs a CUDA device, this trial runs on {device.type}. "
            "Use auto, fp32 or bf16."
        )
    if requested != "auto":
        return Precision(requested, device.type)
    if device.type != "cuda":
        return Precision("fp32", device.type)
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Precision("bf16" if has_bf16 else "fp16", device.type)
