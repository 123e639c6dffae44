"""Named, independent random streams, and bitwise reproducible arithmetic.

Every draw comes from a stream addressed by (seed, name, position). No stream depends on how often
another was used, so a run that stops anywhere continues with the numbers it would have drawn, and
trials with one seed see one data order whatever their hyperparameters are.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def stream_seed(seed: int, stream: str, *position: int) -> int:
    """Return the 63-bit seed of ``stream`` at ``position``, e.g. (seed, "dropout", step, rank)."""
    address = "/".join([str(seed), stream, *map(str, position)])
    return int.from_bytes(hashlib.sha256(address.encode()).digest()[:8], "big") >> 1


def numpy_stream(seed: int, stream: str, *position: int) -> np.random.Generator:
    """Return a numpy generator at the start of ``stream``."""
    return np.random.default_rng(stream_seed(seed, stream, *position))


@contextmanager
def torch_stream(seed: int, stream: str, *position: int) -> Iterator[None]:
    """Let torch's global generators draw from ``stream``; their former state returns at the end.

    Build a model inside ``with torch_stream(seed, "init"):``.
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(stream_seed(seed, stream, *position))
        yield


def deterministic(threads: int) -> None:
    """Make this process compute the same bits from the same input, with ``threads`` CPU threads.

    Operations without a deterministic version warn instead of failing. The number of threads
    belongs to the setting because it decides the order in which sums are taken.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS demands it
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling is a debugging aid that costs a write of every new tensor; nothing here reads one.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
