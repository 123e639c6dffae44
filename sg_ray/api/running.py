"""Sweeps with all that goes with them: live table, verdict, page, MLflow."""

import io
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from sg_ray.api.experiments import Settings, as_experiment, given_values
from sg_ray.api.places import resumed
from sg_ray.commands import from_here, sg_ray_command, way_on
from sg_ray.config import Experiment
from sg_ray.config.auto import hardware_line, lack_told
from sg_ray.live.emphasis import write_with_emphasis
from sg_ray.live.stream import SafeStream
from sg_ray.live.view import LiveView
from sg_ray.preflight.readiness import check_ready
from sg_ray.records.changed import Decide, OnChange, check_decision
from sg_ray.records.journal import read_events
from sg_ray.records.leaderboard import format_table
from sg_ray.records.record import stamp_run_ids
from sg_ray.report.page.content import read_verdict
from sg_ray.sweep import run
from sg_ray.sweep.execute.choice import ExecutorName, named_executor
from sg_ray.sweep.execute.executor import Executor
from sg_ray.sweep.run import Outcome
from sg_ray.tracking.mlflow_mirror import check_tracking, mirror_of
from sg_ray.verdict.words.in_brief import in_brief

if TYPE_CHECKING:
    from sg_ray.api.sweep_results import (
        SweepResults,
    )  # with pandas, which the command has no use for

_LOGGER = logging.getLogger(__name__)


def run_sweep(
    experiment: Experiment | str | Path | None = None,
    *,
    address: str | None = None,
    executor: ExecutorName = "tune",
    on_change: OnChange = "stop",
    show: bool = True,
) -> "SweepResults":
    """Run a sweep, or what is left of it, as ``sg-ray sweep`` does; return its results.

    ``experiment`` is one of ``load_experiment``, the path of its file, or None for the default one.
    ``address`` is a Ray cluster to join, e.g. "auto"; "local" starts one of its own, and None does
    unless RAY_ADDRESS names a cluster. The ``executor`` "inline" runs the trials in this process,
    one at a time, without Ray. ``show`` prints progress, table and verdict. MLflow has its mirror
    unless ``tracking.enabled`` is False.

    A sweep that was begun goes on where it was. If data, pretrained files or code have changed
    since, ``on_change`` says what becomes of what is on record: "stop" raises InputError that
    tells what it is, "anew" sets it aside and trains it again, "keep" goes on with it as it is,
    if only the code has changed. Trials that fail end nothing: ``trials`` of the
    results names them, and their ``state`` is "failed". An interruption (in a notebook "interrupt
    the kernel") saves the positions of all trials and is raised again, as KeyboardInterrupt;
    ``resume_sweep`` goes on. Off the main thread no signal is heard. Raises InputError for settings
    that cannot work, or that differ from those the sweep was begun with, and SgRayError for a full
    disk::

        sweep = sg_ray.run_sweep(sg_ray.load_experiment(settings={"name": "first"}))
        sweep.leaderboard
    """
    runs = named_executor(executor, address)
    return _results(
        run_with_all(as_experiment(experiment), runs, decide=lambda _: on_change, show=show)
    )


def resume_sweep(
    sweep: "str | Path | SweepResults",
    settings: Settings | None = None,
    *,
    address: str | None = None,
    executor: ExecutorName = "tune",
    on_change: OnChange = "stop",
    show: bool = True,
) -> "SweepResults":
    """Go on with a sweep, given by its name, its folder or its results; return its results.

    ``settings`` may change what does not change results, such as
    ``{"max_concurrent_trials": 1}``; the rest is as of ``run_sweep``. A finished sweep is not
    trained again. Raises InputError if there is no such sweep, and what ``run_sweep`` raises::

        sweep = sg_ray.resume_sweep("first")
    """
    name = str(sweep) if isinstance(sweep, str | Path) else str(sweep.folder)
    experiment = resumed(name, given=given_values(settings))
    return _results(
        run_with_all(
            experiment, named_executor(executor, address), decide=lambda _: on_change, show=show
        )
    )


def run_with_all(
    experiment: Experiment,
    executor: Executor,
    *,
    decide: Decide,
    extends: bool = False,
    show: bool = True,
) -> Outcome:
    """Run a sweep with live table, verdict and MLflow, once nothing is in its way; tell its end.

    ``decide`` is asked what is to be done if what is on record was made with something else than
    there is now, and for what the user asked if not: ``anew`` also trains again what was kept;
    ``extends`` as of ``sg_ray.records.begin``. Raises InputError for what is in its way.
    """
    check_tracking(experiment.tracking)
    ready = check_ready(experiment, executor, extends=extends)
    stream = sys.stdout if show else io.StringIO()
    print(executor.machines(), file=stream)
    _warn((*ready.warnings, *(lack_told(experiment) if executor.has_joined else ())), show=show)
    on_change = decide(ready.change)
    if ready.change is not None:
        check_decision(ready.change, on_change)
    past = list(read_events(experiment.folder.events))
    mirror = mirror_of(experiment.tracking, experiment.name, experiment.folder)
    print(hardware_line(experiment.resources.gpus, experiment.model_names), file=stream)
    redraws = not executor.is_here
    with closing(executor):  # Ray ends last: that takes seconds, which a stop may not have
        with (
            LiveView(experiment.objective, past=past, stream=stream, redraws=redraws) as view,
            mirror,
        ):
            outcome = run.run_sweep(
                experiment,
                executor=executor,
                listeners=(view, mirror),
                progress=view.show_preparing,
                extends=extends,
                on_change=on_change,
                data=ready.data,
            )
        stamp_run_ids(outcome.folder, mirror.run_ids())
        if show:
            show_end(outcome, experiment.objective, view.stream, mirror.where_to_look())
    return outcome


def _warn(warnings: Sequence[str], *, show: bool) -> None:
    """Print warnings where the sweep is shown; else log them."""
    for warning in warnings:
        if show:
            print(f"warning: {warning}")
        else:
            _LOGGER.warning("%s", warning)


def show_end(
    outcome: Outcome, objective: str, stream: SafeStream, mlflow: Sequence[str] = ()
) -> None:
    """Write the end of a sweep to ``stream``; a failure of that is told, and changes no result.

    ``mlflow`` are the lines that say where MLflow shows it.
    """
    write_with_emphasis(stream, "\n".join(_told(outcome, objective, mlflow)))
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
        print(f"interrupted; go on with: {way_on(command)}", file=sys.stderr)


def _told(outcome: Outcome, objective: str, mlflow: Sequence[str]) -> Iterator[str]:
    """Yield the table, the verdict, remarks, and where all of it lies."""
    yield format_table(outcome.rows, objective)
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


def _results(outcome: Outcome) -> "SweepResults":
    """Return a sweep's results, unless a signal ended it: that signal takes its own effect now."""
    if outcome.interrupted:
        raise_again(outcome.exit_code)
    from sg_ray.api.sweep_results import SweepResults

    return SweepResults(outcome.folder)


def raise_again(exit_code: int) -> None:
    """Raise the signal once more that work was stopped by, now that all positions are saved."""
    signal.raise_signal(exit_code - 128)
