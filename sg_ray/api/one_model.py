"""One configuration with one seed, no sweep, with all that goes with it."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sg_ray.api.experiments import as_experiment
from sg_ray.api.frames import Metrics, curve_of, curves_frame
from sg_ray.api.running import raise_again
from sg_ray.config import Experiment
from sg_ray.config.auto import hardware_line
from sg_ray.detector import Detector
from sg_ray.host.cache_lock import using_cache
from sg_ray.host.signals import StopRequest, stopping
from sg_ray.live.work_view import WorkView
from sg_ray.models.families import FAMILIES, get_family
from sg_ray.plugins import Plugin, is_reference
from sg_ray.records.record import RunRecord
from sg_ray.single.train_one import FindLr, Training, prepare_training, steps_per_epoch, train_once
from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.mlflow_mirror import check_tracking, mirror_of
from sg_ray.training.loop import Interrupted


@dataclass(frozen=True)
class TrainedModel:
    """A model that was trained by itself: its record, and the folder with all that it left."""

    folder: SweepFolder
    record: RunRecord

    @property
    def metrics(self) -> Metrics:
        """The metrics of its best epoch, by name."""
        return self.record.metrics

    @property
    def curve(self) -> pd.DataFrame:
        """A line for each epoch: what tells the trial, ``epoch`` (from 1), and every metric."""
        return curves_frame([curve_of(self.record)])

    def detector(self) -> Detector:
        """Return the model, ready to score functions."""
        return Detector.load(self.folder.detector)


def train_model(
    family: str,
    experiment: Experiment | str | Path | None = None,
    *,
    seed: int | None = None,
    folder: str | Path | None = None,
    find_lr: FindLr = "no",
    show: bool = True,
) -> TrainedModel:
    """Train one family's own configuration with one seed, as ``sg-ray train`` does.

    ``family`` is a name, or the code of one of your own: ``my_package.bilstm:BiLstm`` or
    ``./bilstm.py:BiLstm``.
    ``experiment`` is one of ``load_experiment``, the path of its file, or None for the default one.
    ``seed`` None is the experiment's first, ``folder`` None is
    ``outputs/train/FAMILY-CONFIG-seedN-KEY``. ``find_lr`` makes a range test first: "cached" takes
    the result of an earlier one, "anew" does not. ``show`` prints a line an epoch.

    The same call goes on with what was interrupted, from the step where it was: an interruption
    saves the position and is raised again, as KeyboardInterrupt. Raises InputError for settings
    that cannot work, for a branch that a fusion lacks and for a folder that holds another trial,
    and what the training itself raises::

        model = sg_ray.train_model("gnn", seed=7)
        model.metrics["val_roc_auc"]
        model.detector().predict(["int f(char *s) { ... }"])
    """
    chosen = as_experiment(experiment)
    if is_reference(family):
        plugin = Plugin.of(family)
        family = FAMILIES.plug_in(plugin)
        chosen = chosen.with_code(family, plugin.reference)
    get_family(family)  # an unknown one is named before anything else
    chosen = chosen.only(family)
    chosen_seed = chosen.replicate.seeds[0] if seed is None else seed
    place = None if folder is None else Path(folder)
    check_tracking(chosen.tracking)
    view = WorkView(None if show else io.StringIO())
    stop = StopRequest(on_step=view.show_step)
    with (
        contextlib.suppress(Interrupted, KeyboardInterrupt),
        stopping(stop),
        view,
        using_cache(chosen.cache_dir),
    ):
        training = prepare_training(
            chosen, family, chosen_seed, place, find_lr=find_lr, progress=view.show_features
        )
        return train_and_show(training, stop, view)
    raise_again(stop.exit_code)
    raise Interrupted(f"{family}: interrupted, its position saved.")  # the signal has no effect


def train_and_show(training: Training, stop: StopRequest, view: WorkView) -> TrainedModel:
    """Train with MLflow's mirror and a line an epoch. Raises Interrupted, as ``train_once``."""
    view.write("\n".join(_introduction(training)))
    view.expect_steps(steps_per_epoch(training))
    own = training.experiment
    with mirror_of(own.tracking, own.name, training.folder) as mirror:
        record = train_once(training, listeners=(mirror,), stop=stop, on_epoch=view.show_epoch)
    return TrainedModel(training.folder, record)


def _introduction(training: Training) -> Sequence[str]:
    """Say what is trained, on what, and what the range test found."""
    spec, takes = training.spec, training.experiment.resources_of(training.spec.model)
    lines = [
        hardware_line(takes.gpus, [spec.family]),
        f"{spec.name} on {training.context.device.type}, in {training.folder}",
    ]
    if training.lr_range is None:
        return lines
    found, source = training.lr_range.found, training.lr_range.source
    own = spec.configuration.values["learning_rate"]
    if found["suggestion"] is None:
        return [*lines, f"No learning rate suggested ({found['reason']}): using {own:.3g}"]
    return [*lines, f"Suggested LR: {own:.3g} ({source})"]
