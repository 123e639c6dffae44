"""A trial that is given a part of a GPU has that part, whoever runs beside it.

CUDA is played: that the share reaches torch, and is given back, is all that a CPU can show.
"""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sg_ray.errors import InfrastructureError
from sg_ray.training.fallbacks import PieceTooLarge, guard_memory
from sg_ray.training.shared_gpu import MemoryAtFault, bound_memory, mps_is_on, release_memory

GIB = 2**30
CUDA = torch.device("cuda")


@pytest.fixture
def bounds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: found.append(share)
    )
    return found


def on_a_gpu(monkeypatch: pytest.MonkeyPatch, memory_gib: int) -> None:
    gpu = SimpleNamespace(total_memory=memory_gib * GIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)


@pytest.mark.parametrize("memory_gib", [4, 16, 80, 144])
@pytest.mark.parametrize("gpus", [0.5, 0.25, 0.2, 0.125])
def test_all_shares_of_a_gpu_fit_on_it_together(
    gpus: float, memory_gib: int, bounds: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_gpu(monkeypatch, memory_gib)
    bound_memory(CUDA, gpus)
    num_beside = int(1 / gpus)
    (share,) = bounds
    contexts_gib = num_beside * 600 / 1024
    assert gpus / 2 <= share < gpus
    assert num_beside * share * memory_gib + contexts_gib <= memory_gib or share == gpus / 2


def test_a_whole_gpu_has_no_bound_and_the_cpu_none_to_set(bounds: list[float]) -> None:
    bound_memory(CUDA, 1)
    bound_memory(CUDA, 4)
    assert bounds == [1.0, 1.0]
    bound_memory(torch.device("cpu"), 0)
    assert bounds == [1.0, 1.0]


def test_what_has_ended_holds_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    release_memory()
    assert emptied == []  # a process without CUDA does not start it for that
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    release_memory()
    assert emptied == [True]


FULL = (
    "CUDA out of memory. Tried to allocate {wanted}. GPU 0 has a total capacity of 79.11 GiB of "
    "which 15.94 MiB is free. Process 7 has 60.00 GiB memory in use."
)


@pytest.mark.parametrize(
    ("reserved_gib", "wanted_gib", "fraction", "is_own"),
    [
        (15.0, 2.0, 0.2, True),  # it would be 17 of 16 GiB
        (13.0, 2.0, 0.2, False),
        (0.0, 0.02, 0.2, False),
        (79.0, 0.75, 1.0, True),  # of a whole GPU, a context is not torch's to give
        (20.0, 2.0, 1.0, False),
    ],
)
def test_memory_that_a_neighbour_took_is_told_from_an_own_peak(
    reserved_gib: float, wanted_gib: float, fraction: float, is_own: bool
) -> None:
    wanted, reserved = int(wanted_gib * GIB), int(reserved_gib * GIB)
    at_fault = MemoryAtFault(wanted, reserved, 80 * GIB, fraction)
    assert at_fault.is_a_neighbours is not is_own


def run_out(wanted: str) -> None:
    with guard_memory(np.array([3, 5]), padded=False):
        raise torch.OutOfMemoryError(FULL.format(wanted=wanted))


def test_only_an_own_peak_is_mended_by_smaller_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_gpu(monkeypatch, 80)
    played: dict[str, Callable[..., object]] = {
        "is_initialized": lambda: True,
        "current_device": lambda: 0,
        "memory_reserved": lambda: 15 * GIB,
        "get_per_process_memory_fraction": lambda: 0.2,
    }
    for name, answer in played.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    with pytest.raises(PieceTooLarge):
        run_out("2.00 GiB")
    with pytest.raises(InfrastructureError, match=r"holds 15,360 MB of its 16,384 MB"):
        run_out("512.00 MiB")


def test_memory_of_the_machine_itself_is_nobodys_share() -> None:
    with pytest.raises(PieceTooLarge):
        run_out("512.00 MiB")


def test_mps_is_seen_where_its_daemon_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    assert not mps_is_on()
    (tmp_path / "control").touch()  # left by something else
    assert not mps_is_on()
    (tmp_path / "control").unlink()
    monkeypatch.chdir(tmp_path)  # paths of sockets are short
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind("control")
        assert mps_is_on()
    (tmp_path / "control").unlink()
    os.mkfifo(tmp_path / "control")
    assert mps_is_on()


@pytest.mark.gpu
def test_a_neighbours_memory_is_not_taken_for_an_own_peak_by_cuda_itself() -> None:
    """This process takes what another would have taken, outside of its own share."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    free, total = torch.cuda.mem_get_info()
    if free < total - GIB:
        pytest.skip("somebody else uses this GPU")
    taken = torch.cuda.caching_allocator_alloc(free - GIB)  # what a neighbour holds
    try:
        with pytest.raises(torch.OutOfMemoryError) as told:
            torch.empty(2 * GIB, dtype=torch.uint8, device="cuda")
        memory = MemoryAtFault.now(told.value)
    finally:
        torch.cuda.caching_allocator_delete(taken)
        torch.cuda.empty_cache()
    assert memory is not None
    assert memory.wanted == 2 * GIB
    assert not memory.is_a_neighbours  # all of it was this process's
    seen_from_beside = MemoryAtFault(memory.wanted, 0, memory.total, 0.5)
    assert seen_from_beside.is_a_neighbours


@pytest.mark.gpu
def test_a_process_gets_no_more_than_its_share_of_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    bound_memory(CUDA, 0.25)
    try:
        _, total = torch.cuda.mem_get_info()
        with pytest.raises(torch.OutOfMemoryError) as told:
            torch.empty(total // 3, dtype=torch.uint8, device="cuda")
        memory = MemoryAtFault.now(told.value)
        assert memory is not None
        assert not memory.is_a_neighbours
    finally:
        bound_memory(CUDA, 1)
