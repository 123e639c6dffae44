"""What a process gives its trials, and what a trial takes of it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch

from sg_ray.config import Resources
from sg_ray.errors import InputError
from sg_ray.features.packed import Features
from sg_ray.models.families import get_family
from sg_ray.models.family import Branch, Classifier, Inputs, NeuralFamily
from sg_ray.sweep_folder import BEST
from sg_ray.training.checkpoint import load_best, weights_id
from sg_ray.training.compute import device_for, environment
from sg_ray.training.seeding import torch_stream
from sg_ray.training.shared_gpu import bound_memory
from sg_ray.trial.spec import BranchSource, TrialSpec


@dataclass(frozen=True)
class TrialContext:
    """What a process gives its trials: shared features, caches, device, threads."""

    features: Features
    cache_dir: Path
    device: torch.device
    num_threads: int = 1

    @classmethod
    def of(cls, takes: Resources, features: Features, cache_dir: Path) -> Self:
        """Return what a trial that ``takes`` so much computes with in this process.

        From then on the process has no more of a GPU's memory than that. Raises InfrastructureError
        if it takes a GPU and torch cannot use one here.
        """
        device = device_for(takes.gpus)
        bound_memory(device, takes.gpus)
        return cls(features, cache_dir.absolute(), device, takes.num_threads)

    @property
    def environment(self) -> dict[str, Any]:
        """The hardware and software that a trial's bits depend on here."""
        return environment(self.device, self.num_threads)


def inputs_of(spec: TrialSpec, context: TrialContext) -> Inputs:
    """Return what the trial's model is built from: features, and the branches it builds on.

    Raises InputError if the features are of other data than the trial was planned on, or if a
    branch's weights are not those on record.
    """
    if context.features.data_fingerprint != spec.data_fingerprint:
        raise InputError(
            f"trial {spec.name} was planned on data {spec.data_fingerprint}, but the features are "
            f"of data {context.features.data_fingerprint}. Plan the sweep again."
        )
    plain = Inputs(context.features, cache_dir=context.cache_dir, device=context.device)
    branches = {
        name: _branch(source, context, plain, spec.trained_with)
        for name, source in spec.branches.items()
    }
    return replace(plain, branches=branches)


def _branch(
    source: BranchSource, context: TrialContext, inputs: Inputs, trained_with: str | None
) -> Branch:
    family = get_family(source.configuration.family)
    assert isinstance(family, NeuralFamily)
    config = family.Config.model_validate(source.configuration.values)
    splits = {split: family.split_data(config, inputs, split) for split in inputs.features.labels}
    other_code = [] if trained_with is None else [trained_with]  # other outputs, maybe
    identity = None if source.weights is None else "-".join([*source.identity, *other_code])
    _check_weights(source)

    def load() -> Classifier:
        with torch_stream(0, "init"):  # whether outputs are cached must not shift random numbers
            model = family.build(config, replace(inputs, is_restoring=True))
        load_best(model, source.folder)
        return model.to(context.device).eval()

    return Branch(source.configuration.family, identity, load, splits)


def _check_weights(source: BranchSource) -> None:
    found = weights_id(source.folder)
    if None not in (found, source.weights) and found != source.weights:
        raise InputError(
            f"{source.folder / BEST} holds other weights than those of "
            f"{source.configuration.model} {source.trial_key} on record. Restore the file, or "
            f"delete the record {source.trial_key}.json to train that trial, and what builds on "
            "it, again."
        )
