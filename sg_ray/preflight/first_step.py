"""One step of training, with everything that a trial does around it."""

import json
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from sg_ray.config import Model
from sg_ray.features.packed import Features
from sg_ray.models.family import FamilyConfig, NeuralConfig
from sg_ray.records.code_versions import trial_code_version
from sg_ray.statistics.own_metrics import Direction
from sg_ray.sweep_folder import BEST, METADATA
from sg_ray.training.checkpoint import read_best, weights_id
from sg_ray.trial.context import TrialContext
from sg_ray.trial.run import run_trial
from sg_ray.trial.spec import BranchSource, TrialSpec

_KIB_PER_MB = 1024
_BYTES_PER_MB = 2**20


@dataclass(frozen=True)
class FirstStep:
    """What a trial of one step took.

    ``source`` lets another family build on it. ``num_weights`` counts the numbers in its best
    model; ``peak_mb`` is that of the device's memory, on a CPU of this process so far.
    ``checkpoint_bytes`` is what a checkpoint holds: model, optimiser, best model.
    ``fallback`` says what the trial had to depart from to go on; None if nothing.
    """

    source: BranchSource
    device: torch.device
    num_rows: int
    num_weights: int
    duration_s: float
    peak_mb: float
    checkpoint_bytes: int
    best_model_bytes: int
    fallback: str | None


def take_step(
    model: Model,
    branches: Mapping[str, BranchSource],
    features: Features,
    *,
    seed: int,
    objective: str,
    folder: Path,
    cache_dir: Path,
    own_metrics: Mapping[str, Direction] | None = None,
) -> FirstStep:
    """Run a trial of one epoch over ``features``, which hold a batch, as a sweep's actor would.

    Raises what the trial raises: InputError, TrainingError, or an error of the family's own.
    """
    once = {"epochs": 1} if model.is_neural else {}
    spec = TrialSpec(
        configuration=model.configured(once),
        seed=seed,
        objective=objective,
        data_fingerprint=features.data_fingerprint,
        code_version=trial_code_version(model.family, own_metrics or {}),
        branches=branches,
        own_metrics=own_metrics or {},
    )
    context = TrialContext.of(model.resources, features, cache_dir)
    device = context.device
    folder.mkdir(parents=True)
    _forget_peak(device)
    started = time.perf_counter()
    for _ in run_trial(spec, context, folder):
        pass
    return FirstStep(
        source=_as_branch(spec, folder),
        device=device,
        num_rows=len(features.labels["train"]),
        num_weights=_num_weights(folder),
        duration_s=time.perf_counter() - started,
        peak_mb=_peak_mb(device),
        checkpoint_bytes=sum(path.stat().st_size for path in folder.iterdir()),
        best_model_bytes=(folder / BEST).stat().st_size,
        fallback=_fallback(model.settings, folder),
    )


def _as_branch(spec: TrialSpec, folder: Path) -> BranchSource:
    return BranchSource(
        trial_key=spec.trial_key,
        configuration=spec.configuration,
        config_hash=spec.config_hash,
        folder=folder,
        weights=weights_id(folder),
    )


def _num_weights(folder: Path) -> int:
    state = read_best(folder)["model_state_dict"]
    return sum(value.numel() for value in state.values() if isinstance(value, torch.Tensor))


def _fallback(config: FamilyConfig, folder: Path) -> str | None:
    """Return what ``training.fallbacks`` did, as the trial's metadata tell."""
    if not isinstance(config, NeuralConfig):
        return None
    metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    max_units = metadata["environment"]["max_units_per_micro_batch"]
    if max_units < config.max_units_per_micro_batch:
        return (
            f"memory ran out, so micro-batches were cut to {max_units} units; set "
            "max_units_per_micro_batch to that, for each trial would find it out again"
        )
    if metadata["environment"]["determinism"] == "weak":
        return "an operation has no deterministic version here: equal seeds may differ a little"
    return None


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _BYTES_PER_MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_MB
