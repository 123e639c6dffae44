"""Run one trial: train it, find its learning rate, or score it on the test split."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sg_ray.errors import InputError
from sg_ray.models.families import get_family
from sg_ray.models.family import EstimatorFamily, NeuralConfig, NeuralFamily
from sg_ray.statistics.own_metrics import OWN_METRICS
from sg_ray.sweep_folder import TEST_PREDICTIONS
from sg_ray.training.checkpoint import load_best, read_best, read_last
from sg_ray.training.compute import Compute, make_compute
from sg_ray.training.estimator import fit_estimator
from sg_ray.training.loop import EpochResult, ShouldStop, Training, make_training, never, predict
from sg_ray.training.lr_range import LrRange, range_test
from sg_ray.training.metrics import scored
from sg_ray.training.predictions import Predictions, write_predictions
from sg_ray.training.saving import AT_EPOCHS, Saving
from sg_ray.training.seeding import arithmetic_as_before, deterministic, torch_stream
from sg_ray.training.shared_gpu import telling_neighbours_apart
from sg_ray.training.workers import ALONE, Workers
from sg_ray.trial.context import TrialContext, inputs_of
from sg_ray.trial.spec import TrialSpec, identity_of


def run_trial(
    spec: TrialSpec,
    context: TrialContext,
    folder: Path,
    *,
    workers: Workers = ALONE,
    should_stop: ShouldStop = never,
    saving: Saving = AT_EPOCHS,
) -> Generator[EpochResult]:
    """Train ``spec`` in ``folder``, epoch by epoch, going on from ``folder/last.pt`` if it exists.

    Leaves best_model.pt, valid_predictions.npz, last.pt, metrics.jsonl and training_metadata.json
    in ``folder``. Raises Interrupted, with the position saved, once ``should_stop`` says so after a
    step; and what ``Training.epochs`` does.
    """
    with arithmetic_as_before(), telling_neighbours_apart():
        # One of several workers cannot redo a pass in which gradients are exchanged: not strict.
        deterministic(context.num_threads, strict=workers.world_size == 1)
        family = get_family(spec.family)
        if isinstance(family, EstimatorFamily):
            yield _fitted(family, spec, context, folder)
            return
        compute = make_compute(neural_of(spec)[1], context.device, workers)
        yield from training_of(spec, context, folder, compute, saving).epochs(should_stop)


def neural_of(spec: TrialSpec) -> tuple[NeuralFamily[Any], NeuralConfig]:
    """Return the family of a neural model, and its values as that family reads them."""
    family = get_family(spec.family)
    assert isinstance(family, NeuralFamily)
    return family, family.Config.model_validate(spec.configuration.values)


def training_of(
    spec: TrialSpec,
    context: TrialContext,
    folder: Path,
    compute: Compute,
    saving: Saving = AT_EPOCHS,
    *,
    is_stacked: bool = False,
) -> Training:
    """Return the training of a neural ``spec`` that stands where ``folder`` left it."""
    family, config = neural_of(spec)
    inputs = inputs_of(spec, context)
    with torch_stream(spec.seeds.init, "init"):
        model = family.build(config, inputs)
    return make_training(
        model,
        family.split_data(config, inputs, "train"),
        family.split_data(config, inputs, "valid"),
        config,
        seeds=spec.seeds,
        objective=spec.objective,
        folder=folder,
        identity=identity_of(spec),
        compute=compute,
        saving=saving,
        valid_ids=context.features.sample_ids("valid"),
        own_metrics=OWN_METRICS.measured(spec.own_metrics),
        is_stacked=is_stacked,
    )


def _fitted(
    family: EstimatorFamily[Any], spec: TrialSpec, context: TrialContext, folder: Path
) -> EpochResult:
    if spec.streams:
        raise InputError(
            f"trial {spec.name}: {spec.model} fits in one go, from one seed; it has no streams "
            f"to vary alone ({', '.join(spec.streams)}). Vary its seed."
        )
    return fit_estimator(
        family,
        family.Config.model_validate(spec.configuration.values),
        inputs_of(spec, context),
        seed=spec.seed,
        objective=spec.objective,
        folder=folder,
        identity=identity_of(spec),
        own_metrics=OWN_METRICS.measured(spec.own_metrics),
    )


def check_folder(spec: TrialSpec, folder: Path) -> None:
    """Raise InputError, with the differences, if ``folder/last.pt`` is another trial's."""
    settings = {
        "config": dict(spec.configuration.values),
        "identity": identity_of(spec),
        "seed": spec.seed,
        "streams": dict(spec.streams),
        "objective": spec.objective,
    }
    read_last(folder, settings)


@arithmetic_as_before()
@telling_neighbours_apart()
def find_learning_rate(
    spec: TrialSpec,
    context: TrialContext,
    *,
    num_steps: int,
    num_seeds: int,
    max_samples: int,
) -> LrRange:
    """Run a learning-rate range test of ``spec``'s configuration."""
    deterministic(context.num_threads)
    family, config = neural_of(spec)
    inputs = inputs_of(spec, context)
    low, high = family.lr_range
    return range_test(
        lambda _: family.build(config, inputs),
        family.split_data(config, inputs, "train"),
        config,
        seeds=[spec.seed + number for number in range(num_seeds)],
        low=low,
        high=high,
        num_steps=num_steps,
        max_samples=max_samples,
        device=context.device,
    )


@arithmetic_as_before()
@telling_neighbours_apart()
def score_test(spec: TrialSpec, context: TrialContext, folder: Path) -> dict[str, float]:
    """Score a finished trial's best model on the test split, at its threshold from validation.

    Leaves test_predictions.npz in ``folder``, where the model lies.
    """
    deterministic(context.num_threads)
    family = get_family(spec.family)
    config = family.Config.model_validate(spec.configuration.values)
    inputs = inputs_of(spec, context)
    best = read_best(folder)
    if isinstance(family, EstimatorFamily):
        estimator = family.load(config, best["model_state_dict"])
        probabilities = estimator.predict_proba(inputs, "test")
    else:
        assert isinstance(family, NeuralFamily)
        model = family.build(config, replace(inputs, is_restoring=True))
        load_best(model, folder)
        split = family.split_data(config, inputs, "test")
        probabilities = predict(model, split, config, device=context.device)
    labels = inputs.features.labels["test"]
    predictions = Predictions(labels, probabilities, inputs.features.sample_ids("test"))
    write_predictions(folder / TEST_PREDICTIONS, predictions)
    own = OWN_METRICS.measured(spec.own_metrics)
    return scored("test", labels, probabilities, best["threshold"], own)
