"""Learning-rate range test: which decade of learning rates is worth searching.

The learning rate grows exponentially over one short run while the loss is watched (L. N. Smith,
"Cyclical Learning Rates for Training Neural Networks", arXiv 1506.01186). The *edge* of a run is
the rate at which the loss stops getting better: its minimum, or where it rises if it never fell.
The suggestion is one decade below the edge. The point of steepest descent is not used: a hard task
shows no descent in a hundred steps, and after a blow-up the loss of a binary classifier falls back
to log 2, which is then the steepest descent there is.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sg_ray.errors import InputError
from sg_ray.models.family import Batch, Classifier, NeuralConfig, SplitData
from sg_ray.models.seeded_dropout import set_dropout_seed
from sg_ray.training.batches import Indices, epoch_batches
from sg_ray.training.compute import make_compute
from sg_ray.training.optimiser import Optimiser
from sg_ray.training.seeding import numpy_stream, stream_seed, torch_stream
from sg_ray.training.step import Stepper

DECADE = 10.0
WINDOW_SHARE = 1 / 9
"""Share of the steps in the moving average, which is centred so as not to shift the edge."""
BASELINE_SHARE = 1 / 4
"""Share of the steps, at the lowest rates, from which level and noise of the loss are taken."""
SIGNIFICANT = 4.0
"""Standard errors of the difference by which the averaged loss must leave the baseline to count.

Over 60 to 100 steps of pure noise it does so in 1.5 % of the runs (simulated)."""
BLOW_UP = 4.0
"""The test stops when the loss is this many times the lowest so far (both smoothed)."""
SMOOTHING = 0.9
MIN_STEPS = 10
"""Fewer losses tell nothing. Suggestions that can be relied on take 60 to 100."""


@dataclass(frozen=True)
class LrCurve:
    """Mean training loss of each step at its learning rate, for one seed."""

    seed: int
    learning_rates: Sequence[float]
    losses: Sequence[float]


@dataclass(frozen=True)
class LrRange:
    """Result of a range test: a suggestion, or the reason why there is none."""

    suggestion: float | None
    reason: str | None
    curves: Sequence[LrCurve]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


def range_test(
    build: Callable[[int], Classifier],
    split: SplitData,
    config: NeuralConfig,
    *,
    seeds: Sequence[int],
    low: float,
    high: float,
    num_steps: int,
    device: torch.device,
    max_samples: int | None = None,
) -> LrRange:
    """Walk from ``low`` to ``high`` once per seed; suggest the median over seeds, on a log scale.

    ``build(seed)`` returns a new model; the "init" stream of that seed is set around it. There is
    no suggestion unless more than half of the seeds give one. Batches come from ``max_samples``
    samples of ``split``, drawn once per seed; None: from all. Raises InputError for limits that
    make no range, an empty split, or fewer than MIN_STEPS steps.
    """
    if not 0 < low < high:
        raise InputError(f"lr_range: needs 0 < low < high, got low {low:g} and high {high:g}.")
    if num_steps < MIN_STEPS:
        raise InputError(f"lr_range: needs num_steps >= {MIN_STEPS}, got {num_steps}. Try 80.")
    if not seeds or len(split.labels) == 0:
        raise InputError("lr_range: needs at least one seed and one training sample.")
    schedule = [float(rate) for rate in np.geomspace(low, high, num_steps)]
    curves = []
    for seed in seeds:
        with torch_stream(seed, "init"):
            model = build(seed)
        chosen = _draw(split, max_samples, seed)
        curves.append(_walk(model.to(device), chosen, config, schedule, seed, device))
    edges = [edge for curve in curves if (edge := find_edge(curve)) is not None]
    if 2 * len(edges) <= len(curves):
        return LrRange(None, _reason(curves, low, high), curves)
    return LrRange(float(np.exp(np.median(np.log(edges)))) / DECADE, None, curves)


def find_edge(curve: LrCurve) -> float | None:
    """Return the learning rate at which the loss stops getting better, None if it never moved."""
    losses = np.array(curve.losses)
    if len(losses) < MIN_STEPS:
        return None
    window = max(3, int(WINDOW_SHARE * len(losses)) | 1)  # odd
    averaged = np.convolve(losses, np.full(window, 1 / window), mode="valid")
    rates = np.array(curve.learning_rates)[window // 2 : -(window // 2)]
    baseline = losses[: max(3, round(BASELINE_SHARE * len(losses)))]
    level = baseline.mean()
    limit = SIGNIFICANT * baseline.std(ddof=1) * math.sqrt(1 / window + 1 / len(baseline))
    risen = np.flatnonzero(averaged > level + limit)
    first_rise = risen[0] if len(risen) else len(averaged)
    lowest = int(np.argmin(averaged[:first_rise])) if first_rise else 0
    if averaged[lowest] < level - limit:
        return float(rates[lowest])
    return float(rates[first_rise]) if len(risen) else None


def narrow(suggestion: float, low: float, high: float) -> tuple[float, float]:
    """Return the part of [low, high] within one decade of ``suggestion``.

    A suggestion outside is first moved to the nearer end. Raises InputError unless low < high.
    """
    if not 0 < low < high:
        raise InputError(f"learning_rate: needs 0 < low < high, got {low:g} and {high:g}.")
    centre = min(max(suggestion, low), high)
    return max(low, centre / DECADE), min(high, centre * DECADE)


@dataclass(frozen=True)
class _Chosen:
    """Some samples of a split as a split."""

    split: SplitData
    indices: Indices

    @property
    def labels(self) -> NDArray[np.int8]:
        return self.split.labels[self.indices]

    @property
    def units(self) -> NDArray[np.int64]:
        return self.split.units[self.indices]

    @property
    def padded(self) -> bool:
        return self.split.padded

    def collate(self, indices: Indices) -> Batch:
        return self.split.collate(self.indices[indices])


def _draw(split: SplitData, max_samples: int | None, seed: int) -> SplitData:
    if max_samples is None or max_samples >= len(split.labels):
        return split
    shuffled = numpy_stream(seed, "lr_range").permutation(len(split.labels))
    return _Chosen(split, np.sort(shuffled[:max_samples]).astype(np.int64))


def _walk(
    model: Classifier,
    split: SplitData,
    config: NeuralConfig,
    schedule: Sequence[float],
    seed: int,
    device: torch.device,
) -> LrCurve:
    """Take one step at each rate, until the loss blows up."""
    compute = make_compute(config, device)
    at_one = config.model_copy(update={"learning_rate": 1.0})
    last = len(schedule) - 1
    optimiser = Optimiser(
        model, at_one, lambda step: schedule[min(step, last)], compute.precision.grad_scaler()
    )
    stepper = Stepper(model, split, optimiser, compute)
    model.train()
    rates: list[float] = []
    losses: list[float] = []
    watch = _BlowUp()
    for step, batch in zip(range(len(schedule)), _endless(split, config, seed), strict=False):
        set_dropout_seed(model, stream_seed(seed, "dropout", step))
        with torch_stream(seed, "dropout", step):
            outcome = stepper.step(batch)
        loss = outcome.loss_sum / len(batch)
        if stepper.is_diverged(outcome) or watch.sees(loss):
            break
        rates.append(outcome.learning_rate)
        losses.append(loss)
    return LrCurve(seed, rates, losses)


def _endless(split: SplitData, config: NeuralConfig, seed: int) -> Iterator[Indices]:
    """Yield the batches of one epoch after another."""
    epoch = 1
    while True:
        yield from epoch_batches(split, config, seed, epoch)
        epoch += 1


class _BlowUp:
    """Follows the loss, exponentially smoothed, and its minimum."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._weight = 0.0
        self._lowest = math.inf

    def sees(self, loss: float) -> bool:
        """Return whether the loss has blown up with this value."""
        self._sum = SMOOTHING * self._sum + (1 - SMOOTHING) * loss
        self._weight = SMOOTHING * self._weight + (1 - SMOOTHING)
        smoothed = self._sum / self._weight
        self._lowest = min(self._lowest, smoothed)
        return smoothed > BLOW_UP * self._lowest


def _reason(curves: Sequence[LrCurve], low: float, high: float) -> str:
    shortest = min(curves, key=lambda curve: len(curve.losses))
    if len(shortest.losses) < MIN_STEPS:
        rate = shortest.learning_rates[-1] if shortest.learning_rates else low
        return f"the loss blew up after {len(shortest.losses)} steps, at learning rate {rate:.2g}"
    return f"the loss neither fell nor rose between learning rates {low:.2g} and {high:.2g}"
