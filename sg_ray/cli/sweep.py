"""``sg-ray sweep``: search, replicate over seeds, rank."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sg_ray.cli.settings import named_experiment, text_argument
from sg_ray.commands import from_here, sg_ray_command
from sg_ray.config import Experiment
from sg_ray.records.events import Event, SweepRanked
from sg_ray.records.journal import read_events
from sg_ray.records.record import stamp_run_ids

if TYPE_CHECKING:
    from sg_ray.data.samples import DataSet
    from sg_ray.live.stream import SafeStream
    from sg_ray.sweep.run import Outcome


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
    parser.add_argument(
        "--address",
        type=text_argument("--address"),
        default="local",
        help="Ray cluster to join, e.g. auto (default: start one)",
    )
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the sweep; return its exit code."""
    experiment = named_experiment(arguments.settings, arguments.default, arguments.resume)
    return run_or_describe(experiment, arguments.address, is_dry=arguments.dry_run)


def run_or_describe(
    experiment: Experiment, address: str, *, is_dry: bool, extends: bool = False
) -> int:
    """Run a sweep with all that goes with it, or print its plan, once nothing is in its way.

    Return the exit code. Raises InputError for what is in its way, the same for both.
    """
    from sg_ray.sweep.forecast import describe_plan
    from sg_ray.sweep.readiness import check_ready
    from sg_ray.tracking.mlflow_mirror import check_tracking

    check_tracking(experiment)
    ready = check_ready(experiment, address, extends=extends, downloads=not is_dry)
    if is_dry:
        print(describe_plan(experiment, extends=extends, warnings=ready.warnings))
        return 0
    for warning in ready.warnings:
        print(f"warning: {warning}")
    return run_and_show(experiment, address, extends=extends, data=ready.data)


def run_and_show(
    experiment: Experiment,
    address: str,
    *,
    extends: bool = False,
    data: "DataSet | None" = None,
) -> int:
    """Run a sweep with all that goes with it: live table, verdict, page, MLflow.

    ``data`` are those that it reads, if they have been read. Return its exit code.
    """
    from sg_ray.config.hardware import describe, this_machine
    from sg_ray.live.view import LiveView
    from sg_ray.report.page.html import build_report
    from sg_ray.sweep.run import run_sweep
    from sg_ray.tracking.mlflow_mirror import mirror_of
    from sg_ray.verdict.assemble import write_verdict

    def conclude(event: Event) -> None:
        if isinstance(event, SweepRanked):
            write_verdict(experiment.folder)
            build_report(experiment.folder)

    past = list(read_events(experiment.folder.events))
    mirror = mirror_of(experiment)
    print(describe(this_machine(experiment.resources.gpus)))
    with LiveView(experiment.objective, past=past) as view, mirror:
        outcome = run_sweep(
            experiment,
            address=address,
            listeners=(view, conclude, mirror),
            progress=view.show_preparing,
            extends=extends,
            data=data,
        )
    stamp_run_ids(outcome.folder, mirror.run_ids())
    show_end(outcome, experiment, view.stream, mirror.where_to_look())
    return outcome.exit_code


def show_end(
    outcome: "Outcome",
    experiment: Experiment,
    stream: "SafeStream",
    mlflow: Sequence[str] = (),
) -> None:
    """Write the end of a sweep to ``stream``; a failure of that is told, and changes no result.

    ``mlflow`` are the lines that say where MLflow shows it.
    """
    from sg_ray.live.emphasis import write_with_emphasis

    write_with_emphasis(stream, "\n".join(_told(outcome, experiment, mlflow)))
    stream.flush()
    for traceback in outcome.tracebacks:
        print(f"\n{traceback.rstrip()}", file=sys.stderr)
    folder = from_here(outcome.folder.path)
    if isinstance(stream.failure, OSError) and not isinstance(stream.failure, BrokenPipeError):
        reason = stream.failure.strerror
        state = "interrupted" if outcome.interrupted else "complete"
        print(
            f"standard output cannot be written ({reason}); the sweep is {state}: {folder}/",
            file=sys.stderr,
        )
    if outcome.interrupted:
        command = sg_ray_command("sweep", "--resume", folder)
        print(f"interrupted; go on with: {command}", file=sys.stderr)


def _told(outcome: "Outcome", experiment: Experiment, mlflow: Sequence[str]) -> Iterator[str]:
    """Yield the table, the verdict, remarks, and where all of it lies."""
    from sg_ray.records.leaderboard import format_table
    from sg_ray.report.page.content import read_verdict
    from sg_ray.verdict.words.in_brief import in_brief

    yield format_table(outcome.rows, experiment.objective)
    verdict = None if outcome.interrupted else read_verdict(outcome.folder)
    if verdict is not None:
        yield "\n" + in_brief(verdict, outcome.folder.path)
    remarks = [*outcome.notes, *outcome.problems]
    if remarks:
        yield "\n" + "\n".join(remarks)
    folder = outcome.folder
    places = (folder.leaderboard, folder.verdict, folder.report, folder.best, folder.records)
    made = [f"{p.name}/" if p.is_dir() else p.name for p in places if p.exists()]
    if made:
        yield f"\n{from_here(folder.path)}/: {', '.join(made)}"
    yield from mlflow
