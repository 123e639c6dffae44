"""One trial: one configuration x one seed, the same wherever it runs.

Called by the Tune actor, by each worker of a TorchTrainer group, and by ``sg-ray train``.
"""

import json
import platform
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import BaseModel, ConfigDict, Field

from sg_ray.config import Resources
from sg_ray.configuration import Configuration
from sg_ray.errors import InputError
from sg_ray.features.packed import Features
from sg_ray.files import content_hash, short_hash, write_json
from sg_ray.models.families import FAMILIES, get_family
from sg_ray.models.family import (
    Branch,
    Classifier,
    EstimatorFamily,
    Inputs,
    NeuralConfig,
    NeuralFamily,
)
from sg_ray.plugins import Plugin
from sg_ray.statistics.own_metrics import OWN_METRICS, Direction
from sg_ray.sweep_folder import BEST, TEST_PREDICTIONS
from sg_ray.training.checkpoint import load_best, read_best, read_last, weights_id
from sg_ray.training.compute import Compute, device_for, make_compute
from sg_ray.training.compute import environment as environment
from sg_ray.training.estimator import fit_estimator
from sg_ray.training.loop import (
    EpochResult,
    ShouldStop,
    Training,
    make_training,
    never,
    predict,
    train,
)
from sg_ray.training.lr_range import LrRange, range_test
from sg_ray.training.metrics import scored
from sg_ray.training.predictions import Predictions, write_predictions
from sg_ray.training.saving import AT_EPOCHS, Saving
from sg_ray.training.seeding import (
    Seeds,
    Stream,
    arithmetic_as_before,
    deterministic,
    seed_name,
    torch_stream,
)
from sg_ray.training.shared_gpu import bound_memory, telling_neighbours_apart
from sg_ray.training.stacked import PAYS_BELOW, StackedTraining, own_failure, relative_cost
from sg_ray.training.workers import SingleWorker, Workers


class BranchSource(BaseModel):
    """A finished trial that another model's trial builds on."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    trial_key: str
    configuration: Configuration
    config_hash: str
    folder: Path
    """Holds the branch's best_model.pt."""
    weights: str | None = None
    """Its ``weights_id``, as recorded; None of a branch that failed, or of an earlier version."""

    @property
    def identity(self) -> list[str]:
        """The trial and its weights: trained again on other hardware, they may be others."""
        return [self.trial_key] if self.weights is None else [self.trial_key, self.weights]


class TrialSpec(BaseModel):
    """Everything that decides a trial's numbers, and the key that follows from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    configuration: Configuration
    seed: int
    objective: str
    data_fingerprint: str
    code_version: str
    branches: Mapping[str, BranchSource] = Field(default_factory=dict)
    """By family, which is how what builds on them asks for them."""
    streams: Mapping[Stream, int] = Field(default_factory=dict)
    """Seeds of single streams of random numbers, each in place of ``seed``."""
    trained_with: str | None = None
    """The version of the code that trains it, where it counts as made by ``code_version``."""
    own_metrics: Mapping[str, Direction] = Field(default_factory=dict)
    """Metrics of the user's own that are measured, too; ``code_version`` tells their code."""

    @cached_property
    def config_hash(self) -> str:
        """Hash of the configuration (with its branches' configurations), without the seed.

        What results are grouped by. A branch counts by the digits that are shown: a sweep has one
        configuration of each, and so a fusion's hash begins as it always did.
        """
        return self.configuration.hash_on(
            {name: short_hash(source.config_hash) for name, source in self.branches.items()}
        )

    @cached_property
    def trial_key(self) -> str:
        """Hash of configuration, seeds, data, objective, code version and branches.

        Of pretrained files and branches it is their content that counts, not where they lie.
        """
        branches = {name: source.identity for name, source in self.branches.items()}
        deciding = (self.seed, self.objective, self.data_fingerprint, self.code_version, branches)
        own_seeds = [self.streams] if self.streams else []  # trials without any keep their keys
        return content_hash([*self.configuration.identity, *deciding, *own_seeds], 16)

    @property
    def name(self) -> str:
        """Readable name, e.g. ``gnn-1f0c9a2b-seed42``, or ``gnn-1f0c9a2b-seed42-init7``."""
        config = short_hash(self.config_hash)
        return f"{self.model}-{config}-{self.row}"

    @property
    def row(self) -> str:
        """What tells it from other trials of its configuration, e.g. ``seed42-init7``."""
        return seed_name(self.seed, self.streams)

    @property
    def model(self) -> str:
        """The name of the model that is trained."""
        return self.configuration.model

    @property
    def family(self) -> str:
        """The code that trains it."""
        return self.configuration.family

    @property
    def seeds(self) -> Seeds:
        """What its training draws from."""
        return Seeds(self.seed, self.streams)

    def with_streams(self, streams: Mapping[Stream, int]) -> Self:
        """Return the trial that takes these streams, and no others, from seeds of their own."""
        return self.model_validate({**self.model_dump(), "streams": streams})

    def with_configuration(self, configuration: Configuration) -> Self:
        """Return the trial with other values, all else the same."""
        return self.model_validate({**self.model_dump(), "configuration": configuration})


def job_name(spec: TrialSpec) -> str:
    """Return the folder name of a trial, readable and unique in a sweep."""
    return f"{spec.name}-{spec.trial_key[:8]}"


@dataclass(frozen=True)
class OwnCode:
    """The user's code that trials need, as a worker takes it along: source and all."""

    families: tuple[Plugin, ...]
    metrics: tuple[Plugin, ...] = ()
    versions: tuple[str, ...] = ()
    """Of the code of each, where the trials are recorded."""

    @classmethod
    def of(cls, families: Iterable[str], metrics: Iterable[str] = ()) -> Self:
        """Return what ``families``, and those that they build on, have from outside.

        ``metrics`` are those of the user's own.
        """
        own = FAMILIES.plugged_in(families), OWN_METRICS.plugged_in(metrics)
        return cls(*own, tuple(plugin.version for plugins in own for plugin in plugins))

    @property
    def modules(self) -> list[str]:
        """References to what does not travel: it must be installed wherever trials run."""
        plugins = (*self.families, *self.metrics)
        return [plugin.reference for plugin in plugins if plugin.source is None]

    def plug_in(self) -> None:
        """Make it known in this process.

        Raises InputError if something is not installed here, or in another version.
        """
        for family in self.families:
            FAMILIES.plug_in(family)
        for metric in self.metrics:
            OWN_METRICS.plug_in(metric)
        for plugin, version in zip((*self.families, *self.metrics), self.versions, strict=True):
            if plugin.version != version:
                raise InputError(
                    f"{plugin.reference}: its code on {platform.node()} is not that of the process "
                    "which started the trials. Install the same on all machines, and start again."
                )


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


def run_trial(
    spec: TrialSpec,
    context: TrialContext,
    folder: Path,
    *,
    workers: Workers | None = None,
    should_stop: ShouldStop = never,
    saving: Saving = AT_EPOCHS,
) -> Generator[EpochResult]:
    """Train ``spec`` in ``folder``, epoch by epoch, going on from ``folder/last.pt`` if it exists.

    Leaves best_model.pt, valid_predictions.npz, last.pt, metrics.jsonl and training_metadata.json
    in ``folder``. Raises Interrupted, with the position saved, once ``should_stop`` says so after a
    step.
    """
    with arithmetic_as_before(), telling_neighbours_apart():
        yield from _epochs(spec, context, folder, workers, should_stop, saving)


def _epochs(
    spec: TrialSpec,
    context: TrialContext,
    folder: Path,
    workers: Workers | None,
    should_stop: ShouldStop,
    saving: Saving,
) -> Generator[EpochResult]:
    # One of several workers cannot redo a pass in which gradients are exchanged: no strict mode.
    is_alone = workers is None or workers.world_size == 1
    deterministic(context.num_threads, strict=is_alone)
    family = get_family(spec.family)
    config = family.Config.model_validate(spec.configuration.values)
    inputs = _inputs(spec, context)
    if isinstance(family, EstimatorFamily):
        _check_no_streams(spec)
        yield fit_estimator(
            family, config, inputs, seed=spec.seed, objective=spec.objective, folder=folder,
            identity=_identity(spec), own_metrics=OWN_METRICS.measured(spec.own_metrics),
        )  # fmt: skip
        return
    assert isinstance(family, NeuralFamily)
    with torch_stream(spec.seeds.init, "init"):
        model = family.build(config, inputs)
    yield from train(
        model,
        family.split_data(config, inputs, "train"),
        family.split_data(config, inputs, "valid"),
        config,
        seeds=spec.seeds,
        objective=spec.objective,
        folder=folder,
        identity=_identity(spec),
        device=context.device,
        workers=workers or SingleWorker(),
        should_stop=should_stop,
        saving=saving,
        valid_ids=context.features.sample_ids("valid"),
        own_metrics=OWN_METRICS.measured(spec.own_metrics),
    )


@dataclass(frozen=True)
class StackedTrial:
    """One of the trials that train as one, in a folder of its own."""

    spec: TrialSpec
    folder: Path
    saving: Saving = AT_EPOCHS


Ends = dict[str, EpochResult | Exception]
"""By trial key: the epoch that a trial has completed, or what has ended it."""


def run_stacked(
    trials: Sequence[StackedTrial],
    rows: Sequence[str],
    context: TrialContext,
    *,
    should_stop: ShouldStop = never,
    noted: Mapping[str, Any] | None = None,
) -> Generator[Ends]:
    """Train trials of one configuration as one model, round by round; see ``StackedTraining``.

    ``rows`` names the seed of each row, also of those without a trial. Each trial leaves in its
    folder what ``run_trial`` does. ``noted`` is the ``stack`` on record of one trained again.
    """
    with arithmetic_as_before(), telling_neighbours_apart():
        deterministic(context.num_threads)
        first = trials[0].spec
        family = get_family(first.family)
        assert isinstance(family, NeuralFamily)
        config = family.Config.model_validate(first.configuration.values)
        compute = make_compute(config, context.device)
        members: dict[int, Training] = {}
        failed: Ends = {}
        for trial in trials:
            try:
                made = _stacked_member(trial, context, compute)
            except Exception as error:
                failed[trial.spec.trial_key] = own_failure(error)
                continue
            made.stack = made.stack or noted
            members[rows.index(trial.spec.row)] = made
        if failed:
            yield failed
        if not members:
            return
        key_of = {rows.index(trial.spec.row): trial.spec.trial_key for trial in trials}
        for news in StackedTraining(members, rows, config, compute).rounds(should_stop):
            yield {key_of[row]: one for row, one in news.items()}


def why_alone(
    trials: Sequence[StackedTrial], context: TrialContext, num_at_once: int
) -> str | None:
    """Return why trials should rather train each by itself, ``num_at_once`` beside each other.

    None: they should train as one. A few steps are timed here, once for a configuration, a device
    and a number of trials: later it is known from the folder of caches. Nothing is trained by it.
    """
    spec = trials[0].spec
    family = get_family(spec.family)
    config = family.Config.model_validate(spec.configuration.values)
    assert isinstance(config, NeuralConfig)
    compute = make_compute(config, context.device)
    if compute.precision.name == "fp16":
        return "fp16 scales the loss of each by its own factor"
    device = [context.environment[name] for name in ("device_name", "num_threads", "torch")]
    deciding = (spec.config_hash, spec.data_fingerprint, spec.code_version, len(trials), *device)
    path = context.cache_dir / "stacked_seeds" / f"{content_hash(deciding, 16)}.json"
    cost = _read_cost(path)
    if cost is None:
        with arithmetic_as_before():
            deterministic(context.num_threads)
            members = [_stacked_member(_unsaved(one), context, compute) for one in trials]
            alone = _stacked_member(_unsaved(trials[0]), context, compute)
            cost = relative_cost(alone, members, config, compute)
        write_json(path, {"cost": cost})
    told = f"{len(trials)} as one take as long as {cost:.1f} alone, and {num_at_once} run at once"
    return None if cost <= PAYS_BELOW * len(trials) / num_at_once else told


def _unsaved(trial: StackedTrial) -> StackedTrial:
    return StackedTrial(trial.spec, trial.folder / ".measured")


def _read_cost(path: Path) -> float | None:
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["cost"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def run_in_its_row(
    spec: TrialSpec, context: TrialContext, folder: Path, noted: Mapping[str, Any]
) -> Generator[EpochResult]:
    """Train one trial as it was in the stack that is ``noted``; the other rows are empty."""
    trial = StackedTrial(spec, folder)
    for news in run_stacked([trial], noted["seeds"], context, noted=noted):
        one = news[spec.trial_key]
        if isinstance(one, Exception):
            raise one
        yield one


def _stacked_member(trial: StackedTrial, context: TrialContext, compute: Compute) -> Training:
    spec = trial.spec
    family = get_family(spec.family)
    assert isinstance(family, NeuralFamily)
    config = family.Config.model_validate(spec.configuration.values)
    inputs = _inputs(spec, context)
    with torch_stream(spec.seeds.init, "init"):
        model = family.build(config, inputs)
    return make_training(
        model,
        family.split_data(config, inputs, "train"),
        family.split_data(config, inputs, "valid"),
        config,
        seeds=spec.seeds,
        objective=spec.objective,
        folder=trial.folder,
        identity=_identity(spec),
        compute=compute,
        saving=trial.saving,
        valid_ids=context.features.sample_ids("valid"),
        own_metrics=OWN_METRICS.measured(spec.own_metrics),
        is_stacked=True,
    )


def check_folder(spec: TrialSpec, folder: Path) -> None:
    """Raise InputError, with the differences, if ``folder/last.pt`` is another trial's."""
    settings = {
        "config": dict(spec.configuration.values),
        "identity": _identity(spec),
        "seed": spec.seed,
        "streams": dict(spec.streams),
        "objective": spec.objective,
    }
    read_last(folder, settings)


def _check_no_streams(spec: TrialSpec) -> None:
    if spec.streams:
        raise InputError(
            f"trial {spec.name}: {spec.model} fits in one go, from one seed; it has no streams "
            f"to vary alone ({', '.join(spec.streams)}). Vary its seed."
        )


def _identity(spec: TrialSpec) -> dict[str, Any]:
    """Return what tells the trial from others, so that a refusal can say what differs."""
    names = {"seed", "data_fingerprint", "code_version"}
    own = {"trial_key": spec.trial_key, "model": spec.model, "family": spec.family}
    trained_with = {} if spec.trained_with is None else {"trained_with": spec.trained_with}
    return own | trained_with | spec.model_dump(include=names)


@arithmetic_as_before()
@telling_neighbours_apart()
def score_test(spec: TrialSpec, context: TrialContext, folder: Path) -> dict[str, float]:
    """Score a finished trial's best model on the test split, at its threshold from validation.

    Leaves test_predictions.npz in ``folder``, where the model lies.
    """
    deterministic(context.num_threads)
    family = get_family(spec.family)
    config = family.Config.model_validate(spec.configuration.values)
    inputs = _inputs(spec, context)
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
    family = get_family(spec.family)
    assert isinstance(family, NeuralFamily)
    config = family.Config.model_validate(spec.configuration.values)
    inputs = _inputs(spec, context)

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


def _inputs(spec: TrialSpec, context: TrialContext) -> Inputs:
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


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
