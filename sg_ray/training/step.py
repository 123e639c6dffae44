"""One optimisation step over one batch, whatever the memory and the number of workers."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from sg_ray.errors import OutOfMemory
from sg_ray.models.family import Batch, Classifier, SplitData
from sg_ray.models.seeded_dropout import set_dropout_piece
from sg_ray.training.batches import Indices
from sg_ray.training.captured_step import CapturedStep
from sg_ray.training.compute import Compute
from sg_ray.training.fallbacks import ADVICE, guard_memory
from sg_ray.training.fixed_shapes import FixedShapes
from sg_ray.training.optimiser import Optimiser
from sg_ray.training.shared_gpu import refuse_what_neighbours_took

Way = Literal["captured", "fixed", "plain"]
"""How steps are taken: replayed as one launch, in one set of shapes, or each in its own."""


@dataclass(frozen=True)
class StepOutcome:
    """What a step met: the loss summed over this rank's samples, the gradient norm of the batch."""

    loss_sum: float
    gradient_norm: float
    learning_rate: float


@dataclass(frozen=True)
class MicroBatch:
    """The CPU tensors of some samples: what the model reads, labels [S], what each counts [S].

    ``units`` are what the samples cost.
    """

    tensors: Batch
    labels: Tensor
    counts: Tensor
    units: NDArray[np.int64]


@dataclass(frozen=True)
class Prepared:
    """A batch, this rank's share of it as micro-batches, and the budget by which it was cut."""

    batch: Indices
    pieces: list[MicroBatch]
    max_units: int

    @property
    def inputs(self) -> list[tuple[Batch, Tensor, Tensor]]:
        """The pieces of fixed shapes as ``CapturedStep`` takes them."""
        return [(each.tensors, each.labels, each.counts) for each in self.pieces]


@dataclass(frozen=True)
class Launched:
    """A step that the device may still be at."""

    numbers: Tensor
    learning_rate: float

    def read(self) -> StepOutcome:
        """Wait for the device and return what the step met."""
        loss_sum, gradient_norm = self.numbers.tolist()
        return StepOutcome(loss_sum, gradient_norm, self.learning_rate)


class Stepper:
    """Takes optimisation steps of one model on one split."""

    def __init__(
        self,
        model: Classifier,
        split: SplitData,
        optimiser: Optimiser,
        compute: Compute,
        shapes: FixedShapes | None = None,
    ) -> None:
        """With ``shapes`` all steps are of these, and captured on CUDA where that works."""
        self._wrapped = compute.workers.wrap(model)
        # Found once: to walk through a model's modules takes as long as a small product.
        self._buffers = dict(self._wrapped.named_buffers())
        self._split = split
        self._units = split.units
        self._labels = split.labels.astype(np.float32)
        self._optimiser = optimiser
        self._compute = compute
        self._shapes = shapes
        self._captured: CapturedStep | None = None
        self._may_capture = shapes is not None and CapturedStep.suits(compute)

    @property
    def way(self) -> Way:
        """How the steps are taken now."""
        if self._captured is not None:
            return "captured"
        return "plain" if self._fixed() is None else "fixed"

    def step(self, batch: Indices) -> StepOutcome:
        """Prepare, launch and read a step over ``batch``, shape [B]."""
        return self.launch(self.prepare(batch)).read()

    def prepare(self, batch: Indices) -> Prepared:
        """Return what a step over ``batch`` reads, on the CPU; any thread may do so.

        Each rank takes every world_size-th sample; one without samples takes one that counts
        nothing, for every rank must take part in the exchange.
        """
        workers, max_units = self._compute.workers, self._compute.fallbacks.max_units
        share = batch[workers.rank :: workers.world_size]
        if (shapes := self._fixed()) is not None:
            pieces = [self._fixed_piece(shapes, piece) for piece in shapes.pieces(share)]
            return Prepared(batch, pieces, max_units)
        own = share if len(share) > 0 else batch[:1]
        cut = self._compute.fallbacks.cut(own, self._units, padded=self._split.padded)
        count = float(len(share) > 0)
        return Prepared(batch, [self._piece(piece, count) for piece in cut], max_units)

    def launch(self, prepared: Prepared) -> Launched:
        """Change the weights by the gradient of the mean loss over a batch.

        Each micro-batch's summed loss is divided by B, so how the batch is cut does not matter. On
        W workers it is multiplied by W because DistributedDataParallel averages gradients.

        The caller seeds torch directly before, with ``torch.manual_seed``: what ``Fallbacks``
        mends is done again with that seed, from a clean gradient. That holds until the gradient is
        complete; on several workers until the backward pass in which it is exchanged, since the
        other ranks would not repeat it. Raises OutOfMemory if memory runs out after that, or in a
        pass over one sample.
        """
        try:
            return self._launch(prepared)
        except torch.OutOfMemoryError as error:
            refuse_what_neighbours_took(error)
            raise OutOfMemory(
                f"out of memory where a step cannot be redone: {error}. Lower "
                f"max_units_per_micro_batch (now {self._compute.fallbacks.max_units}; it does not "
                f"change what is learned). {ADVICE}"
            ) from error

    def _launch(self, prepared: Prepared) -> Launched:
        learning_rate = self._optimiser.learning_rate
        if self._may_capture:
            self._may_capture = False
            self._captured = self._capture(prepared)
        if self._captured is not None:
            numbers = self._captured.replay(prepared.inputs, 1 / len(prepared.batch), learning_rate)
            self._optimiser.count_step()
            return Launched(numbers, learning_rate)
        loss_sum = self._compute.fallbacks.repeat_until_done(
            lambda: self._collect(prepared), undo=self._forget
        )
        norm = self._optimiser.step()
        return Launched(torch.stack([loss_sum, norm]), learning_rate)

    def _collect(self, prepared: Prepared) -> Tensor:
        """Collect the gradient of a batch; return the loss summed over this rank's share, [].

        Gradients are exchanged in the last backward pass only, which comes after the larger ones.
        """
        if prepared.max_units != self._compute.fallbacks.max_units:
            prepared = self.prepare(prepared.batch)
        workers = self._compute.workers
        weight = workers.world_size / len(prepared.batch)
        *local, last = prepared.pieces
        loss_sum = torch.zeros((), device=self._compute.device)
        with workers.without_sync(self._wrapped):
            for number, piece in enumerate(local):
                set_dropout_piece(self._buffers, number)
                loss_sum += self._backward(piece, weight, exchanges=False)
        set_dropout_piece(self._buffers, len(local))
        return loss_sum + self._backward(last, weight, exchanges=workers.world_size > 1)

    def _forget(self) -> None:
        """Undo ``_collect``: no gradient, and the dropout of the beginning."""
        self._optimiser.zero_grad()
        torch.manual_seed(torch.initial_seed())

    def is_diverged(self, outcome: StepOutcome) -> bool:
        """Return whether loss or gradient is not finite.

        In fp16 a gradient may overflow: the scaler skips that step and lowers its scale.
        """
        if not math.isfinite(outcome.loss_sum):
            return True
        may_overflow = self._compute.precision.name == "fp16"
        return not may_overflow and not math.isfinite(outcome.gradient_norm)

    def _backward(self, piece: MicroBatch, weight: float, *, exchanges: bool) -> Tensor:
        """Add the gradient of one micro-batch; return its summed loss, shape []."""
        with guard_memory(piece.units, padded=self._split.padded):
            loss = self._loss(piece)
            if not exchanges:
                self._optimiser.backward(loss * weight)
        if exchanges:  # unguarded: other ranks have these gradients already
            self._optimiser.backward(loss * weight)
        return loss.detach()

    def _loss(self, piece: MicroBatch) -> Tensor:
        put = self._compute.put
        logits = self._compute.logits(self._wrapped, piece.tensors)
        return binary_cross_entropy_with_logits(
            logits, put(piece.labels), put(piece.counts), reduction="sum"
        )

    def _piece(self, piece: Indices, count: float) -> MicroBatch:
        pinned = self._compute.pinned
        tensors = {name: pinned(each) for name, each in self._split.collate(piece).items()}
        labels = torch.from_numpy(self._labels[piece])
        counts = torch.full_like(labels, count)
        return MicroBatch(tensors, pinned(labels), pinned(counts), self._units[piece])

    def _fixed_piece(self, shapes: FixedShapes, piece: Indices) -> MicroBatch:
        pinned = self._compute.pinned
        tensors, labels, counts = shapes.collate(piece)
        tensors = {name: pinned(tensor) for name, tensor in tensors.items()}
        return MicroBatch(tensors, pinned(labels), pinned(counts), shapes.units)

    def _fixed(self) -> FixedShapes | None:
        """Return the shapes, unless less memory than they take is to be used from now on."""
        shapes = self._shapes
        is_cut = shapes is None or self._compute.fallbacks.max_units < shapes.max_units
        return None if is_cut else shapes

    def _capture(self, prepared: Prepared) -> CapturedStep | None:
        return CapturedStep.of(
            self._wrapped,
            self._optimiser,
            self._compute,
            prepared.inputs,
            1 / len(prepared.batch),
        )
