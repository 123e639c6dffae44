"""A recorded trial, trained again: do the same settings give the same numbers?"""

import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path

from pydantic import ValidationError

from sg_ray.cluster.epochs import Supplies, epochs_here
from sg_ray.cluster.losses import GroupFailure
from sg_ray.cluster.placing.admission import processors, shortage
from sg_ray.config import Resources
from sg_ray.configuration import Configuration
from sg_ray.data.sources import load_data
from sg_ray.errors import InputError
from sg_ray.features.build import prepare_features
from sg_ray.features.packed import Features
from sg_ray.features.spec import FeatureSpec
from sg_ray.host.cache_lock import using_cache
from sg_ray.host.cpus import num_cpus
from sg_ray.models.families import get_family
from sg_ray.prepare.prepare import Progress
from sg_ray.records.code_versions import trial_code_version
from sg_ray.records.lookup import RecordedTrial, find_branches
from sg_ray.records.record import (
    Failure,
    RunRecord,
    now_ms,
    read_history,
    read_surroundings,
    record_of,
)
from sg_ray.sweep_folder import SweepFolder
from sg_ray.training.checkpoint import weights_id
from sg_ray.training.compute import device_for
from sg_ray.training.loop import EpochResult
from sg_ray.trial.spec import BranchSource, TrialSpec


def reproduce(
    trial: RecordedTrial,
    folder: Path,
    *,
    progress: Progress | None = None,
    on_epoch: Callable[[EpochResult], None] = lambda _: None,
) -> RunRecord:
    """Train a recorded trial again in ``folder``; return the record of that, written nowhere.

    Same family, configuration, seeds, objective, data, branches, number of CPU threads, and row of
    the stack where it was trained in one; the code is this version's. A pruned trial is trained for
    the epochs it had. A failure is part of the record that comes back. Raises InputError if the
    data are others now, if something that a trial which did not fail needs is gone, or if
    ``folder`` is not empty. Interrupted, it leaves
    no ``folder``.
    """
    _check_empty(folder)
    try:
        with using_cache(trial.experiment.cache_dir):
            return _reproduce(trial, folder, progress, on_epoch)
    except KeyboardInterrupt:  # else the same command would be refused
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _reproduce(
    trial: RecordedTrial,
    folder: Path,
    progress: Progress | None,
    on_epoch: Callable[[EpochResult], None],
) -> RunRecord:
    branches = find_branches(trial)
    features = _prepare(trial, branches, progress)
    spec = _spec(trial.record, branches)
    takes = _resources(trial)
    _check_fits(takes)
    supplies = Supplies(
        features, trial.experiment.cache_dir.absolute(), trial.experiment.max_failures
    )
    context = supplies.context(takes)
    folder.mkdir(parents=True, exist_ok=True)
    epochs = epochs_here(
        spec,
        takes,
        supplies,
        SweepFolder(folder.absolute()),
        stack=trial.record.environment.get("stack"),
    )
    started_at_ms = now_ms()
    failure = _train(trial.record, epochs, on_epoch)
    return record_of(
        spec,
        trial.record.stage,
        read_history(folder),
        status="failed" if failure else "pruned" if _is_pruned(trial.record) else "completed",
        started_at_ms=started_at_ms,
        environment={
            **context.environment,
            **read_surroundings(folder),
        },
        failure=failure,
        weights=weights_id(folder),
    )


def cautions(trial: RecordedTrial) -> list[str]:
    """Return what may keep this machine from giving the recorded numbers, in sentences."""
    record, found = trial.record, []
    code_of_now = trial_code_version(record.family, record.own_metrics)
    if code_of_now not in (record.code_version, record.trained_with):
        found.append(
            f"the code that decides the numbers is {code_of_now} now, {record.code_version} in "
            "the record: the trial's key differs, and its numbers may"
        )
    device = device_for(_resources(trial).gpus).type
    if record.environment.get("device", device) != device:
        found.append(f"trained on {record.environment['device']}, now on {device}")
    num_threads, num_here = _resources(trial).cpus, num_cpus()
    if num_threads > num_here:
        found.append(
            f"trained with {num_threads:g} CPU threads; the {num_here} CPUs here share them, which "
            "is slower, and a library that uses fewer takes its sums in another order"
        )
    if record.failure is not None and record.failure.is_infrastructure:
        found.append("the recorded failure is of a process or a machine, not of the training")
    return found


def _check_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder}: is not an empty folder; a training would go on from what is there. "
            "Choose another --output-dir."
        )


def _prepare(
    trial: RecordedTrial, branches: Mapping[str, BranchSource], progress: Progress | None
) -> Features:
    """Load the data, and make (or find) the features that this one trial reads."""
    experiment, record = trial.experiment, trial.record
    data = load_data(experiment.data, experiment.cache_dir)
    if data.fingerprint != record.data_fingerprint:
        raise InputError(
            f"data: the trial was trained on {record.data_fingerprint}, its experiment's data "
            f"({data.name}) are {data.fingerprint} now. Bring back what they were, or name where "
            "they are: data.path=DIR"
        )
    read = [record.configuration, *(source.configuration for source in branches.values())]
    specs = [spec for configuration in read for spec in _feature_specs(configuration)]
    return prepare_features(
        data, specs, experiment.cache_dir, num_workers=num_cpus(), progress=progress
    )


def _feature_specs(configuration: Configuration) -> list[FeatureSpec]:
    family = get_family(configuration.family)
    try:
        return list(family.feature_specs(family.Config.model_validate(configuration.values)))
    except ValidationError as error:
        reason = error.errors()[0]
        raise InputError(
            f"the record's {configuration.label} configuration is not one of this version: "
            f"{'.'.join(map(str, reason['loc']))}: {reason['msg']}. Use the version of sg-ray that "
            "trained it."
        ) from error


def _spec(record: RunRecord, branches: Mapping[str, BranchSource]) -> TrialSpec:
    return TrialSpec(
        configuration=record.configuration,
        seed=record.seed,
        streams=record.streams,
        objective=record.objective,
        data_fingerprint=record.data_fingerprint,
        code_version=trial_code_version(record.family, record.own_metrics),
        branches=branches,
        own_metrics=record.own_metrics,
    )


def _resources(trial: RecordedTrial) -> Resources:
    """Return what the experiment gives the trial, with as many CPU threads as it had."""
    takes = trial.experiment.resources_of(trial.record.model)
    num_threads = trial.record.environment.get("num_threads", takes.num_threads)
    return takes.model_copy(update={"cpus": num_threads})


def _check_fits(takes: Resources) -> None:
    """Raise InputError for a group that Ray would let wait for ever."""
    lacks = shortage(takes, takes.num_workers, processors())
    if takes.is_group and lacks:
        raise InputError(
            f"resources: the trial ran on {takes.num_workers} workers, which take {lacks} here. "
            "Use such a machine, or one worker: resources.num_workers=1 (equal up to rounding, "
            "not bit for bit)"
        )


def _train(
    record: RunRecord, epochs: Generator[EpochResult], on_epoch: Callable[[EpochResult], None]
) -> Failure | None:
    """Run the epochs that are on record, or all there are; return the failure that ended them."""
    try:
        with closing(epochs):
            for result in epochs:
                on_epoch(result)
                if _is_pruned(record) and result.epoch >= record.epochs:
                    break
    except GroupFailure as failure:
        return failure.failure
    except Exception as error:  # a record, too, tells of any
        if isinstance(error, InputError) and record.status != "failed":
            raise
        return Failure.of(error)
    return None


def _is_pruned(record: RunRecord) -> bool:
    return record.status == "pruned"
