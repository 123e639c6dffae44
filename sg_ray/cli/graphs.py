"""``sg-ray graphs``: the program graphs of a data folder."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--data", type=Path, required=True, help="folder of JSONL splits")
    parser.add_argument("--out", type=Path, required=True)
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Make the graphs."""
    from sg_ray.sweep.prepare import make_graphs
    from sg_ray.sweep.progress import show_progress

    sizes = make_graphs(arguments.data, arguments.out, show_progress)
    for split, num_samples in sizes.items():
        print(f"{split}: {num_samples} graphs")
    return 0
