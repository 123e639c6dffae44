"""``sg-ray train``: one configuration with one seed, no sweep."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sg_ray.cli.argument_values import file_argument, folder_argument, seed_argument, value_argument
from sg_ray.cli.settings import split_settings, told_default
from sg_ray.commands import from_here, sg_ray_command
from sg_ray.config import Experiment, Given, load_experiment
from sg_ray.errors import InputError
from sg_ray.models.families import FAMILIES, get_family
from sg_ray.models.family import EstimatorFamily
from sg_ray.plugins import Plugin, is_reference
from sg_ray.single.train_one import FindLr
from sg_ray.sweep_folder import BEST, LAST, METADATA, METRICS, RECORDS, TRAINING_SETTINGS

if TYPE_CHECKING:
    from sg_ray.records.record import RunRecord

QUICK_TEST = {"data.limit.train": 200, "data.limit.valid": 100, "data.limit.test": 100}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add = parser.add_argument
    add("family", help="transformer, gnn, fusion, lexical, or your own: FILE.py:CLASS")
    add("settings", nargs="*", metavar="EXPERIMENT.yaml | key=value")
    add("--config", type=file_argument("--config"), metavar="FILE", help="the experiment")
    add(
        "--train-data",
        type=file_argument("--train-data"),
        metavar="FILE",
        help="JSONL; with --val-data",
    )
    add("--val-data", type=file_argument("--val-data"), metavar="FILE", help="JSONL")
    add(
        "--output-dir",
        type=folder_argument("--output-dir"),
        help="default: outputs/train/FAMILY-CONFIG-seedN-KEY",
    )
    add("--epochs", type=value_argument("--epochs"))
    add(
        "--batch-size",
        type=value_argument("--batch-size"),
        help="samples a step, whatever the memory",
    )
    add("--lr", type=value_argument("--lr"), help="learning rate")
    add("--seed", type=seed_argument("--seed"), help="default: the experiment's first")
    add("--mixed-precision", action="store_true", help="bf16 or fp16 where the GPU has it")
    add("--use-weighted-sampler", action="store_true", help="draw both classes equally often")
    add("--find-lr", action="store_true", help="range test first, or its result from .lr_cache/")
    add("--force-find-lr", action="store_true", help="range test first, anew")
    add("--quick-test", action="store_true", help="1 epoch on 200 functions, to see that it works")
    add(
        "--resume",
        type=file_argument("--resume"),
        metavar="CKPT",
        help=f"go on from a {LAST}, or its folder",
    )
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Train; return the exit code."""
    from sg_ray.api.one_model import train_and_show
    from sg_ray.host.cache_lock import using_cache
    from sg_ray.host.signals import StopRequest, stopping
    from sg_ray.live.work_view import WorkView
    from sg_ray.single.train_one import prepare_training
    from sg_ray.tracking.mlflow_mirror import check_tracking
    from sg_ray.training.loop import Interrupted

    experiment = _experiment(arguments)
    check_tracking(experiment.tracking)
    seed = experiment.replicate.seeds[0] if arguments.seed is None else arguments.seed
    view = WorkView()
    stop = StopRequest(on_step=view.show_step)
    with stopping(stop), view, using_cache(experiment.cache_dir):
        try:
            training = prepare_training(
                experiment,
                arguments.family,
                seed,
                (arguments.resume and _folder_of(arguments.resume)) or arguments.output_dir,
                find_lr=_find_lr(arguments),
                progress=view.show_features,
                settings=_same_settings(arguments),
            )
            trained = train_and_show(training, stop, view)
        except Interrupted:
            folder = from_here(training.folder.path)
            command = sg_ray_command("train", arguments.family, "--resume", folder)
            print(f"interrupted, positions saved; go on with: {command}", file=sys.stderr)
            return stop.exit_code
        except KeyboardInterrupt:
            print(f"interrupted; go on with: {arguments.again}", file=sys.stderr)
            return stop.exit_code
    print(_best_epoch(trained.record))
    print(f"{training.folder}: {BEST}, {METADATA}, {METRICS}, {RECORDS}/")
    own = training.experiment.plugins.families.get(training.spec.family)
    code = [] if own is None else ["--family", own]
    print(f"score C functions with: {sg_ray_command('predict', training.folder, 'FILE.c', *code)}")
    return 0


def _best_epoch(record: "RunRecord") -> str:
    """Return the line of the best epoch: which metric chose it, that metric, then others."""
    names = dict.fromkeys([record.objective, "val_roc_auc", "val_f1", "val_accuracy"])
    found = {name: record.metrics.get(name) for name in names}
    shown = "  ".join(f"{name} {value:.4f}" for name, value in found.items() if value is not None)
    return f"best epoch {record.best_epoch} by {record.objective}: {shown}"


def _experiment(arguments: argparse.Namespace) -> Experiment:
    """Return the experiment: the flags first, then key=value, which win."""
    file, overrides = split_settings(arguments.settings)
    own_code = _own_code(arguments, file)
    get_family(arguments.family)  # an unknown one is named before its settings are
    _check_flags(arguments)
    experiment = load_experiment(
        _experiment_file(arguments, file), overrides, [*own_code, *_flag_settings(arguments)]
    )
    if arguments.family not in experiment.families:
        raise InputError(
            f"train {arguments.family} and families=[{', '.join(experiment.families)}] do not go "
            f"together. Leave families out, or let it hold {arguments.family}."
        )
    return experiment


def _own_code(arguments: argparse.Namespace, file: Path | None) -> list[Given]:
    """Make a family of the user's own known, and call it by its name from here on.

    Return where its code is, if the command line says so; the experiment may, too.
    """
    place = f"train {arguments.family}"
    if is_reference(arguments.family):
        plugin = Plugin.of(arguments.family)
        arguments.family = FAMILIES.plug_in(plugin)
        return [Given(f"plugins.families.{arguments.family}", plugin.reference, place)]
    if arguments.family not in FAMILIES:
        load_experiment(_experiment_file(arguments, file), split_settings(arguments.settings)[1])
    return []


def _check_flags(arguments: argparse.Namespace) -> None:
    """Raise InputError for a flag that would change nothing."""
    flag = "--force-find-lr" if arguments.force_find_lr else "--find-lr"
    finds_lr = arguments.find_lr or arguments.force_find_lr
    if finds_lr and isinstance(get_family(arguments.family), EstimatorFamily):
        raise InputError(f"{flag}: {arguments.family} has no learning rate. Leave {flag} out.")
    if arguments.resume is None:
        return
    if finds_lr:
        raise InputError(
            f"--resume {arguments.resume} and {flag} do not go together: its learning rate was "
            f"settled when it began. Leave {flag} out."
        )
    there, given = _folder_of(arguments.resume), arguments.output_dir
    if given is not None and given.resolve() != there.resolve():
        raise InputError(
            f"--resume {arguments.resume} and --output-dir {given} do not go together: the "
            f"training goes on in its own folder. Leave --output-dir out, or copy {there} there "
            "and resume the copy."
        )


def _experiment_file(arguments: argparse.Namespace, file: Path | None) -> Path:
    """Return the only file that is named, or the default."""
    files = [path for path in (file, arguments.config) if path is not None]
    if arguments.resume is not None:
        if files:
            raise InputError(f"--resume takes its experiment from the checkpoint, not {files[0]}")
        return _folder_of(arguments.resume) / TRAINING_SETTINGS
    if len(files) > 1:
        raise InputError(f"give one experiment file, not 2: {files[0]} {files[1]}")
    return files[0] if files else arguments.default or told_default()


def _same_settings(arguments: argparse.Namespace) -> list[str]:
    """Return what another family's training on the same data would be given, too."""
    files = [] if arguments.config is None else [f"--config={arguments.config}"]
    data = [("--train-data", arguments.train_data), ("--val-data", arguments.val_data)]
    named = [f"{flag}={path}" for flag, path in data if path is not None]
    return [*arguments.settings, *files, *named]


def _flag_settings(arguments: argparse.Namespace) -> list[Given]:
    """Return what the flags set, as values: a path is never read as YAML."""
    config = f"models.{arguments.family}.config"
    own = f"train {arguments.family}"
    given = [
        Given("families", [arguments.family], own),
        Given(f"models.{arguments.family}.space", {}, own),  # nothing is searched
    ]
    if arguments.quick_test:
        has_epochs = "epochs" in get_family(arguments.family).Config.model_fields
        quick = {**QUICK_TEST, **({f"{config}.epochs": 1} if has_epochs else {})}
        given += [Given(key, value, "--quick-test") for key, value in quick.items()]
    flags: dict[str, tuple[str, Any]] = {
        "--train-data": ("data.train_file", arguments.train_data),
        "--val-data": ("data.valid_file", arguments.val_data),
        "--epochs": (f"{config}.epochs", arguments.epochs),
        "--batch-size": (f"{config}.batch_size", arguments.batch_size),
        "--lr": (f"{config}.learning_rate", arguments.lr),
    }
    given += [
        Given(key, value, f"{flag} {value}")
        for flag, (key, value) in flags.items()
        if value is not None
    ]
    if arguments.mixed_precision:
        given.append(Given(f"{config}.precision", "auto", "--mixed-precision"))
    if arguments.use_weighted_sampler:
        given.append(Given(f"{config}.weighted_sampling", True, "--use-weighted-sampler"))
    return given


def _find_lr(arguments: argparse.Namespace) -> FindLr:
    if arguments.force_find_lr:
        return "anew"
    return "cached" if arguments.find_lr else "no"


def _folder_of(checkpoint: Path) -> Path:
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    if not (folder / LAST).exists() or not (folder / TRAINING_SETTINGS).exists():
        raise InputError(
            f"--resume {checkpoint}: there is no {LAST} with its {TRAINING_SETTINGS} in {folder}. "
            "Name the folder of a training that was interrupted."
        )
    return folder
