"""What the checks of one experiment share; each part is made when it is first asked for."""

import importlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from sg_ray.cluster.ray_check import RayReport
from sg_ray.config import Experiment, Model
from sg_ray.data.samples import DataSet, Sample
from sg_ray.data.sources import load_data
from sg_ray.data.splits import stratified_subset
from sg_ray.features.build import prepare_features
from sg_ray.features.packed import FeatureKind, Features
from sg_ray.features.spec import FeatureSpec, TokenSpec
from sg_ray.models.families import get_family
from sg_ray.models.family import NeuralConfig
from sg_ray.preflight.first_step import FirstStep, take_step
from sg_ray.prepare.branches import GivenBranches
from sg_ray.training.compute import device_for
from sg_ray.trial.spec import BranchSource

_NUM_TRAIN_ROWS = 8
"""On a CPU: a base-size encoder takes half a minute for as many."""
_MAX_TRAIN_ROWS = 64
"""On a GPU, where a whole batch tells whether the memory is enough."""
_NUM_VALID_ROWS = 16


class Context:
    """An experiment, a temporary folder, and what checks make of both.

    Every property raises what making it raises, each time it is asked for.
    """

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        """``folder`` is deleted when the checks are done."""
        self.experiment = experiment
        self.folder = folder
        self.ray_report: RayReport | None = None
        """Set by the check that runs Ray."""
        self._steps: dict[str, FirstStep] = {}

    @cached_property
    def data(self) -> DataSet:
        """The whole data set, as the sweep would read it."""
        return load_data(self.experiment.data, self.experiment.cache_dir)

    @cached_property
    def subset(self) -> DataSet:
        """Some of the longest training functions, half of each label, and a few to validate on.

        The longest, because they decide how much memory a step takes; those of validation are
        drawn at random with the labels in proportion, and stand for the data as a whole.
        """
        splits = self.data.splits
        train = _longest(splits["train"], self._num_train_rows)
        valid = stratified_subset(splits["valid"], _NUM_VALID_ROWS, self.experiment.data.seed)
        return DataSet("preflight", {"train": train, "valid": valid})

    @cached_property
    def models(self) -> dict[str, Model]:
        """The experiment's models by name, those that others build on first."""
        return {model.name: model for model in self.experiment.all_models}

    def features_of(self, name: str) -> Features:
        """Return what a model and its branches read of the subset; each kind is made once.

        Vocabularies have the size that is asked for, which the whole data would fill.
        """
        specs = self.specs_of(name)
        features = prepare_features(self.subset, specs, self.cache_dir)
        kinds = {spec.key: _at_full_vocabulary(features.kinds[spec.key], spec) for spec in specs}
        return replace(features, kinds=kinds)

    def specs_of(self, name: str) -> list[FeatureSpec]:
        """Return the feature kinds that a model and its branches read."""
        model = self.model_of(name)
        own = list(get_family(model.family).feature_specs(model.settings))
        return own + [s for branch in model.branches.values() for s in self.specs_of(branch)]

    def model_of(self, name: str) -> Model:
        """Return a model with the experiment's own values, or with those of its given branch."""
        model = self.models.get(name) or self.experiment.model(name)
        given = self.given_branches.get(name)
        if not given:
            return model
        values = given[0].configuration.values
        return replace(model, settings=type(model.settings).model_validate(values))

    @property
    def cache_dir(self) -> Path:
        """Stands in for the experiment's own, which stays as it is."""
        return self.folder / "cache"

    def step(self, name: str) -> FirstStep:
        """Train a model for a step (once), and before it the models that it builds on."""
        if name not in self._steps:
            model = self.model_of(name)
            self._steps[name] = take_step(
                model,
                {family: self.step(branch).source for family, branch in model.branches.items()},
                self.features_of(name),
                seed=self.experiment.replicate.seeds[0],
                objective=self.experiment.objective,
                folder=self.folder / "first_steps" / name,
                cache_dir=self.cache_dir,
                own_metrics=self.experiment.own_metrics,
            )
        return self._steps[name]

    @cached_property
    def given_branches(self) -> dict[str, list[BranchSource]]:
        """The trained branches that ``branches_from`` names: one per planned seed that has one."""
        lookups = GivenBranches(
            self.models.values(), self.experiment.branches_from, self.data.fingerprint
        ).by_model
        seeds = self.experiment.replicate.seeds
        return {
            name: [branch for branch in map(find, seeds) if branch is not None]
            for name, find in lookups.items()
        }

    @property
    def _num_train_rows(self) -> int:
        """As many as the largest batch that a model reads on a GPU, within limits."""
        sizes = [
            model.settings.batch_size
            for model in self.models.values()
            if isinstance(model.settings, NeuralConfig)
            and not model.branches
            and device_for(model.resources.gpus).type == "cuda"
        ]
        return min(max([_NUM_TRAIN_ROWS, *sizes]), _MAX_TRAIN_ROWS)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder that ends with the block, and with it all temporary files made meanwhile.

    Ray's dashboard, a process of its own, leaves some behind.
    """
    with TemporaryDirectory(prefix="sg-ray-pre-") as name, _temporary_files_in(name):
        yield Path(name)


@contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    """Have this process and those it starts use ``folder``; Ray's sessions stay beside it.

    They are there in a sweep too, and their sockets need short paths.
    """
    with suppress(Exception):  # a check of its own tells of that
        importlib.import_module("matplotlib")  # without a home its folder is temporary, until exit
    environment = dict(os.environ)
    default, tempfile.tempdir = tempfile.tempdir, folder
    os.environ.setdefault("RAY_TMPDIR", os.environ.get("TMPDIR") or str(Path(folder).parent))
    os.environ["TMPDIR"] = folder
    try:
        yield
    finally:
        tempfile.tempdir = default
        # PyTorch, for one, keeps in a variable of its own where its caches are.
        set_here = [name for name, value in os.environ.items() if folder in value]
        for name in ("RAY_TMPDIR", *set_here):
            os.environ.pop(name)
            if name in environment:
                os.environ[name] = environment[name]


def _longest(samples: Sequence[Sample], num_rows: int) -> list[Sample]:
    """Return the longest samples, half of them of each label if there are as many."""
    by_length = sorted(samples, key=lambda sample: len(sample.source), reverse=True)
    return [
        sample
        for label in (0, 1)
        for sample in [s for s in by_length if s.label == label][: num_rows // 2]
    ]


def _at_full_vocabulary(kind: FeatureKind, spec: FeatureSpec) -> FeatureKind:
    """A tokenizer trained on a few functions learns few tokens; models are sized by the setting."""
    if not isinstance(spec, TokenSpec) or spec.tokenizer != "train":
        return kind
    return replace(kind, meta={**kind.meta, "vocab_size": spec.vocab_size})
