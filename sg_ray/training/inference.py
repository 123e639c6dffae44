"""Predictions for a whole split, in its order, shared among the workers."""

import numpy as np
import torch
from numpy.typing import NDArray

from sg_ray.models.family import Classifier, NeuralConfig, SplitData
from sg_ray.training.batches import micro_batches
from sg_ray.training.compute import Compute, make_compute
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

    Every rank gets all of them. Raises InputError for a precision the device cannot do.
    """
    compute = make_compute(config, device, workers)
    return sigmoid(predict_logits(model.to(device), split, config, compute))


def predict_logits(
    model: Classifier, split: SplitData, config: NeuralConfig, compute: Compute
) -> NDArray[np.float64]:
    """Return the logit of each sample in split order, shape [n], on every rank.

    Samples are batched by length under the same budget as in training.
    """
    rank, world_size = compute.workers.rank, compute.workers.world_size
    share = np.arange(rank, len(split.labels), world_size, dtype=np.int64)
    pieces = micro_batches(
        share, split.units, config.max_units_per_micro_batch, padded=split.padded
    )
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        outputs = [compute.forward(model, split, piece) for piece in pieces]
        logits = compute.workers.gather(
            torch.cat([torch.empty(0, device=compute.device), *outputs])
        )
    model.train(was_training)
    by_rank = torch.from_numpy(np.concatenate([np.empty(0, dtype=np.int64), *pieces]))
    places = compute.workers.gather(by_rank).cpu().numpy()
    ordered = np.empty(len(split.labels), dtype=np.float64)
    ordered[places] = logits.cpu().numpy()
    return ordered
