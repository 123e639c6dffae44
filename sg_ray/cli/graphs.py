"""``sg-ray graphs``: the program graphs of a data folder."""

import argparse

from sg_ray.cli.argument_values import count_argument, folder_argument
from sg_ray.data.sources import Limit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--data", type=folder_argument("--data"), required=True, help="folder of JSONL splits"
    )
    parser.add_argument(
        "--out", type=folder_argument("--out"), required=True, help="folder to write"
    )
    parser.add_argument(
        "--max-samples",
        type=count_argument("--max-samples", Limit),
        metavar="N",
        help="at most N functions of each split, stratified",
    )
    parser.add_argument(
        "--format",
        choices=("packed", "pt"),
        default="packed",
        help="packed arrays, as trials read them, or one PyTorch file a function",
    )
    parser.set_defaults(command=run, computes=False)


def run(arguments: argparse.Namespace) -> int:
    """Make the graphs."""
    from sg_ray.host.folders import require_writable
    from sg_ray.live.work_view import WorkView
    from sg_ray.prepare.graph_export import make_graphs

    require_writable(arguments.out, "--out")
    with WorkView() as view:
        sizes = make_graphs(
            arguments.data,
            arguments.out,
            view.show_features,
            file_format=arguments.format,
            max_samples=arguments.max_samples,
        )
    for split, num_samples in sizes.items():
        print(f"{split}: {num_samples} graphs")
    return 0
