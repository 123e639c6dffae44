"""``sg-ray train``: one configuration with one seed, no sweep."""

import argparse
from pathlib import Path

from sg_ray.cli.settings import named_experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("family")
    parser.add_argument("settings", nargs="*", metavar="EXPERIMENT.yaml | key=value")
    parser.add_argument("--seed", type=int, help="default: the experiment's first")
    parser.add_argument("--output-dir", type=Path, help="default: outputs/train/FAMILY-...-seedN")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Train; return the exit code."""
    from sg_ray.sweep.progress import show_epoch, show_progress
    from sg_ray.sweep.train_once import train_once

    settings = [*arguments.settings, f"families=[{arguments.family}]"]
    experiment = named_experiment(settings, arguments.default)
    seed = experiment.replicate.seeds[0] if arguments.seed is None else arguments.seed
    folder = arguments.output_dir or experiment.output_dir / "train" / f"{arguments.family}-{seed}"
    train_once(
        experiment, arguments.family, seed, folder, progress=show_progress, on_epoch=show_epoch
    )
    print(f"{folder}: best_model.pt, training_metadata.json, metrics.jsonl")
    return 0
