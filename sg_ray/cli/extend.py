"""``sg-ray extend``: more search trials, finalists or seeds for a sweep that has run."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from sg_ray.cli.argument_values import text_argument
from sg_ray.cli.settings import named_experiment
from sg_ray.cli.sweep import add_executor, add_on_change, decision, run_or_describe
from sg_ray.config import ReplicateSettings
from sg_ray.config.explain import explain
from sg_ray.config.values import Values, read_override
from sg_ray.errors import InputError
from sg_ray.records.record import read_records
from sg_ray.setting_types import MAX_SEEDS
from sg_ray.sweep.execute.choice import named_executor
from sg_ray.sweep_folder import SweepFolder

_SEEDS = ("seeds", "replicate.seeds")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("name", type=text_argument("name"), help="the sweep, or its folder")
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="key=value",
        help="seeds=[...] to add, replicate.max_seeds=N (for what is undecided), "
        "search.num_trials=N, replicate.top_k=N, or resources",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan, start nothing")
    add_on_change(parser)
    add_executor(parser)
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Go on with the larger sweep; return its exit code."""
    if not arguments.settings:
        raise InputError("say what to add, e.g. seeds=[1,2] or search.num_trials=32")
    seeds = [text for text in arguments.settings if text.partition("=")[0] in _SEEDS]
    others = [text for text in arguments.settings if text not in seeds]
    experiment = named_experiment(others, arguments.default, arguments.name)
    for text in seeds:
        after = seeds_after_extension(experiment.replicate, experiment.folder, text)
        replicate = _with_seeds(experiment.replicate, after, text)
        experiment = experiment.model_copy(update={"replicate": replicate})
    executor = named_executor(arguments.executor, arguments.address)
    decide = decision(arguments)
    return run_or_describe(experiment, executor, decide, is_dry=arguments.dry_run, extends=True)


def seeds_after_extension(
    replicate: ReplicateSettings, folder: SweepFolder, text: str
) -> list[int]:
    """Return the seeds that the sweep has had, in the order of their rounds, and the new ones.

    ``text`` is ``seeds=[...]``. Raises InputError if those are no seeds.
    """
    override = replace(read_override(text), key="seeds")
    if not isinstance(override.value, list):
        raise InputError(f"{text}: seeds are a list, e.g. seeds=[1,2]")
    given = Values(Path(), {}, {}).given(override)
    try:
        seeds = ReplicateSettings.model_validate(given.content).seeds
    except ValidationError as error:
        raise InputError(explain(error, ReplicateSettings, given)) from error
    trained = {record.seed for record in read_records(folder).values()}
    extra = [seed for seed in replicate.extra_seeds if seed in trained]
    return list(dict.fromkeys([*replicate.seeds, *extra, *seeds]))


def _with_seeds(replicate: ReplicateSettings, seeds: Sequence[int], text: str) -> ReplicateSettings:
    """Return the settings with these seeds, and room for them all."""
    if len(seeds) > MAX_SEEDS:
        raise InputError(f"{text!r}: at most {MAX_SEEDS:,} seeds, with those that there are.")
    room = max(len(seeds), replicate.max_seeds or 0)
    return replicate.model_copy(update={"seeds": tuple(seeds), "max_seeds": room})
