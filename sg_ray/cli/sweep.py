"""``sg-ray sweep``: search, replicate over seeds, rank."""

import argparse
from typing import TYPE_CHECKING

from sg_ray.cli.settings import named_experiment, text_argument
from sg_ray.config import Experiment
from sg_ray.sweep.execute.choice import EXECUTORS, named_executor

if TYPE_CHECKING:
    from sg_ray.sweep.execute.executor import Executor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("settings", nargs="*", metavar="EXPERIMENT.yaml | key=value")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, start nothing")
    parser.add_argument(
        "--resume",
        type=text_argument("--resume"),
        metavar="NAME",
        help="go on with a sweep (name or folder)",
    )
    add_executor(parser)
    parser.set_defaults(command=run)


def add_executor(parser: argparse.ArgumentParser) -> None:
    """Declare what runs the trials, and where."""
    parser.add_argument(
        "--executor",
        choices=EXECUTORS,
        default="tune",
        help="what runs the trials: Ray Tune (default), or this process, one at a time",
    )
    parser.add_argument(
        "--address",
        type=text_argument("--address"),
        default="local",
        help="Ray cluster to join, e.g. auto (default: start one)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the sweep; return its exit code."""
    experiment = named_experiment(arguments.settings, arguments.default, arguments.resume)
    executor = named_executor(arguments.executor, arguments.address)
    return run_or_describe(experiment, executor, is_dry=arguments.dry_run)


def run_or_describe(
    experiment: Experiment, executor: "Executor", *, is_dry: bool, extends: bool = False
) -> int:
    """Run a sweep with all that goes with it, or print its plan, once nothing is in its way.

    Return the exit code. Raises InputError for what is in its way, the same for both.
    """
    if not is_dry:
        from sg_ray.library.running import run_with_all

        return run_with_all(experiment, executor, extends=extends).exit_code
    from sg_ray.sweep.forecast import describe_plan
    from sg_ray.sweep.readiness import check_ready
    from sg_ray.tracking.mlflow_mirror import check_tracking

    check_tracking(experiment.tracking)
    ready = check_ready(experiment, executor, extends=extends, downloads=False)
    print(describe_plan(experiment, extends=extends, warnings=ready.warnings))
    return 0
