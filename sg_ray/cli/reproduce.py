"""``sg-ray reproduce``: a recorded trial again, compared bit for bit."""

import argparse
import sys

from sg_ray.cli.argument_values import folder_argument, text_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "record",
        type=text_argument("record"),
        help="a record's file, SWEEP_FOLDER:KEY, or a folder of train",
    )
    parser.add_argument("settings", nargs="*", metavar="key=value", help="e.g. data.path=DIR")
    parser.add_argument(
        "--output-dir",
        type=folder_argument("--output-dir"),
        help="keep the trial here; default: keep nothing",
    )
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Train again and compare; return 0 if every number came out the same, else 1."""
    from sg_ray.host.scratch import ScratchFolder, remove_scratch
    from sg_ray.live.work_view import WorkView
    from sg_ray.records.lookup import find_trial
    from sg_ray.report.text.reproduction import Reproduction, as_text
    from sg_ray.single.reproduce_one import cautions, reproduce

    trial = find_trial(arguments.record, arguments.settings)
    record = trial.record
    name = f"{record.title}, seed {record.seed_text}"
    print(f"{name}: {record.status} on record")
    for caution in cautions(trial):
        print(f"warning: {caution}")
    remove_scratch()
    with ScratchFolder("reproduce") as temporary, WorkView() as view:
        folder = arguments.output_dir or temporary.path
        now = reproduce(trial, folder, progress=view.show_features, on_epoch=view.show_epoch)
    reproduction = Reproduction(record, now)
    print(as_text(reproduction))
    if now.failure is not None and not reproduction.is_reproduced:
        print(now.failure.traceback, file=sys.stderr)
    return 0 if reproduction.is_reproduced else 1
