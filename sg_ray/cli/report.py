"""``sg-ray report``: tables and page again, from records."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("folder", type=Path, help="a sweep's folder, or any folder of trials")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the means and SDs as well")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the tables, rebuild the page."""
    from sg_ray.report.results import read_configurations
    from sg_ray.report.tables import summary, write_csv

    configurations = read_configurations(arguments.folder)
    print(summary(configurations))
    if arguments.csv is not None:
        write_csv(arguments.csv, configurations)
        print(arguments.csv)
    if (arguments.folder / "sweep.yaml").exists():
        from sg_ray.report.html import build_report

        print(build_report(arguments.folder))
    return 0
