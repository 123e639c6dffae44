"""A trial that is given a part of a GPU has that part, whoever runs beside it.

CUDA is played: that the share reaches torch, and is given back, is all that a CPU can show.
"""

from types import SimpleNamespace

import pytest
import torch

from sg_ray.training.compute import bound_memory, release_memory

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
