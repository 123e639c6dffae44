"""Every family trains on every device that is here: the same bits again, whatever happens."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from devices import on_cuda, on_every_device
from training_by_device import NEURAL, STEPS_PER_EPOCH, start, train_in_two

from sg_ray.models.families import FAMILIES

TESTS = Path(__file__).parents[1]
SCRIPT = Path(__file__).with_name("training_by_device.py")
MIB = 2**20

all_families = pytest.mark.parametrize("family", NEURAL)


@pytest.fixture(autouse=True)
def mode_as_before() -> Iterator[None]:
    """The process's determinism as it was, after a test."""
    is_on = torch.are_deterministic_algorithms_enabled()
    is_weak = torch.is_deterministic_algorithms_warn_only_enabled()
    yield
    torch.use_deterministic_algorithms(is_on, warn_only=is_weak)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    last = torch.load(folder / "last.pt", weights_only=True, map_location="cpu")
    return dict(last["model_state_dict"])


def metadata_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "training_metadata.json").read_text())
    return found


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights_of(one), weights_of(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_no_family_is_left_out() -> None:
    assert set(NEURAL) == set(FAMILIES) - {"lexical"}


@on_every_device
@all_families
def test_the_same_seed_gives_the_same_bits(
    family: str, device: torch.device, tmp_path: Path
) -> None:
    for name in ("one", "other"):
        assert len(list(start(family, device, tmp_path / name))) == 2
    assert_same_weights(tmp_path / "one", tmp_path / "other")
    assert metadata_of(tmp_path / "one")["environment"]["determinism"] == "strict"


@on_every_device
@all_families
def test_a_stop_inside_an_epoch_changes_nothing(
    family: str, device: torch.device, tmp_path: Path
) -> None:
    list(start(family, device, tmp_path / "straight"))
    train_in_two(family, device, tmp_path / "stopped", num_steps=STEPS_PER_EPOCH + 2)
    assert_same_weights(tmp_path / "straight", tmp_path / "stopped")


@on_every_device
@all_families
def test_bf16_trains_weights_of_fp32(family: str, device: torch.device, tmp_path: Path) -> None:
    *_, last = start(family, device, tmp_path, precision="bf16")
    assert 0 < last.metrics["train_loss"] < 2
    assert metadata_of(tmp_path)["environment"]["precision"] == "bf16"
    floats = [tensor for tensor in weights_of(tmp_path).values() if tensor.is_floating_point()]
    assert {tensor.dtype for tensor in floats} == {torch.float32}


@on_cuda
@all_families
def test_fp16_goes_through_the_scaler(family: str, device: torch.device, tmp_path: Path) -> None:
    list(start(family, device, tmp_path / "straight", precision="fp16"))
    assert metadata_of(tmp_path / "straight")["environment"]["precision"] == "fp16"
    last = torch.load(tmp_path / "straight" / "last.pt", weights_only=True, map_location="cpu")
    assert last["scaler_state_dict"]["scale"] > 1
    list(start(family, device, tmp_path / "again", precision="fp16"))
    assert_same_weights(tmp_path / "straight", tmp_path / "again")


@on_cuda
@pytest.mark.parametrize("family", ["transformer", "gnn"])
def test_memory_that_really_runs_out_is_backed_off(
    family: str, device: torch.device, tmp_path: Path
) -> None:
    """One batch of everything wants GiBs; what is allowed is less, and the batch stays the same."""
    large = {"hidden_dim": 128, "batch_size": 6_000, "epochs": 1}
    large |= {"max_units_per_micro_batch": 10_000_000, "precision": "fp32"}
    sizes = {"train": 6_000, "valid": 20, "test": 12}
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved(device) + 700 * MIB
    torch.cuda.set_per_process_memory_fraction(allowed / total, device)
    try:
        (tight,) = start(family, device, tmp_path / "tight", sizes=sizes, **large)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        torch.cuda.empty_cache()
    backed_off = metadata_of(tmp_path / "tight")["environment"]["max_units_per_micro_batch"]
    assert backed_off < 10_000_000
    large["max_units_per_micro_batch"] = backed_off
    (roomy,) = start(family, device, tmp_path / "roomy", sizes=sizes, **large)
    assert tight.metrics["train_loss"] == pytest.approx(roomy.metrics["train_loss"], abs=1e-4)


@pytest.mark.slow
@on_every_device
@pytest.mark.parametrize("family", ["gnn"])
def test_two_share_a_device(family: str, device: torch.device, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(device), family, str(tmp_path / name), "0.5"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "other")
    ]
    for process in processes:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    assert_same_weights(tmp_path / "one", tmp_path / "other")
