"""``sg-ray report``: tables, verdict and page again, from records; several sweeps on one page."""

import argparse
import sys
from pathlib import Path

from sg_ray.api.places import named_folder
from sg_ray.cli.argument_values import folder_argument, new_file_argument, text_argument
from sg_ray.plugins import Plugin
from sg_ray.records.folder_format import note_on_format
from sg_ray.sweep_folder import REPORT, SweepFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "folders",
        type=folder_argument("folders"),
        nargs="+",
        metavar="FOLDER",
        help="a sweep (its name or folder), or any folder of trials",
    )
    parser.add_argument(
        "--csv",
        type=new_file_argument("--csv"),
        metavar="FILE",
        help="write the means and SDs as well",
    )
    parser.add_argument(
        "--html",
        type=new_file_argument("--html"),
        metavar="FILE",
        help="where to write the page; with several sweeps it compares them "
        f"(default: FOLDER/{REPORT} for one, no page for several)",
    )
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        type=text_argument("--metric"),
        metavar="CODE",
        help="MODULE:NAME or FILE.py:NAME of an objective of your own, for its intervals",
    )
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the tables, rebuild verdict and page."""
    from sg_ray.report.page.content import read_verdict
    from sg_ray.report.text.results import read_configurations
    from sg_ray.report.text.tables import summary, write_csv
    from sg_ray.statistics.own_metrics import OWN_METRICS
    from sg_ray.verdict.words.in_brief import in_brief

    for reference in arguments.metric:
        OWN_METRICS.plug_in(Plugin.of(reference))
    folders = [named_folder(folder) for folder in arguments.folders]
    for folder in folders:
        if (note := note_on_format(SweepFolder(folder))) is not None:
            print(f"warning: {note}", file=sys.stderr)
    configurations = read_configurations(*folders)
    print(summary(configurations))
    if arguments.csv is not None:
        write_csv(arguments.csv, configurations)
        print(arguments.csv)
    page = _write_page(folders, arguments.html)
    if len(folders) == 1 and (verdict := read_verdict(SweepFolder(folders[0]))) is not None:
        print(f"\n{in_brief(verdict, folders[0])}\n")
    if page is not None:
        print(page)
    return 0


def _write_page(folders: list[Path], path: Path | None) -> Path | None:
    """Write the page that was asked for; None if there is nothing to show on one.

    That of a single sweep has its verdict made anew first.
    """
    from sg_ray.report.page.comparison import write_comparison
    from sg_ray.report.page.html import build_report
    from sg_ray.verdict.assemble import write_verdict

    if len(folders) > 1:
        return None if path is None else write_comparison(folders, path)
    folder = SweepFolder(folders[0])
    if path is None and not folder.is_sweep:
        return None
    if folder.is_sweep:
        write_verdict(folder)
    return build_report(folder, path)
