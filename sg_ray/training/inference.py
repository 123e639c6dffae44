"""Predictions for a whole split, in its order, shared among the workers."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sg_ray.models.family import Classifier, NeuralConfig, SplitData
from sg_ray.training.batches import Indices
from sg_ray.training.compute import Compute, make_compute
from sg_ray.training.fallbacks import guard_memory
from sg_ray.training.metrics import sigmoid
from sg_ray.training.workers import ALONE, Workers


def predict(
    model: Classifier,
    split: SplitData,
    config: NeuralConfig,
    *,
    device: torch.device,
    workers: Workers = ALONE,
) -> NDArray[np.float64]:
    """Return the probability of "vulnerable" for each sample, in split order, shape [n].

    Every rank gets all of them. Raises InputError for a precision the device cannot do, OutOfMemory
    if one sample alone is too large.
    """
    compute = make_compute(config, device, workers)
    return sigmoid(predict_logits(model.to(device), split, compute))


def predict_logits(model: Classifier, split: SplitData, compute: Compute) -> NDArray[np.float64]:
    """Return the logit of each sample in split order, shape [n], on every rank.

    Samples are batched by length under the same budget as in training; what ``Fallbacks`` mends is
    mended. Raises OutOfMemory if one sample alone is too large.
    """
    workers = compute.workers
    share = np.arange(workers.rank, len(split.labels), workers.world_size, dtype=np.int64)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        places, logits = compute.fallbacks.repeat_until_done(
            lambda: _forward(model, split, share, compute), undo=lambda: None
        )
        logits = workers.gather(logits)
        places = workers.gather(places)
    model.train(was_training)
    ordered = np.empty(len(split.labels), dtype=np.float64)
    ordered[places.cpu().numpy()] = logits.cpu().numpy()
    return ordered


def _forward(
    model: Classifier, split: SplitData, share: Indices, compute: Compute
) -> tuple[Tensor, Tensor]:
    """Return the samples of ``share`` in the order in which they went, and their logits, [n]."""
    units, padded = split.units, split.padded
    pieces = compute.fallbacks.cut(share, units, padded=padded)
    outputs = [torch.empty(0, device=compute.device)]
    for piece in pieces:
        with guard_memory(units[piece], padded=padded):
            outputs.append(compute.forward(model, split, piece))
    places = np.concatenate([np.empty(0, dtype=np.int64), *pieces])
    return torch.from_numpy(places), torch.cat(outputs)
