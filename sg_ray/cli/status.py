"""``sg-ray status``: the sweeps here, how far they are, and what to do next."""

import argparse
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sg_ray.api.places import OUTPUTS, sweeps_in
from sg_ray.cli.argument_values import folder_argument
from sg_ray.commands import from_here, sg_ray_command
from sg_ray.errors import InputError
from sg_ray.records.planned import up_to
from sg_ray.report.text.columns import aligned
from sg_ray.sweep_folder import SweepFolder

if TYPE_CHECKING:
    from sg_ray.api.sweep_state import SweepState

_HEADER = ("sweep", "state", "trials", "last event", "best trial so far", "next")
_OF_OWN_FAILURES = (
    "What failed by itself is kept as failed. If the code of its family was mended, add --anew "
    "(the family is trained again) or --keep-records (what is on record stays, the failures "
    "too); other settings are another sweep, with another name=..."
)
_OF_JOBS = (
    "sbatch: unless a job of the sweep waits (squeue), which goes on by itself when SLURM starts it"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "folder",
        type=folder_argument("folder"),
        nargs="?",
        default=OUTPUTS,
        metavar="DIR",
        help="a folder of sweeps, or one sweep (default: outputs/)",
    )
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a line a sweep; return 1 if one cannot be read."""
    folder: Path = arguments.folder
    if folder != OUTPUTS and not folder.is_dir():
        raise InputError(f"{folder}: is not a folder. Name one that holds sweeps.")
    sweeps = sweeps_in(folder)
    if not sweeps:
        print(f"{folder}/ holds no sweep. To make one: {sg_ray_command('sweep')}")
        return 0
    lines, problems, own_failures, has_jobs = [], [], False, False
    for sweep in sweeps:
        try:
            state = _state(sweep)
            own_failures |= state.state == "failed" and _has_own_failures(sweep)
            has_jobs |= (state.next_step or "").startswith("sbatch ")
            lines.append(_line(state))
        except InputError as error:
            problems.append(str(error))
    print(aligned([_HEADER, *lines]))
    if has_jobs:
        print(_OF_JOBS)
    if own_failures:
        print(_OF_OWN_FAILURES)
    for problem in problems:
        print(f"cannot be read: {problem}")
    return 1 if problems else 0


def _state(folder: SweepFolder) -> "SweepState":
    from sg_ray.api.sweep_state import read_state
    from sg_ray.config import load_experiment

    return read_state(folder, load_experiment(folder.settings, loads_code=False).objective)


def _has_own_failures(folder: SweepFolder) -> bool:
    """Whether trials failed for which no process or machine is to blame."""
    from sg_ray.records.record import read_records

    failures = (record.failure for record in read_records(folder).values())
    return any(failure is not None and not failure.is_infrastructure for failure in failures)


def _line(state: "SweepState") -> tuple[str, ...]:
    best = ", ".join(f"{family} {value:.4f}" for family, value in state.best.items())
    return (
        str(from_here(state.folder.path)),
        state.state,
        f"{state.num_finished} of {up_to(*state.num_planned)}",
        _age(state),
        best or "-",
        _next(state),
    )


def _next(state: "SweepState") -> str:
    if state.next_step is None:
        return "wait for it"
    return f"{'fix the cause, then ' if state.state == 'failed' else ''}{state.next_step}"


def _age(state: "SweepState") -> str:
    """Return how long ago the last event was, e.g. "2:05:09 ago"."""
    if not state.last_event_at_ms:
        return "-"
    seconds = max(0, round(time.time() - state.last_event_at_ms / 1000))
    return f"{timedelta(seconds=seconds)} ago"
