"""``sg-ray slurm``: the batch script by which SLURM runs a sweep."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sg_ray.cli.argument_values import count_argument, text_argument
from sg_ray.cli.settings import split_settings, told_default
from sg_ray.cli.sweep import add_on_change
from sg_ray.commands import from_here
from sg_ray.errors import InputError

if TYPE_CHECKING:
    from sg_ray.config import Experiment
    from sg_ray.slurm.batch_script import Job

_MAX_SIGNAL_BEFORE_S = 65535
"""SLURM takes no more."""
_Count = Annotated[int, Field(ge=1)]
_SignalBefore = Annotated[int, Field(ge=1, le=_MAX_SIGNAL_BEFORE_S)]
_MEMORY = re.compile(r"\d{1,12}[KMGT]?", re.IGNORECASE)
_PASSED_ON = ("HF_HOME", "HF_HUB_OFFLINE")
"""Variables without which jobs would look for pretrained files elsewhere than was prepared."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("settings", nargs="*", metavar="EXPERIMENT.yaml | key=value")
    asked = parser.add_argument_group("asked of SLURM, which decides on what is left out")
    asked.add_argument(
        "--nodes", type=count_argument("--nodes", _Count), default=1, metavar="N", help="default: 1"
    )
    asked.add_argument(
        "--time",
        type=text_argument("--time"),
        metavar="T",
        help="limit of an allocation, e.g. 04:00:00; the sweep takes as many as it needs",
    )
    asked.add_argument(
        "--gpus", type=_gpus, metavar="G", help="GPUs on each node, e.g. 4 or a100:4"
    )
    asked.add_argument("--mem", type=_memory, metavar="M", help="memory on each node, e.g. 64G")
    for name, meaning in {
        "--partition": "where to queue",
        "--account": "whose time it takes",
    }.items():
        asked.add_argument(name, type=text_argument(name), metavar=name[2].upper(), help=meaning)
    asked.add_argument(
        "--cpus", type=count_argument("--cpus", _Count), metavar="C", help="CPUs on each node"
    )
    asked.add_argument(
        "--signal-before",
        type=count_argument("--signal-before", _SignalBefore),
        default=120,
        metavar="S",
        help="seconds before the limit at which positions are saved (default: 120)",
    )
    asked.add_argument(
        "--sbatch",
        action="append",
        default=[],
        type=_sbatch_option,
        metavar="OPTION",
        help="another option for sbatch, e.g. --sbatch=--qos=long",
    )
    parser.add_argument("--submit", action="store_true", help="submit the script by sbatch")
    add_on_change(parser)
    parser.set_defaults(command=run)


def _gpus(text: str) -> str:
    from sg_ray.slurm.gpus import num_gpus_of

    num_gpus_of(text)
    return text


def _memory(text: str) -> str:
    if not _MEMORY.fullmatch(text):
        raise InputError(f"--mem {text}: give the memory of each node as SLURM does, such as 64G.")
    return text


def _sbatch_option(text: str) -> str:
    if not text.startswith("-"):
        raise InputError(
            f"--sbatch {text}: no option of sbatch. Write it with its dashes: --sbatch=--qos=long."
        )
    return text


def run(arguments: argparse.Namespace) -> int:
    """Write the script, submit it if that is asked for, and say what to do next."""
    from sg_ray.config import load_experiment
    from sg_ray.files import write_text
    from sg_ray.host.folders import require_writable
    from sg_ray.redaction import holds_secret
    from sg_ray.slurm.batch_script import batch_script
    from sg_ray.slurm.submit import submit

    file, overrides = split_settings(arguments.settings)
    if any(map(holds_secret, overrides)):
        raise InputError(
            "a setting holds a password or a token, which would stand in the script. Put it into "
            "the environment, which a job takes over from the shell that submits it."
        )
    file = file or arguments.default or told_default()
    experiment = load_experiment(file, overrides)
    if holds_secret(experiment.tracking.uri):
        raise InputError(
            f"{file}: tracking.uri holds a password or a token, which a job that is queued again "
            "would not know. Put it into the environment: MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD."
        )
    for warning in _warnings(arguments, experiment, file, overrides):
        print(f"warning: {warning}", file=sys.stderr)
    script = experiment.folder.batch_script.absolute()
    text = batch_script(_job(arguments, experiment, ("sweep", str(file), *overrides)))
    require_writable(script.parent, "output_dir")
    script.parent.mkdir(parents=True, exist_ok=True)
    write_text(script, text)
    shown = from_here(script)
    on_change = {"anew": ["--anew"], "keep": ["--keep-records"]}.get(arguments.on_change, [])
    if not arguments.submit:
        command = shlex.join(["sbatch", str(shown), *on_change])
        print(f"{shown}: read it, change it as your cluster wants it, submit it: {command}")
        return 0
    print(f"{shown}: {submit(script, on_change)}")
    return 0


def _warnings(
    arguments: argparse.Namespace, experiment: "Experiment", file: Path, overrides: Sequence[str]
) -> Iterator[str]:
    """Yield what would make the job slow. Raises InputError for what would keep it from working."""
    from sg_ray.slurm.gpus import as_written, check_gpus, num_gpus_of
    from sg_ray.slurm.time_limit import check_time_limit

    found = []
    if not any("gpu" in option or "gres" in option for option in arguments.sbatch):
        gpus = 0 if arguments.gpus is None else num_gpus_of(arguments.gpus)
        written = as_written(file, overrides)
        found.append(check_gpus(experiment, written, gpus_per_node=gpus, num_nodes=arguments.nodes))
    if arguments.time is not None:
        found.append(check_time_limit(arguments.time, arguments.signal_before, arguments.nodes))
    yield from filter(None, found)


def _job(
    arguments: argparse.Namespace, experiment: "Experiment", command: tuple[str, ...]
) -> "Job":
    from sg_ray.slurm.batch_script import Job

    script = experiment.folder.batch_script.absolute()
    return Job(
        name=experiment.name,
        arguments=command,
        folder=Path.cwd(),
        python=Path(sys.executable),
        log=script.with_name(f"{experiment.name}.slurm-%j.log"),
        sweep=experiment.folder,
        go_on=shlex.join(["sbatch", str(from_here(script))]),
        written_by=arguments.again,
        environment={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        num_nodes=arguments.nodes,
        time_limit=arguments.time,
        num_cpus=arguments.cpus,
        gpus=arguments.gpus,
        memory=arguments.mem,
        partition=arguments.partition,
        account=arguments.account,
        signal_before_s=arguments.signal_before,
        options=tuple(arguments.sbatch),
    )
