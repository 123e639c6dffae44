"""``sg-ray slurm``: the batch script by which SLURM runs a sweep."""

import argparse
import sys
from pathlib import Path

from sg_ray.cli.settings import count_argument, split_settings, text_argument, told_default
from sg_ray.commands import from_here
from sg_ray.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("settings", nargs="*", metavar="EXPERIMENT.yaml | key=value")
    asked = parser.add_argument_group("asked of SLURM, which decides on what is left out")
    asked.add_argument(
        "--nodes", type=count_argument("--nodes"), default=1, metavar="N", help="default: 1"
    )
    asked.add_argument(
        "--time",
        type=text_argument("--time"),
        metavar="T",
        help="limit of an allocation, e.g. 04:00:00; the sweep takes as many as it needs",
    )
    for name, meaning in {
        "--gpus": "GPUs on each node, e.g. 4 or a100:4",
        "--mem": "memory on each node, e.g. 64G",
        "--partition": "where to queue",
        "--account": "whose time it takes",
    }.items():
        asked.add_argument(name, type=text_argument(name), metavar=name[2].upper(), help=meaning)
    asked.add_argument(
        "--cpus", type=count_argument("--cpus"), metavar="C", help="CPUs on each node"
    )
    asked.add_argument(
        "--signal-before",
        type=count_argument("--signal-before"),
        default=120,
        metavar="S",
        help="seconds before the limit at which positions are saved (default: 120)",
    )
    asked.add_argument(
        "--sbatch",
        action="append",
        default=[],
        type=text_argument("--sbatch"),
        metavar="OPTION",
        help="another option for sbatch, e.g. --sbatch=--qos=long",
    )
    parser.add_argument("--submit", action="store_true", help="submit the script by sbatch")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the script, submit it if that is asked for, and say what to do next."""
    from sg_ray.config import load_experiment
    from sg_ray.files import write_text
    from sg_ray.host.folders import require_writable
    from sg_ray.redaction import holds_secret
    from sg_ray.slurm.batch_script import Job, batch_script
    from sg_ray.slurm.submit import submit
    from sg_ray.slurm.time_limit import check_time_limit

    file, overrides = split_settings(arguments.settings)
    if any(map(holds_secret, overrides)):
        raise InputError(
            "a setting holds a password or a token, which would stand in the script. Put it into "
            "the environment, which a job takes over from the shell that submits it."
        )
    file = file or arguments.default or told_default()
    experiment = load_experiment(file, overrides)
    output_dir = experiment.output_dir.absolute()
    if arguments.time is not None:
        warning = check_time_limit(arguments.time, arguments.signal_before, arguments.nodes)
        if warning is not None:
            print(f"warning: {warning}", file=sys.stderr)
    script = output_dir / f"{experiment.name}.sbatch"
    text = batch_script(
        Job(
            name=experiment.name,
            arguments=("sweep", str(file), *overrides),
            folder=Path.cwd(),
            python=Path(sys.executable),
            log=output_dir / f"{experiment.name}.slurm-%j.log",
            journal=experiment.folder.events,
            written_by=arguments.again,
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
    )
    require_writable(output_dir, "output_dir")
    output_dir.mkdir(parents=True, exist_ok=True)
    write_text(script, text)
    shown = from_here(script)
    if not arguments.submit:
        print(f"{shown}: read it, change it as your cluster wants it, submit it with sbatch")
        return 0
    print(f"{shown}: {submit(script)}")
    return 0
