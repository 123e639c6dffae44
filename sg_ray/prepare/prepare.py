"""The prepare stage: data checked, features made, and the plan that follows from the records."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from sg_ray.config import Model
from sg_ray.configuration import Configuration
from sg_ray.data.samples import DataSet, labels_of
from sg_ray.data.sources import DataConfig, load_data
from sg_ray.features.build import prepare_features
from sg_ray.features.packed import Features
from sg_ray.features.spec import FeatureSpec
from sg_ray.host.cpus import num_cpus
from sg_ray.models.families import get_family
from sg_ray.prepare.branches import GivenBranches
from sg_ray.training.metrics import check_objective

Progress = Callable[[str, int, int], None]
"""Called with what is being made, how many samples are done, and of how many."""


def pinned(models: Iterable[Model]) -> list[Model]:
    """Return the models with the hash of each pretrained file that their settings name.

    Raises InputError if such a file is not there, or not the one that a setting already means.
    """
    return [
        replace(model, settings=get_family(model.family).pinned(model.settings)) for model in models
    ]


def baselines(models: Iterable[Model]) -> dict[str, Configuration]:
    """Return the configuration of the experiment's own values, by model."""
    return {model.name: model.baseline for model in models}


def read_data(source: DataConfig, cache_dir: Path, objective: str) -> DataSet:
    """Return the data, on which the objective has a value.

    Raises InputError for anything unusable.
    """
    data = load_data(source, cache_dir)
    check_data(data, objective)
    return data


def check_data(data: DataSet, objective: str) -> None:
    """Raise InputError if the objective has no value on these data."""
    check_objective(objective, labels_of(data.splits["valid"]))


def prepare(
    models: Sequence[Model],
    given: GivenBranches,
    data: DataSet,
    cache_dir: Path,
    progress: Progress | None,
) -> Features:
    """Check encoders, and make (or find) the features that models and given branches read.

    Raises InputError for an encoder that cannot be built on.
    """
    for model in models:
        get_family(model.family).check(model.settings)
    specs = [*feature_specs(models), *given.feature_specs]
    return prepare_features(data, specs, cache_dir, num_workers=num_cpus(), progress=progress)


def feature_specs(models: Iterable[Model]) -> list[FeatureSpec]:
    """Return every feature kind that the models read."""
    return [
        spec for model in models for spec in get_family(model.family).feature_specs(model.settings)
    ]
