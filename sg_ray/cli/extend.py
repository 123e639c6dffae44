"""``sg-ray extend``: more search trials, finalists or seeds for a sweep that has run."""

import argparse

import yaml

from sg_ray.cli.settings import named_experiment
from sg_ray.cli.sweep import run_and_show
from sg_ray.config import Experiment
from sg_ray.errors import InputError
from sg_ray.sweep.records import read_records

_SEEDS = ("seeds", "replicate.seeds")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("name", help="the sweep, or its folder")
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="key=value",
        help="seeds=[...] to add, replicate.max_seeds=N (for what is undecided), "
        "search.num_trials=N, replicate.top_k=N, or resources",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan, start nothing")
    parser.add_argument("--address", default="local", help="as of sg-ray sweep")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Go on with the larger sweep; return its exit code."""
    from sg_ray.sweep.admission import check_before_start

    if not arguments.settings:
        raise InputError("say what to add, e.g. seeds=[1,2] or search.num_trials=32")
    seeds = [text for text in arguments.settings if text.partition("=")[0] in _SEEDS]
    others = [text for text in arguments.settings if text not in seeds]
    experiment = named_experiment(others, arguments.default, arguments.name)
    for text in seeds:
        merged = seeds_after_extension(experiment, text)
        room = max(len(merged), experiment.replicate.max_seeds or 0)
        more = [f"replicate.seeds={merged}", f"replicate.max_seeds={room}"]
        experiment = named_experiment([*others, *more], arguments.default, arguments.name)
    check_before_start(experiment, arguments.address)
    if arguments.dry_run:
        from sg_ray.sweep.forecast import describe_plan

        print(describe_plan(experiment, extends=True))
        return 0
    return run_and_show(experiment, arguments.address, extends=True)


def seeds_after_extension(experiment: Experiment, text: str) -> list[int]:
    """Return the seeds that the sweep has had, in the order of their rounds, and the new ones.

    ``text`` is ``seeds=[...]``. Raises InputError if that is no list.
    """
    given = yaml.safe_load(text.partition("=")[2])
    if not isinstance(given, list):
        raise InputError(f"{text}: seeds are a list, e.g. seeds=[1,2]")
    trained = {record.seed for record in read_records(experiment.sweep_dir).values()}
    extra = [seed for seed in experiment.replicate.extra_seeds if seed in trained]
    return list(dict.fromkeys([*experiment.replicate.seeds, *extra, *given]))
