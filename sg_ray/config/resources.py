"""What one trial takes of a machine."""

from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, ValidationInfo, field_validator, model_validator

from sg_ray.config.hardware import this_machine
from sg_ray.setting_types import MAX_SEEDS, StrictModel

MAX_MACHINES = 100_000
"""More workers, or CPUs or GPUs of one, than any cluster has: a typo."""

MIN_SHARE = 0.0001
"""Of a CPU or GPU: Ray counts in units of it, and takes less for none."""

MAX_STACKED = 8
"""Seeds in a stack, unless a setting says how many: more would gain little."""

AUTO = "auto"
"""The value that stands for what the hardware suggests."""


class Resources(StrictModel):
    """What one trial takes. ``cpus`` and ``gpus`` are per worker; ``gpus`` may be a fraction.

    ``auto`` asks the machine that reads the experiment: ``gpus`` is 1 if it has a GPU, else 0, and
    ``cpus`` is what goes with that GPU (hardware.py). Behind a driver without a GPU, such
    as the CPU head of a cluster, say the numbers.
    """

    gpus: float = Field(default=0.0, ge=0, le=MAX_MACHINES)
    """GPUs a worker. A fraction such as 0.25 lets four trials share one, each with a quarter of its
    memory. ``auto``: 1 if this machine has a GPU, else 0."""
    cpus: float = Field(default=1.0, ge=MIN_SHARE, le=MAX_MACHINES)
    """CPUs a worker: its threads, and what Ray counts to see how many trials fit at once.
    ``auto``: what goes with ``gpus`` on this machine."""
    num_workers: int = Field(default=1, ge=1, le=MAX_MACHINES)
    """Workers that train one trial together, each on its own part of every batch. Raise it if
    one trial on one GPU takes too long, not to run more trials."""
    min_workers: int | None = Field(default=None, ge=1, le=MAX_MACHINES)
    """With as few workers a trial may start, or go on when machines are taken away. None: it
    waits for all of them. Lower it on machines that come and go."""

    stack_seeds: Literal["auto", "on", "off"] | Annotated[int, Field(ge=2, le=MAX_SEEDS)] = "off"
    """Whether seeds of one configuration train as one stacked model, where the family can: on a
    GPU eight small models then take about as long as two. ``on``, or how many at most (on: 8);
    ``auto``: where a short measurement on the device says that it pays. Each seed keeps its own
    record, and equals the same trial alone up to rounding."""

    @field_validator("gpus", mode="before")
    @classmethod
    def _auto_gpus(cls, value: Any) -> Any:
        return float(torch.cuda.is_available()) if value == AUTO else value

    @field_validator("cpus", mode="before")
    @classmethod
    def _auto_cpus(cls, value: Any, info: ValidationInfo) -> Any:
        """``gpus`` is known here because its field comes first."""
        return this_machine(info.data.get("gpus", 0)).cpus if value == AUTO else value

    @property
    def num_threads(self) -> int:
        """CPU threads of one worker."""
        return max(1, int(self.cpus))

    @property
    def max_stacked(self) -> int:
        """How many seeds train as one at most; 1: each by itself."""
        if self.is_group or self.stack_seeds == "off":
            return 1
        return self.stack_seeds if isinstance(self.stack_seeds, int) else MAX_STACKED

    @property
    def is_group(self) -> bool:
        """Whether several workers train a trial together."""
        return self.num_workers > 1

    @model_validator(mode="after")
    def _whole_gpus_when_several(self) -> Self:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus above 1 must be whole, got {self.gpus}")
        if 0 < self.gpus < MIN_SHARE:
            raise ValueError(f"gpus must be 0 or at least {MIN_SHARE}, got {self.gpus}")
        return self

    @model_validator(mode="after")
    def _min_not_above_max(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.num_workers:
            raise ValueError(f"min_workers {self.min_workers} is above num_workers")
        return self
