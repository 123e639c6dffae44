"""``sg-ray track``: MLflow catches up with what is on record."""

import argparse
from collections import deque
from pathlib import Path

from sg_ray.cli.settings import folder_argument, named_folder, text_argument
from sg_ray.config import Given, load_experiment
from sg_ray.errors import InputError


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
    """Replay the journal; return 1 if something is still pending."""
    from sg_ray.sweep.events import read_events
    from sg_ray.sweep.lock import locked
    from sg_ray.sweep.records import stamp_run_ids
    from sg_ray.tracking.mlflow_mirror import MlflowMirror, mirror_of

    folder = named_folder(arguments.folder)
    settings = [Given("tracking.enabled", True, "track sync")]
    if arguments.uri is not None:
        settings.append(Given("tracking.uri", arguments.uri, "--uri"))
    experiment = load_experiment(_experiment_file(folder), settings=settings)
    with locked(folder):
        deque(read_events(folder / "events.jsonl", tell=True), maxlen=0)  # what is damaged there
        mirror = mirror_of(experiment, folder)
        assert isinstance(mirror, MlflowMirror)
        result = mirror.sync(is_over=True)  # the lock is ours: nobody works on it
        stamp_run_ids(folder, mirror.run_ids())
    print(f"{folder}: {result.num_mirrored} events mirrored to {experiment.tracking.uri}")
    if result.num_pending:
        print(f"{result.num_pending} events are pending: {result.error}")
    return 1 if result.num_pending else 0


def _experiment_file(folder: Path) -> Path:
    for name in ("sweep.yaml", "experiment.yaml"):
        if (folder / name).exists():
            return folder / name
    raise InputError(f"{folder}: neither a sweep's folder nor a training's. Name one of those.")
