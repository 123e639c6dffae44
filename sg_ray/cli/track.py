"""``sg-ray track``: MLflow catches up with what is on record."""

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sg_ray.api.places import named_folder
from sg_ray.cli.argument_values import folder_argument, text_argument
from sg_ray.config import Given, load_experiment
from sg_ray.errors import InputError
from sg_ray.sweep_folder import SweepFolder

if TYPE_CHECKING:
    from sg_ray.tracking.mlflow_mirror import SyncResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the commands take."""
    kinds = parser.add_subparsers(required=True, metavar="sync")
    sync = kinds.add_parser("sync", help="mirror to MLflow what it does not have yet")
    sync.add_argument(
        "folder",
        type=folder_argument("folder"),
        help="a sweep (name or folder), or a training's folder",
    )
    sync.add_argument(
        "--uri", type=text_argument("--uri"), help="another MLflow store than the experiment's"
    )
    sync.set_defaults(command=_sync)


def _sync(arguments: argparse.Namespace) -> int:
    """Replay the journal; return 1 if MLflow does not have it all."""
    from sg_ray.host.lock import locked
    from sg_ray.records.journal import read_events
    from sg_ray.records.record import stamp_run_ids
    from sg_ray.tracking.mlflow_mirror import MlflowMirror, mirror_of

    folder = SweepFolder(named_folder(arguments.folder))
    settings = [Given("tracking.enabled", True, "track sync")]
    if arguments.uri is not None:
        settings.append(Given("tracking.uri", arguments.uri, "--uri"))
    experiment = load_experiment(_experiment_file(folder), settings=settings, loads_code=False)
    with locked(folder):
        deque(read_events(folder.events, tell=True), maxlen=0)  # what is damaged there
        mirror = mirror_of(experiment.tracking, experiment.name, folder)
        assert isinstance(mirror, MlflowMirror)
        result = mirror.sync(is_over=True)  # the lock is ours: nobody works on it
        stamp_run_ids(folder, mirror.run_ids())
    print(f"{folder}: {result.num_mirrored} events mirrored to {mirror.shown}")
    for line in _shortcomings(result):
        print(line, file=sys.stderr)
    return 0 if result.is_complete else 1


def _shortcomings(result: "SyncResult") -> Iterator[str]:
    """Say what MLflow does not have, and what to do about it."""
    num_events = result.num_pending - result.num_unsent
    if num_events:
        yield f"{num_events} events are pending"
    if result.num_unsent:
        yield f"the files of {result.num_unsent} events are pending"
    if result.num_refused:
        yield f"{result.num_refused} events or values are left out: MLflow does not take them"
    if result.error is not None:
        yield f"{result.error}. {result.advice}"


def _experiment_file(folder: SweepFolder) -> Path:
    for path in (folder.settings, folder.training_settings):
        if path.exists():
            return path
    raise InputError(f"{folder}: neither a sweep's folder nor a training's. Name one of those.")
