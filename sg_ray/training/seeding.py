"""Named, independent random streams, and bitwise reproducible arithmetic.

Every draw comes from a stream addressed by (seed, name, position). No stream depends on how often
another was used, so a run that stops anywhere continues with the numbers it would have drawn, and
trials with one seed see one data order whatever their hyperparameters are. A trial may take a
stream from another seed than its own, to vary it alone.
"""

import hashlib
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch

Determinism = Literal["strict", "weak", "off"]
Stream = Literal["init", "order", "dropout"]
"""What a training draws: its first weights, the order of its samples, what dropout drops."""

STREAMS: tuple[Stream, ...] = get_args(Stream)

CUBLAS_WORKSPACES = (":4096:8", ":16:8")
"""The settings with which cuBLAS is deterministic; torch refuses others."""

_REFUSAL = re.compile(r"(?P<operation>\S+)(?: .*)? does not have a deterministic implementation")
"""How torch begins what it says about such an operation, as an error or as a warning."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seeds:
    """The seed of a training, and those of the streams that have one of their own in its place."""

    seed: int
    streams: Mapping[Stream, int] = field(default_factory=dict)

    @property
    def init(self) -> int:
        """Of the first weights."""
        return self._of("init")

    @property
    def order(self) -> int:
        """Of the order of the samples."""
        return self._of("order")

    @property
    def dropout(self) -> int:
        """Of what dropout drops."""
        return self._of("dropout")

    def _of(self, stream: Stream) -> int:
        return self.streams.get(stream, self.seed)


def seed_name(seed: int, streams: Mapping[Stream, int]) -> str:
    """Return e.g. ``seed42``, or ``seed42-init7`` where a stream has a seed of its own."""
    own = (f"{stream}{streams[stream]}" for stream in STREAMS if stream in streams)
    return "-".join([f"seed{seed}", *own])


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


def deterministic(threads: int, *, strict: bool = True) -> None:
    """Make this process compute the same bits from the same input, with ``threads`` CPU threads.

    An operation without a deterministic version raises RuntimeError if ``strict``; else it is
    allowed, and the others stay deterministic. The number of threads belongs to the setting
    because it decides the order in which sums are taken.
    """
    if os.environ.get("CUBLAS_WORKSPACE_CONFIG") not in CUBLAS_WORKSPACES:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = CUBLAS_WORKSPACES[0]
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False  # it picks kernels by their speed of the moment
    # Many kernels add up in the order in which their threads come: the last bits differ from run to
    # run, and after an epoch the metrics do. Without this no resumed trial equals one that was not.
    torch.use_deterministic_algorithms(True)
    if not strict:
        allow_nondeterminism()
    # Filling is a debugging aid that costs a write of every new tensor; nothing here reads one.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextmanager
def arithmetic_as_before() -> Iterator[None]:
    """Put back at the end what ``deterministic`` changes: the process may be a notebook's."""
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    is_on = torch.are_deterministic_algorithms_enabled()
    is_weak = torch.is_deterministic_algorithms_warn_only_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark
        torch.use_deterministic_algorithms(is_on, warn_only=is_weak)
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]


def determinism() -> Determinism:
    """Return the mode this process is in; "off" if ``deterministic`` was never called."""
    if not torch.are_deterministic_algorithms_enabled():
        return "off"
    return "weak" if torch.is_deterministic_algorithms_warn_only_enabled() else "strict"


def nondeterministic_operation(error: RuntimeError) -> str | None:
    """Return the operation that the strict mode refused with ``error``; None for other errors."""
    found = _REFUSAL.match(str(error))
    return found["operation"] if found and determinism() == "strict" else None


def allow_nondeterminism(operation: str | None = None) -> None:
    """Go over from the strict mode to the weak one; log which ``operation`` asked for it."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    # torch would warn at every place; it is said once below and stands in the metadata.
    warnings.filterwarnings("ignore", message=_REFUSAL.pattern)
    if operation is not None:
        _LOG.warning("%s has no deterministic version: bits may differ between runs", operation)
