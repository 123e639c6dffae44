"""One optimisation step over one batch, whatever the memory and the number of workers."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from sg_ray.errors import OutOfMemory
from sg_ray.models.family import Classifier, SplitData
from sg_ray.training.batches import Indices
from sg_ray.training.compute import Compute
from sg_ray.training.fallbacks import ADVICE, guard_memory
from sg_ray.training.optimiser import Optimiser
from sg_ray.training.shared_gpu import refuse_what_neighbours_took


@dataclass(frozen=True)
class StepOutcome:
    """What a step met: the loss summed over this rank's samples, the gradient norm of the batch."""

    loss_sum: float
    gradient_norm: float
    learning_rate: float


class Stepper:
    """Takes optimisation steps of one model on one split."""

    def __init__(
        self,
        model: Classifier,
        split: SplitData,
        optimiser: Optimiser,
        compute: Compute,
    ) -> None:
        self._wrapped = compute.workers.wrap(model)
        self._split = split
        self._units = split.units
        self._labels = split.labels.astype(np.float32)
        self._optimiser = optimiser
        self._compute = compute

    def step(self, batch: Indices) -> StepOutcome:
        """Change the weights by the gradient of the mean loss over ``batch``, shape [B].

        Each micro-batch's summed loss is divided by B, so how the batch is cut does not matter.
        Each rank takes every world_size-th sample; its loss is multiplied by world_size because
        DistributedDataParallel averages gradients. A rank without samples passes one with weight
        0, for every rank must take part in the exchange.

        The caller seeds torch directly before, with ``torch.manual_seed``: what ``Fallbacks``
        mends is done again with that seed, from a clean gradient. That holds until the gradient is
        complete; on several workers until the backward pass in which it is exchanged, since the
        other ranks would not repeat it. Raises OutOfMemory if memory runs out after that, or in a
        pass over one sample.
        """
        try:
            return self._step(batch)
        except torch.OutOfMemoryError as error:
            refuse_what_neighbours_took(error)
            raise OutOfMemory(
                f"out of memory where a step cannot be redone: {error}. Lower "
                f"max_units_per_micro_batch (now {self._compute.fallbacks.max_units}; it does not "
                f"change what is learned). {ADVICE}"
            ) from error

    def _step(self, batch: Indices) -> StepOutcome:
        loss_sum = self._compute.fallbacks.repeat_until_done(
            lambda: self._collect(batch), undo=self._forget
        )
        learning_rate = self._optimiser.learning_rate
        norm = self._optimiser.step()
        # The step's only wait for the device.
        loss, gradient_norm = torch.stack([loss_sum, norm]).tolist()
        return StepOutcome(loss, gradient_norm, learning_rate)

    def _collect(self, batch: Indices) -> Tensor:
        """Collect the gradient of ``batch``; return the loss summed over this rank's share."""
        workers = self._compute.workers
        share = batch[workers.rank :: workers.world_size]
        if len(share) > 0:
            return self._accumulate(share, workers.world_size / len(batch))
        return 0.0 * self._accumulate(batch[:1], 0.0)

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

    def _accumulate(self, share: Indices, weight: float) -> Tensor:
        """Collect the gradient of weight x summed loss; return the summed loss, shape [].

        Gradients are exchanged in the last backward pass only, which comes after the larger ones.
        """
        workers = self._compute.workers
        *local, last = self._compute.fallbacks.cut(share, self._units, padded=self._split.padded)
        loss_sum = torch.zeros((), device=self._compute.device)
        with workers.without_sync(self._wrapped):
            for piece in local:
                loss_sum += self._backward(piece, weight, exchanges=False)
        return loss_sum + self._backward(last, weight, exchanges=workers.world_size > 1)

    def _backward(self, piece: Indices, weight: float, *, exchanges: bool) -> Tensor:
        """Add the gradient of one micro-batch; return its summed loss, shape []."""
        with guard_memory(self._units[piece], padded=self._split.padded):
            loss = self._loss(piece)
            if not exchanges:
                self._optimiser.backward(loss * weight)
        if exchanges:  # unguarded: other ranks have these gradients already
            self._optimiser.backward(loss * weight)
        return loss.detach()

    def _loss(self, piece: Indices) -> Tensor:
        labels = self._compute.put(torch.from_numpy(self._labels[piece]))
        logits = self._compute.forward(self._wrapped, self._split, piece)
        return binary_cross_entropy_with_logits(logits, labels, reduction="sum")
