"""One trial without a sweep: ``sg-ray train``. Same numbers as the same trial in a sweep.

Its folder is told like a sweep's: a record in ``records/``, a journal that MLflow mirrors. The
trial's own files lie at its top, the model that ``sg_ray.detector`` loads in ``detector/``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sg_ray.cluster.epochs import Supplies, epochs_here
from sg_ray.commands import sg_ray_command
from sg_ray.config import Experiment, LrRangeSettings
from sg_ray.errors import InfrastructureError, InputError
from sg_ray.export import export_model, withdraw_model
from sg_ray.files import to_plain, write_text
from sg_ray.host.disk import explaining_disk_trouble
from sg_ray.host.folders import require_writable
from sg_ray.host.lock import locked
from sg_ray.host.scratch import remove_scratch
from sg_ray.host.signals import StopRequest
from sg_ray.models.families import get_family
from sg_ray.models.family import EstimatorFamily
from sg_ray.prepare.branches import GivenBranches
from sg_ray.prepare.prepare import Progress, pinned, prepare, read_data
from sg_ray.records import learning_rates
from sg_ray.records.code_versions import trial_code_version
from sg_ray.records.events import (
    EndStatus,
    EpochEnded,
    Event,
    RateSource,
    TrainingFinished,
    TrainingStarted,
    TrialFinished,
    TrialResumed,
    TrialStarted,
)
from sg_ray.records.folder_format import require_own_format, write_format
from sg_ray.records.journal import Journal, sweep_id_of
from sg_ray.records.origin import look_up_origin, note_packages
from sg_ray.records.record import (
    Failure,
    RunRecord,
    now_ms,
    read_history,
    read_surroundings,
    record_of,
    write_record,
)
from sg_ray.short_names import ShortNames
from sg_ray.sweep_folder import LAST, MODEL_CARD, SweepFolder
from sg_ray.training.batches import num_batches
from sg_ray.training.checkpoint import weights_id
from sg_ray.training.loop import EpochResult, Interrupted
from sg_ray.trial.context import TrialContext
from sg_ray.trial.run import check_folder, find_learning_rate
from sg_ray.trial.spec import TrialSpec, job_name

FindLr = Literal["no", "cached", "anew"]


@dataclass(frozen=True)
class RangeTest:
    """A range test of a trial: what it found, and where that came from."""

    spec: TrialSpec
    found: learning_rates.Found
    source: RateSource

    @property
    def suggested(self) -> dict[str, float]:
        """The learning rate that was found, as a setting; empty if there is none."""
        suggestion = self.found["suggestion"]
        return {} if suggestion is None else {"learning_rate": suggestion}


@dataclass(frozen=True)
class Training:
    """What is needed to train once: the trial, its experiment, what it is given, its folder."""

    experiment: Experiment
    spec: TrialSpec
    context: TrialContext
    folder: SweepFolder
    lr_range: RangeTest | None


def prepare_training(
    experiment: Experiment,
    name: str,
    seed: int,
    folder: Path | None,
    *,
    find_lr: FindLr = "no",
    progress: Progress | None = None,
    settings: Sequence[str] = (),
) -> Training:
    """Make features, find the learning rate if asked to, and settle the trial and its folder.

    ``name`` is that of the model.
    ``folder`` None is ``output_dir/train/NAME``, NAME telling configuration, seed and key.
    ``settings`` are those of the command line, to advise commands with the same. Raises InputError
    if a branch is missing or the folder holds another trial.
    """
    caches = {"cache_dir": experiment.cache_dir}
    if find_lr != "no":
        caches["lr_range.cache_dir"] = experiment.lr_range.cache_dir
    _check_writable(folder, experiment.output_dir, caches)
    if folder is not None:  # before anything is prepared for it
        require_own_format(SweepFolder(folder))
    models = {model.name: model for model in pinned(experiment.all_models)}
    data = read_data(experiment.data, experiment.cache_dir, experiment.objective)
    model = models[name]
    branches_from = experiment.branches_from
    given = GivenBranches(models.values(), branches_from, None)
    features = prepare(list(models.values()), given, data, experiment.cache_dir, progress)
    if branches_from is None and experiment.folder.is_sweep:  # the sweep of this name has them
        branches_from = experiment.folder.path
    trained = GivenBranches([model], branches_from, data.fingerprint)
    spec = TrialSpec(
        configuration=model.baseline,
        seed=seed,
        objective=experiment.objective,
        data_fingerprint=data.fingerprint,
        code_version=trial_code_version(model.family, experiment.own_metrics),
        branches=trained.of_model(model, seed),
        own_metrics=experiment.own_metrics,
    )
    _check_branches(spec, experiment.branches_from, experiment.output_dir / "train", settings)
    context = TrialContext.of(model.resources, features, experiment.cache_dir)
    lr_range = None
    if find_lr != "no" and model.is_neural:
        lr_range = _find_lr(experiment.lr_range, spec, context, use_cache=find_lr == "cached")
        found = ShortNames(model.baseline).named(model.configured(lr_range.suggested))
        spec = spec.with_configuration(found)
    folder = (folder or experiment.output_dir / "train" / job_name(spec)).absolute()
    place = SweepFolder(folder)
    require_own_format(place)
    check_folder(spec, folder)
    _check_place_of_model(place)
    settled = experiment.only(name, config=spec.configuration.values, seed=seed)
    return Training(settled, spec, context, place, lr_range)


def steps_per_epoch(training: Training) -> int:
    """Return how many optimisation steps an epoch has; 0 for a family that fits in one go."""
    batch_size = training.spec.configuration.values.get("batch_size")
    num_samples = len(training.context.features.labels["train"])
    return 0 if batch_size is None else num_batches(num_samples, batch_size)


def train_once(
    training: Training,
    *,
    listeners: tuple[Callable[[Event], None], ...] = (),
    stop: StopRequest | None = None,
    on_epoch: Callable[[EpochResult], None] = lambda _: None,
) -> RunRecord:
    """Train, going on from ``folder/last.pt`` if it exists; return the record.

    The record is in ``folder/records/``. Raises what the training raises, after it is on record;
    Interrupted, with ``last.pt`` written, if ``stop`` was asked for.
    """
    spec, folder = training.spec, training.folder
    remove_scratch()  # of a killed training's workers
    with locked(folder), explaining_disk_trouble(folder.path):
        write_format(folder)
        write_text(folder.training_settings, training.experiment.to_yaml())
        note_packages(folder)
        look_up_origin()  # of now, not of when a record is written
        journal = Journal(folder.events, listeners)
        with closing(journal):
            _announce(training, journal)
            status: EndStatus = "failed"
            try:
                withdraw_model(folder.detector)  # an earlier training's
                record = _train(training, journal, stop or StopRequest(), on_epoch)
                status = "completed"
                _export(training, record)
            except (Interrupted, KeyboardInterrupt):
                status = "interrupted"
                raise
            finally:
                journal.append(TrainingFinished(trial_key=spec.trial_key, status=status))
    return record


def _train(
    training: Training,
    journal: Journal,
    stop: StopRequest,
    on_epoch: Callable[[EpochResult], None],
) -> RunRecord:
    spec, folder = training.spec, training.folder
    started_at_ms = now_ms()
    failure = None
    try:
        for result in _epochs(training, stop):
            journal.append(
                EpochEnded(trial_key=spec.trial_key, epoch=result.epoch, metrics=result.metrics)
            )
            on_epoch(result)
            if result.stop_reason is not None:
                break
    except (Interrupted, InputError, InfrastructureError, OSError):
        raise
    except Exception as error:
        failure = error
    history = read_history(folder.path)
    record = record_of(
        spec,
        "train",
        history,
        status="failed" if failure else "completed",
        started_at_ms=started_at_ms,
        environment={
            **training.context.environment,
            **read_surroundings(folder.path),
        },
        failure=Failure.of(failure) if failure else None,
        weights=weights_id(folder.path),
    )
    write_record(folder, record)
    journal.append(
        TrialFinished(
            trial_key=spec.trial_key,
            status=record.status,
            epochs=record.epochs,
            metrics=record.metrics,
        )
    )
    if failure is not None:
        raise failure
    return record


def _export(training: Training, record: RunRecord) -> None:
    """Write the model beside the record that is there already. Raises InputError if it cannot."""
    spec, folder = training.spec, training.folder
    cache_dir = training.experiment.cache_dir
    try:
        export_model(record, spec.branches, folder.path, cache_dir, folder.detector)
    except (InputError, FileNotFoundError) as error:
        raise InputError(
            f"{folder}: trained and on record, but sg-ray predict cannot have its model ({error}). "
            "When that is mended, the same command makes it."
        ) from error


def _check_writable(folder: Path | None, output_dir: Path, caches: Mapping[str, Path]) -> None:
    """Raise InputError, before hours of work, for a folder that takes no files.

    ``caches`` by setting; one that is there may hold all that is needed.
    """
    if folder is None:
        require_writable(output_dir / "train", "output_dir")
    else:
        require_writable(folder, "--output-dir")
    for setting, place in caches.items():
        if not place.is_dir():
            require_writable(place, setting)


def _check_place_of_model(folder: SweepFolder) -> None:
    """Raise InputError if the model's place is taken by something that is not ours."""
    place = folder.detector
    if place.exists() and not (place / MODEL_CARD).is_file():
        raise InputError(
            f"{place} is in the way: the trained model would be written there. Move it, or choose "
            "another --output-dir."
        )


def _announce(training: Training, journal: Journal) -> None:
    spec, folder = training.spec, training.folder
    sweep_id, plan = sweep_id_of(folder), to_plain(training.experiment)
    journal.append(TrainingStarted(name=spec.name, sweep_id=sweep_id, plan=plan))
    journal.append(
        TrialStarted(
            trial_key=spec.trial_key,
            model=spec.model,
            family=spec.family,
            name=spec.configuration.name,
            stage="train",
            config=spec.configuration.values,
            config_hash=spec.config_hash,
            seed=spec.seed,
        )
    )
    if training.lr_range is not None:
        test = training.lr_range
        learning_rates.note(
            folder, journal, test.spec, test.found, source=test.source, trial_key=spec.trial_key
        )
    is_on_record = folder.record(spec.trial_key).exists()  # its end is told, and once only
    if (folder.path / LAST).exists() and not is_on_record:
        epoch = len(read_history(folder.path))
        journal.append(TrialResumed(trial_key=spec.trial_key, epoch=epoch))


def _epochs(training: Training, request: StopRequest) -> Iterator[EpochResult]:
    experiment, folder, spec = training.experiment, training.folder, training.spec
    # What learns by steps has a position to save; an estimator's fit is one step.
    request.raises = isinstance(get_family(spec.family), EstimatorFamily)
    takes = experiment.resources_of(spec.model)
    context = training.context
    supplies = Supplies(
        context.features,
        context.cache_dir,
        experiment.max_failures,
        checkpoint_every_s=experiment.checkpoint_every_s,
    )
    try:
        yield from epochs_here(spec, takes, supplies, folder, request)
    except Interrupted:
        if not (folder.path / LAST).exists():  # a group that was still being set up
            raise KeyboardInterrupt from None
        raise
    finally:
        request.raises = True


def _find_lr(
    settings: LrRangeSettings, spec: TrialSpec, context: TrialContext, *, use_cache: bool
) -> RangeTest:
    found = learning_rates.cached(settings, spec) if use_cache else None
    if found is not None:
        return RangeTest(spec, found, "cache")
    sizes = settings.model_dump(include={"num_steps", "num_seeds", "max_samples"})
    try:
        result = {"lr_range": find_learning_rate(spec, context, **sizes).as_dict()}
    except Exception as error:  # a training need not fail because its range test did
        result = {"failure": Failure.of(error).model_dump()}
    return RangeTest(spec, learning_rates.from_result(settings, spec, result), "range test")


def _check_branches(
    spec: TrialSpec, branches_from: Path | None, trainings: Path, settings: Sequence[str]
) -> None:
    """Raise InputError, with the commands that help, if the trial lacks what it builds on."""
    missing = [name for name in get_family(spec.family).branches if name not in spec.branches]
    if missing:
        same = [text for text in settings if not text.startswith("branches_from=")]

        def command(family: str, *more: str) -> str:
            return sg_ray_command("train", family, *same, "--seed", spec.seed, *more)

        commands = "\n".join(f"  {command(name)}" for name in missing)
        where = f" in {branches_from}" if branches_from else ""
        raise InputError(
            f"{spec.family} builds on {' and '.join(missing)} trained with seed {spec.seed}, and "
            f"there is none{where}. Train them first, with the same data:\n{commands}\n"
            f"then: {command(spec.family, f'branches_from={trainings}')}"
        )
