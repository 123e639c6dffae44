"""The rows of the suite that need a GPU; see ``gpu``, which runs them by one command."""

import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from figures import (
    NO_TODAY,
    Figure,
    Goal,
    Measured,
    Skipped,
    at_least,
    print_figures,
    times_better,
)
from gpu_pack import NO_FEATURES, packed_features, read_pack
from gpu_trainings import (
    SMALL_TRAININGS,
    Job,
    Place,
    What,
    codebert_training,
    gnn_training,
    rates_apart,
)
from numpy.typing import NDArray
from plain_trainings import pyg_step, recipe_step
from step_rate import Rate, repeated_rate, wait_for

from sg_ray.errors import InputError

ROOT = Path(__file__).parents[2]
NO_DEVICE = "only a GPU has kernels to profile"


def measure_codebert(today: Path | None) -> Measured:  # noqa: ARG001 - its baselines are recipes
    """The row of the suite."""
    place = _place()
    return [Skipped("all", NO_FEATURES)] if place is None else codebert(place)


def measure_gnn(today: Path | None) -> Measured:
    """The row of the suite."""
    place = _place()
    return [Skipped("all", NO_FEATURES)] if place is None else gnn(place, today)


def measure_seeds(today: Path | None) -> Measured:  # noqa: ARG001 - solo runs of ours
    """The row of the suite."""
    place = _place()
    return [Skipped("all", NO_FEATURES)] if place is None else seeds(place)


def codebert(place: Place) -> Measured:
    """Time ours in bf16, CodeXGLUE's recipe in fp32, and padded bf16 with our batch size."""
    scale, device = place.scale, torch.device(place.device)
    with codebert_training(place) as training:
        ours = training.rate(scale.warm_up, scale.steps)
        lengths = training.train_split.units
        reads_first = bool(getattr(training.build(), "reads_first_tokens", False))
    features = read_pack(place.features, "tokens", "graphs")
    kind, labels = features.kinds["tokens"], features.labels["train"]

    def recipe(batch_size: int, dtype: torch.dtype) -> Rate:
        step = recipe_step(kind, labels, scale.roberta, scale.max_tokens, batch_size, dtype, device)
        return repeated_rate(step, batch_size, scale.warm_up // 2, scale.steps // 2, device)

    fp32 = recipe(scale.encoder_batch // 2, torch.float32)
    bf16 = recipe(scale.encoder_batch, torch.bfloat16)
    flops = training_flops(lengths, *scale.encoder, reads_first=reads_first)
    reached, matmul = flops * ours.samples_per_s / 1e12, _matmul_tflops(scale.matmul_dim, device)
    tokens = f"{lengths.mean() * ours.samples_per_s:,.0f} real tokens/s"
    speed = "samples/s"
    return [
        Figure(
            "CodeXGLUE recipe, fp32, padded", ours.samples_per_s, fp32.samples_per_s, speed,
            times_better(10), "more", note=f"{tokens}; first steps {ours.first_steps_s:.1f} s",
        ),
        Figure(
            "bf16, padded", ours.samples_per_s, bf16.samples_per_s, speed, times_better(2.2),
            "more", floor=ours.samples_per_s * matmul / reached,
        ),
        Figure(
            "bf16 matmul, on real tokens", reached, matmul, "TFLOP/s", times_better(0.34), "more"
        ),
        *_device_figures(ours, at_least(90)),
    ]  # fmt: skip


def gnn(place: Place, today: Path | None) -> Measured:
    """Time ours, today's in a process of its own, and PyG's."""
    scale, device = place.scale, torch.device(place.device)
    ours = gnn_training(place).rate(scale.warm_up, scale.steps)
    figures: list[Figure | Skipped] = []
    if today is None:
        figures.append(Skipped("today", NO_TODAY))
    else:
        job = Job(str(place.features), place.device, place.size)
        (theirs,) = rates_apart([job], today)
        figures.append(_faster("today", ours, theirs.samples_per_s, times_better(5)))
    if importlib.util.find_spec("torch_geometric") is None:
        figures.append(Skipped("PyG RGCNConv", "torch_geometric is not installed"))
    else:
        features = read_pack(place.features, "tokens", "graphs")
        kind = features.kinds["graphs"]
        step = pyg_step(
            dict(kind.splits["train"]), features.labels["train"], dict(kind.meta),
            scale.graph_dim, scale.graph_layers, scale.graph_batch, device,
        )  # fmt: skip
        pyg = repeated_rate(step, scale.graph_batch, scale.warm_up // 2, scale.steps // 2, device)
        figures.append(_faster("PyG RGCNConv", ours, pyg.samples_per_s, times_better(5)))
    return [*figures, *_device_figures(ours, at_least(60))]


def seeds(place: Place) -> Measured:
    """Time one seed alone, several stacked, and as many in processes that share the GPU."""
    scale, number = place.scale, place.scale.num_seeds
    steps = scale.warm_up, scale.steps
    figures: list[Figure | Skipped] = []
    for model, make in SMALL_TRAININGS.items():
        name = f"{number} seeds of {model}"
        training = make(place)
        try:
            stacked = training.stacked_rate(number, *steps)
        except InputError as error:
            figures.append(Skipped(name, str(error)))
            continue
        alone = training.rate(*steps, profiles=False)
        job = Job(
            str(place.features), place.device, place.size, what=cast(What, model), share=1 / number
        )
        apart = sum(rate.samples_per_s for rate in rates_apart([job] * number, ROOT))
        goal = times_better(1 / 3)
        figures += [
            Figure(f"{name}, a step of one", stacked.step_s, alone.step_s, "s", goal),
            Figure(
                f"{name}, {number} processes", stacked.samples_per_s, apart, "samples/s",
                times_better(2), "more",
            ),
        ]  # fmt: skip
    return figures


def workers(place: Place, number: int) -> Measured:
    """Time the graph network on ``number`` workers, with NCCL where each has a GPU, and on none."""
    job = Job(str(place.features), place.device, place.size, world=number)
    group = rates_apart([Job(**{**vars(job), "rank": rank}) for rank in range(number)], ROOT)
    alone = gnn_training(place).rate(place.scale.warm_up, place.scale.steps, profiles=False)
    slowest = min(rate.samples_per_s for rate in group)
    goal = times_better(1 / 1.03) if number == 1 else None
    note = "batches of the same size, divided among the workers"
    return [
        Figure(
            f"{number} workers, none", slowest, alone.samples_per_s, "samples/s", goal, "more",
            note=note,
        )
    ]  # fmt: skip


def training_flops(
    lengths: NDArray[np.int64],
    num_layers: int,
    width: int,
    num_heads: int,  # noqa: ARG001 - the heads divide the width, and so change nothing
    inner: int,
    *,
    reads_first: bool,
) -> float:
    """Return the mean arithmetic of one sample's training step, in FLOP, on its real tokens.

    Matrix products of forward pass (two FLOP for a multiplication and an addition) and backward
    pass (twice as many); no padding, no embeddings, nothing that is computed twice to save memory.
    ``reads_first``: of the last layer only keys and values are needed of all tokens, the rest of
    the first one; what is left out there does not count as done.
    """
    tokens = lengths.astype(np.float64)
    full = tokens * (4 * width**2 + 2 * width * inner) + 2 * tokens**2 * width
    first = tokens * 2 * width**2 + 2 * width**2 + 2 * width * inner + 2 * tokens * width
    last = first if reads_first else full
    multiplications = full * (num_layers - 1) + last + width**2 + width
    return float(6 * multiplications.mean())


def _matmul_tflops(size: int, device: torch.device) -> float:
    """Return the rate of a plain bf16 product of random square matrices."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    wait_for(device)
    begin_s = time.perf_counter()
    for _ in range(10):
        a @ b
    wait_for(device)
    return 10 * 2 * size**3 / (time.perf_counter() - begin_s) / 1e12


def _faster(name: str, ours: Rate, baseline: float, goal: Goal) -> Figure:
    return Figure(name, ours.samples_per_s, baseline, "samples/s", goal, "more")


def _device_figures(ours: Rate, goal: Goal) -> list[Figure | Skipped]:
    """Return how busy the GPU is, and what is launched a step."""
    if ours.busy_share is None or ours.busy_s is None or ours.launches is None:
        return [Skipped("GPU busy", NO_DEVICE), Skipped("launches a step", NO_DEVICE)]
    note = f"{1e3 * ours.busy_s:.2f} ms of a step of {1e3 * ours.step_s:.2f} ms"
    return [
        Figure("GPU busy, always", 100 * ours.busy_share, 100, "%", goal, "more", note=note),
        Figure("launches a step, one", ours.launches, 1, "calls", None, floor=1),
    ]


def _place() -> Place | None:
    path = packed_features()
    return None if path is None else Place(path)


def run_all(
    place: Place, today: Path | None, names: Sequence[str] | None, num_workers: int | None
) -> list[tuple[str, Measured]]:
    """Measure and print rows, by ``names`` or all; a row that fails is told, the others go on.

    With ``num_workers`` it is the row of several workers instead.
    """
    rows: dict[str, Callable[[], Measured]] = {
        "codebert": lambda: codebert(place),
        "gnn": lambda: gnn(place, today),
        "stacked-seeds": lambda: seeds(place),
    }
    chosen = {f"{name}-gpu": rows[name] for name in names or rows}
    if num_workers is not None:
        chosen = {f"workers-{num_workers}": lambda: workers(place, num_workers)}
    done: list[tuple[str, Measured]] = []
    for name, measure in chosen.items():
        started_s = time.perf_counter()
        try:
            measured = measure()
        except (RuntimeError, ImportError, OSError) as error:
            measured = [Skipped("all", f"FAILED: {type(error).__name__}: {error}")]
        print(f"{name} ({time.perf_counter() - started_s:.0f} s)", flush=True)
        print_figures(measured)
        done.append((name, measured))
    return done
