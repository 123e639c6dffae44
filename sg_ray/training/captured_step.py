"""A step on CUDA that is recorded once and replayed as one launch.

Launching a step's thousand kernels one by one from Python takes longer than computing them. All
steps of ``FixedShapes`` are the same kernels on other numbers, so a CUDA graph holds them: forward
and backward passes of all micro-batches, clipping, AdamW. Each replay reads batch, loss weight,
learning rate and the generator's seed where they were written before it.

Whether a replay does what a plain step does is tried out on the first batch; nothing of the trial
stays in the weights.
"""

import logging
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from sg_ray.models.family import Batch
from sg_ray.models.seeded_dropout import set_dropout_piece
from sg_ray.training.compute import Compute
from sg_ray.training.optimiser import Optimiser

Inputs = Sequence[tuple[Batch, Tensor, Tensor]]
"""Each micro-batch's tensors, labels [S] and what each sample counts [S]."""

_NUM_WARM_UPS = 2
"""Steps before the recording, in which kernels are chosen and memory is found."""

_TOLERANCE = 0.05
"""Of the length of a step, in which kernels that add up in another order may differ."""

_LOG = logging.getLogger(__name__)


class CapturedStep:
    """The recorded step of one model, optimiser and set of shapes."""

    def __init__(
        self, model: nn.Module, optimiser: Optimiser, compute: Compute, inputs: Inputs
    ) -> None:
        """``inputs`` gives the shapes; nothing is recorded yet."""
        self._model, self._optimiser, self._compute = model, optimiser, compute
        device = compute.device
        self._inputs: Inputs = [
            (
                {n: each.to(device) for n, each in batch.items()},
                labels.to(device),
                counts.to(device),
            )
            for batch, labels, counts in inputs
        ]
        self._weight = torch.zeros((), device=device)
        self._learning_rate = torch.zeros((), device=device)
        self._numbers = torch.zeros(2, device=device)
        self._graph = torch.cuda.CUDAGraph()

    @staticmethod
    def suits(compute: Compute) -> bool:
        """Return whether steps are captured at all: fp16's scaler asks the device in each step."""
        is_alone = compute.workers.world_size == 1
        return compute.device.type == "cuda" and is_alone and compute.precision.name != "fp16"

    @classmethod
    def of(
        cls, model: nn.Module, optimiser: Optimiser, compute: Compute, inputs: Inputs, weight: float
    ) -> Self | None:
        """Return a step that was recorded and tried out; None, and a line in the log, if it fails.

        Model, optimiser and generator are left as they were. ``weight`` is the loss's in the trial.
        """
        before = _State.of(optimiser)
        try:
            step = cls(model, optimiser, compute, inputs)
            reason = step._try_out(before, inputs, weight)
        except RuntimeError as error:  # also out of memory, and what cannot be captured
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        finally:
            optimiser.zero_grad()
            before.restore(optimiser)
            torch.manual_seed(torch.initial_seed())
        if reason is None:
            return step
        _LOG.warning("steps are launched kernel by kernel: %s", reason)
        torch.cuda.empty_cache()
        return None

    def replay(self, inputs: Inputs, weight: float, learning_rate: float) -> Tensor:
        """Take a step; return loss sum and gradient norm, [2], for which the device may yet work.

        ``weight`` is the loss's: 1 / B.
        """
        self._write(inputs, weight, learning_rate)
        self._graph.replay()
        return self._numbers.clone()

    def _write(self, inputs: Inputs, weight: float, learning_rate: float) -> None:
        for (own, own_labels, own_counts), (batch, labels, counts) in zip(
            self._inputs, inputs, strict=True
        ):
            for name, tensor in batch.items():
                own[name].copy_(tensor, non_blocking=True)
            own_labels.copy_(labels, non_blocking=True)
            own_counts.copy_(counts, non_blocking=True)
        self._weight.fill_(weight)
        self._learning_rate.fill_(learning_rate)

    def _try_out(self, before: "_State", inputs: Inputs, weight: float) -> str | None:
        """Record the step; return how a replay of it differs from a plain step, if it does."""
        seed, learning_rate = torch.initial_seed(), self._optimiser.learning_rate
        self._write(inputs, weight, learning_rate)
        with self._optimiser.reading_rate_from(self._learning_rate):
            self._warm_up()
            before.restore(self._optimiser)
            torch.manual_seed(seed)
            plain = self._take()
            after_plain = _State.of(self._optimiser)
            self._optimiser.zero_grad()
            # Another thread may pin memory meanwhile, which a capture in global mode forbids.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._numbers.copy_(self._take())
        before.restore(self._optimiser)
        torch.manual_seed(seed)
        replayed = self.replay(inputs, weight, learning_rate)
        if not torch.allclose(plain, replayed, rtol=_TOLERANCE):
            return f"replayed, loss and norm are {replayed.tolist()} in place of {plain.tolist()}"
        length = after_plain.distance(before)
        difference = after_plain.distance(_State.of(self._optimiser))
        if not difference <= _TOLERANCE * length:
            return f"a replayed step differs by {difference:.2g} from one of length {length:.2g}"
        return None

    def _warm_up(self) -> None:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_NUM_WARM_UPS):
                self._optimiser.zero_grad()
                self._take()
            self._optimiser.zero_grad()
        torch.cuda.current_stream().wait_stream(stream)

    def _take(self) -> Tensor:
        """Do what is recorded; return loss sum and gradient norm, [2]."""
        loss_sum = torch.zeros((), device=self._compute.device)
        for number, (batch, labels, counts) in enumerate(self._inputs):
            set_dropout_piece(self._model, number)
            logits = self._compute.logits(self._model, batch)
            loss = binary_cross_entropy_with_logits(logits, labels, counts, reduction="sum")
            self._optimiser.backward(loss * self._weight)
            loss_sum += loss.detach()
        return torch.stack([loss_sum, self._optimiser.clip_and_apply()])


class _State:
    """Copies of weights and of AdamW's numbers."""

    def __init__(self, copies: dict[Tensor, Tensor], weights: Sequence[Tensor]) -> None:
        self._copies, self._weights = copies, weights

    @classmethod
    def of(cls, optimiser: Optimiser) -> Self:
        """Copy what a step changes."""
        weights = [parameter for group in optimiser.groups for parameter in group]
        copies = {tensor: tensor.detach().clone() for tensor in _changing(optimiser)}
        return cls(copies, weights)

    @torch.no_grad()
    def restore(self, optimiser: Optimiser) -> None:
        """Write the copies back in place; what came up since, e.g. at a first step, becomes 0."""
        for tensor in _changing(optimiser):
            tensor.copy_(self._copies[tensor]) if tensor in self._copies else tensor.zero_()

    def distance(self, other: "_State") -> float:
        """Return the length of the difference of the weights."""
        pairs: list[Any] = [(self._copies[w], other._copies[w]) for w in self._weights]
        return float(torch.stack([(one - two).norm() for one, two in pairs]).norm())


def _changing(optimiser: Optimiser) -> list[Tensor]:
    weights = [parameter for group in optimiser.groups for parameter in group]
    return [*weights, *(t for weight in weights for t in optimiser.state_of(weight).values())]
