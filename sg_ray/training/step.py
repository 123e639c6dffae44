"""One optimisation step over one batch, whatever the memory and the number of workers."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from sg_ray.errors import TrainingError
from sg_ray.models.family import Classifier, NeuralConfig, SplitData
from sg_ray.training.batches import Indices, micro_batches
from sg_ray.training.compute import Compute
from sg_ray.training.optimiser import Optimiser


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
        config: NeuralConfig,
        optimiser: Optimiser,
        compute: Compute,
    ) -> None:
        self._wrapped = compute.workers.wrap(model)
        self._split = split
        self._units = split.units
        self._labels = split.labels.astype(np.float32)
        self._max_units = config.max_units_per_micro_batch
        self._optimiser = optimiser
        self._compute = compute

    def step(self, batch: Indices) -> StepOutcome:
        """Change the weights by the gradient of the mean loss over ``batch``, shape [B].

        Each micro-batch's summed loss is divided by B, so how the batch is cut does not matter.
        Each rank takes every world_size-th sample; its loss is multiplied by world_size because
        DistributedDataParallel averages gradients. A rank without samples passes one with weight
        0, for every rank must take part in the exchange. Raises TrainingError if memory runs out.
        """
        try:
            return self._step(batch)
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"out of memory: lower max_units_per_micro_batch (now {self._max_units}; "
                "it does not change what is learned)."
            ) from error

    def _step(self, batch: Indices) -> StepOutcome:
        workers = self._compute.workers
        share = batch[workers.rank :: workers.world_size]
        if len(share) > 0:
            loss_sum = self._accumulate(share, workers.world_size / len(batch))
        else:
            loss_sum = 0.0 * self._accumulate(batch[:1], 0.0)
        learning_rate = self._optimiser.learning_rate
        norm = self._optimiser.step()
        # The step's only wait for the device.
        loss, gradient_norm = torch.stack([loss_sum, norm]).tolist()
        return StepOutcome(loss, gradient_norm, learning_rate)

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

        Gradients are exchanged in the last backward pass only.
        """
        pieces = micro_batches(share, self._units, self._max_units, padded=self._split.padded)
        loss_sum = torch.zeros((), device=self._compute.device)
        with self._compute.workers.without_sync(self._wrapped):
            for piece in pieces[:-1]:
                loss_sum += self._backward(piece, weight)
        return loss_sum + self._backward(pieces[-1], weight)

    def _backward(self, indices: Indices, weight: float) -> Tensor:
        labels = torch.from_numpy(self._labels[indices])
        logits = self._compute.forward(self._wrapped, self._split, indices)
        loss = binary_cross_entropy_with_logits(logits, self._compute.put(labels), reduction="sum")
        self._optimiser.backward(loss * weight)
        return loss.detach()
