"""Small trainings of every neural family on a device, from features that nobody parsed.

As a script it trains on a share of the device, beside others that do::

    python training_by_device.py DEVICE FAMILY FOLDER SHARE
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from made_up_features import made_up_features
from small_set import small_branch, small_config

from sg_ray.models.families import FAMILIES
from sg_ray.models.family import Inputs, NeuralFamily
from sg_ray.training.compute import make_compute
from sg_ray.training.loop import EpochResult, Interrupted, ShouldStop, make_training, never
from sg_ray.training.seeding import Seeds, deterministic, torch_stream
from sg_ray.training.shared_gpu import bound_memory

NEURAL = ("transformer", "gnn", "fusion")
SIZES = {"train": 40, "valid": 20, "test": 12}
STEPS_PER_EPOCH = 5


def start(
    family_name: str,
    device: torch.device,
    folder: Path,
    should_stop: ShouldStop = never,
    sizes: dict[str, int] = SIZES,
    **settings: Any,
) -> Iterator[EpochResult]:
    """Train two epochs of five steps, or as ``settings`` say, from where ``folder`` is."""
    deterministic(threads=1)
    family = FAMILIES[family_name]
    assert isinstance(family, NeuralFamily)
    given = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, **settings}
    config = small_config(family_name, **given)
    branches = {name: small_branch(name, device) for name in family.branches}
    features = made_up_features(sizes, *family.feature_specs(config))
    inputs = Inputs(features, branches, device=device)
    with torch_stream(1, "init"):
        model = family.build(config, inputs)
    return make_training(
        model,
        family.split_data(config, inputs, "train"),
        family.split_data(config, inputs, "valid"),
        config,
        seeds=Seeds(1),
        objective="val_roc_auc",
        folder=folder,
        identity={},
        compute=make_compute(config, device),
    ).epochs(should_stop)


def stopped_after(num_steps: int) -> ShouldStop:
    """Say stop after this many steps."""
    left = iter(range(num_steps - 1, -1, -1))
    return lambda: next(left) == 0


def train_in_two(family_name: str, device: torch.device, folder: Path, num_steps: int) -> None:
    """Train, stop after some steps, and go on from the position."""
    try:
        list(start(family_name, device, folder, stopped_after(num_steps)))
    except Interrupted:
        list(start(family_name, device, folder))
        return
    raise AssertionError("nothing was interrupted")


if __name__ == "__main__":
    _device = torch.device(sys.argv[1])
    bound_memory(_device, float(sys.argv[4]))
    list(start(sys.argv[2], _device, Path(sys.argv[3])))
