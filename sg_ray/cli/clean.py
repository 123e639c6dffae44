"""``sg-ray clean``: delete what finished sweeps need no more."""

import argparse
import sys

from sg_ray.api.places import OUTPUTS, named_folder, sweeps_in
from sg_ray.cli.argument_values import folder_argument
from sg_ray.commands import from_here
from sg_ray.errors import InputError
from sg_ray.sweep_folder import SweepFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "sweeps",
        type=folder_argument("sweeps"),
        nargs="*",
        metavar="SWEEP",
        help="their names or folders (default: all below outputs/)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print it, delete nothing")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Delete, and print each place with its size."""
    from sg_ray.api.cleaning import clean

    folders = [SweepFolder(named_folder(name)) for name in arguments.sweeps] or sweeps_in(OUTPUTS)
    for folder in folders:
        if not folder.is_sweep:
            raise InputError(f"{folder}: no sweep (it would hold {folder.settings.name}).")
    done = clean(folders, dry=arguments.dry_run)
    for one in done.removables:
        print(f"{_in_mb(one.num_bytes)}  {from_here(one.path)}")
    would = "would be deleted" if arguments.dry_run else "deleted"
    print(f"{_in_mb(done.num_bytes)}  {would}")
    for sentence in done.left_alone:
        print(sentence, file=sys.stderr)
    return 0


def _in_mb(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:10,.1f} MB"
