"""``sg-ray sweep``: search, replicate over seeds, rank."""

import argparse
import sys
from typing import TYPE_CHECKING

from sg_ray.cli.argument_values import text_argument
from sg_ray.cli.settings import named_experiment
from sg_ray.config import Experiment
from sg_ray.sweep.execute.choice import EXECUTORS, named_executor

if TYPE_CHECKING:
    from sg_ray.records.changed import Change, Decide, OnChange
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
    add_on_change(parser)
    add_executor(parser)
    parser.set_defaults(command=run)


def add_on_change(parser: argparse.ArgumentParser) -> None:
    """Declare what becomes of records that other data, pretrained files or code led to."""
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(
        "--anew",
        dest="on_change",
        action="store_const",
        const="anew",
        help="after a change of code, data or pretrained files: set records aside, train again",
    )
    ways.add_argument(
        "--keep-records",
        dest="on_change",
        action="store_const",
        const="keep",
        help="after a change of code: go on with the records as they are",
    )


def decision(arguments: argparse.Namespace) -> "Decide":
    """Return who decides about such records: the flag, or whoever sits at the terminal."""
    flag: OnChange | None = arguments.on_change
    if flag is not None:
        return lambda _: flag
    is_asked = sys.stdin.isatty() and sys.stdout.isatty()
    return _ask if is_asked else lambda _: "stop"


def _ask(change: "Change | None") -> "OnChange":
    """Show what is at stake, and ask. Without an answer nothing is done."""
    if change is None:
        return "stop"
    ways: dict[str, OnChange] = {"anew": "anew"}
    if change.is_of_code_alone:
        ways["keep"] = "keep"
    print(f"{change.told}. {change.ways_on}.")
    try:
        answer = input(f"{' or '.join(ways)}? (nothing: stop here) ").strip().lower()
    except EOFError:
        answer = ""
    return ways.get(answer, "stop")


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
        default=None,
        help="Ray cluster to join (HOST:PORT, or auto: this machine's), or local: start one here "
        "(default: that of RAY_ADDRESS, else local)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the sweep; return its exit code."""
    experiment = named_experiment(arguments.settings, arguments.default, arguments.resume)
    executor = named_executor(arguments.executor, arguments.address)
    decide = decision(arguments)
    return run_or_describe(experiment, executor, decide, is_dry=arguments.dry_run)


def run_or_describe(
    experiment: Experiment,
    executor: "Executor",
    decide: "Decide",
    *,
    is_dry: bool,
    extends: bool = False,
) -> int:
    """Run a sweep with all that goes with it, or print its plan, once nothing is in its way.

    Return the exit code. Raises InputError for what is in its way, the same for both.
    """
    if not is_dry:
        from sg_ray.api.running import run_with_all

        return run_with_all(experiment, executor, decide=decide, extends=extends).exit_code
    from sg_ray.config.auto import lack_told
    from sg_ray.preflight.forecast import describe_plan
    from sg_ray.preflight.readiness import check_ready
    from sg_ray.tracking.mlflow_mirror import check_tracking

    check_tracking(experiment.tracking)
    ready = check_ready(experiment, executor, extends=extends, downloads=False)
    changes = [] if ready.change is None else [f"{ready.change.told}. {ready.change.ways_on}."]
    lack = lack_told(experiment) if executor.has_joined else ()
    warnings = (*ready.warnings, *lack, *changes)
    print(executor.machines())
    print(describe_plan(experiment, executor, extends=extends, warnings=warnings))
    return 0
