"""Training of a family that fits in one go: the same files and result as one epoch of the loop."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sg_ray.files import to_plain
from sg_ray.models.family import ConfigT, EstimatorFamily, Inputs
from sg_ray.statistics.own_metrics import Metric
from sg_ray.training.checkpoint import Best, best_content, write_best, write_history, write_metadata
from sg_ray.training.compute import environment
from sg_ray.training.metrics import check_objective, scored, tune_threshold
from sg_ray.training.position import EpochResult, Progress
from sg_ray.training.predictions import Predictions


def fit_estimator(
    family: EstimatorFamily[ConfigT],
    config: ConfigT,
    inputs: Inputs,
    *,
    seed: int,
    objective: str,
    folder: Path,
    identity: Mapping[str, Any],
    own_metrics: Sequence[Metric] = (),
) -> EpochResult:
    """Fit, score on validation, write the trial's files, and return the only result there is.

    ``model_state_dict`` in ``best_model.pt`` is the estimator's ``state()``. Raises InputError for
    an objective that is unknown or has no value on the validation labels.
    """
    labels = inputs.features.labels
    check_objective(objective, labels["valid"])
    started = time.perf_counter()
    estimator = family.fit(config, inputs, seed)
    fit_time_s = time.perf_counter() - started
    probabilities = estimator.predict_proba(inputs, "valid")
    threshold = tune_threshold(labels["valid"], probabilities)
    on_train = scored("train", labels["train"], estimator.predict_proba(inputs, "train"), 0.5)
    metrics = {
        "train_loss": on_train["train_loss"],
        "samples_per_s": len(labels["train"]) / fit_time_s,
        **scored("val", labels["valid"], probabilities, threshold, own_metrics),
        "epoch_time_s": time.perf_counter() - started,
    }
    progress = Progress()
    progress.complete_epoch(metrics, objective)
    settings = {
        "config": config.model_dump(mode="json"),
        "identity": to_plain(identity),
        "seed": seed,
        "objective": objective,
    }
    content = best_content(estimator.state(), settings, progress)
    ids = inputs.features.sample_ids("valid")
    write_best(folder, Best(content, Predictions(labels["valid"], probabilities, ids)))
    write_history(folder, progress.history)
    write_metadata(
        folder,
        settings,
        progress,
        "epochs",
        environment(torch.device("cpu"), torch.get_num_threads()),
    )
    return progress.last_result(num_epochs=1, patience=None)
