"""The prepare stage: data checked, features made, and the plan that follows from the records."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from sg_ray.code_version import code_version
from sg_ray.config import Experiment, ModelSettings
from sg_ray.data.samples import DataSet, labels_of
from sg_ray.data.sources import DataConfig, SplitLimits, load_data
from sg_ray.features.build import prepare_features
from sg_ray.features.graph_files import export_graphs
from sg_ray.features.packed import Features
from sg_ray.features.spec import FeatureSpec, GraphSpec
from sg_ray.host.cpus import num_cpus
from sg_ray.models.families import get_family
from sg_ray.sweep.branches import GivenBranches
from sg_ray.sweep.learning_rates import read_learning_rates
from sg_ray.sweep.ledger import Identity, Ledger
from sg_ray.sweep.planner import Planner
from sg_ray.sweep.records import read_records
from sg_ray.training.metrics import check_objective

GraphFormat = Literal["packed", "pt"]

Progress = Callable[[str, int, int], None]
"""Called with what is being made, how many samples are done, and of how many."""


def pinned(experiment: Experiment) -> Experiment:
    """Return the experiment with the hash of each pretrained file that it names.

    Raises InputError if such a file is not there, or not the one that a setting already means.
    """
    models = dict(experiment.models)
    for name in experiment.all_families:
        config = experiment.baseline(name)
        exact = get_family(name).pinned(config)
        if exact != config:
            own = models.get(name, ModelSettings())
            models[name] = own.model_copy(update={"config": exact.model_dump(mode="json")})
    return experiment.model_copy(update={"models": models})


def configs_of(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Return the values that each family has in the experiment."""
    return {name: experiment.baseline(name).model_dump() for name in experiment.all_families}


def read_data(experiment: Experiment) -> DataSet:
    """Return the data, on which the experiment's objective has a value.

    Raises InputError for anything unusable.
    """
    data = load_data(experiment.data, experiment.cache_dir)
    check_data(experiment, data)
    return data


def check_data(experiment: Experiment, data: DataSet) -> None:
    """Raise InputError if the objective has no value on these data."""
    check_objective(experiment.objective, labels_of(data.splits["valid"]))


def prepare(
    experiment: Experiment, progress: Progress | None, data: DataSet | None = None
) -> tuple[DataSet, Features]:
    """Load and check data (unless they are given) and encoders, and make (or find) the features.

    Raises InputError for data that cannot be used, or on which the objective has no value.
    """
    for family in experiment.all_families:
        get_family(family).check(experiment.baseline(family))
    data = data or read_data(experiment)
    features = prepare_features(
        data,
        feature_specs(experiment),
        experiment.cache_dir,
        num_workers=num_cpus(),
        progress=progress,
    )
    return data, features


def make_planner(
    experiment: Experiment, data: DataSet, *, branch_seeds: Sequence[int] = ()
) -> Planner:
    """Return the plan of what the sweep's folder does not hold yet.

    Raises InputError if ``branches_from`` lacks a branch that is needed, or one of its seeds in
    ``branch_seeds``.
    """
    sweep_dir = experiment.sweep_dir
    identity = Identity(data.fingerprint, code_version(), "test" in data.splits)
    ledger = Ledger(sweep_dir, read_records(sweep_dir), read_learning_rates(sweep_dir))
    given = GivenBranches(experiment, data.fingerprint)
    given.require(branch_seeds)
    return Planner(experiment, ledger, identity, given.by_family)


def feature_specs(experiment: Experiment) -> list[FeatureSpec]:
    """Return every feature kind that the experiment's families and given branches read."""
    own = [
        spec
        for family in experiment.all_families
        for spec in get_family(family).feature_specs(experiment.baseline(family))
    ]
    given = GivenBranches(experiment, None).feature_specs
    return list({spec.key: spec for spec in [*own, *given]}.values())


def make_graphs(
    data_dir: Path,
    out: Path,
    progress: Progress | None,
    *,
    file_format: GraphFormat = "packed",
    max_samples: int | None = None,
) -> dict[str, int]:
    """Make the program graphs of a data folder below ``out``; return how many, by split.

    "packed" is the store that trials read, "pt" one file a function (``export_graphs``). At most
    ``max_samples`` functions of each split, with the labels in proportion.
    """
    limit = SplitLimits(train=max_samples, valid=max_samples, test=max_samples)
    data = load_data(DataConfig(path=data_dir, limit=limit))
    spec, num_workers = GraphSpec(), num_cpus()
    if file_format == "packed":
        prepare_features(data, [spec], out, num_workers=num_workers, progress=progress)
    else:
        settings = {"max_samples": max_samples}
        export_graphs(
            data, spec, out, settings=settings, num_workers=num_workers, progress=progress
        )
    return {split: len(samples) for split, samples in data.splits.items()}
