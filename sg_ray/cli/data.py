"""``sg-ray data``: write synthetic data, sample a data set, check a data folder."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sg_ray.cli.argument_values import count_argument, folder_argument, seed_argument
from sg_ray.errors import InputError
from sg_ray.setting_types import with_home

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sg_ray.data.samples import Sample
    from sg_ray.data.sources import DataConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the commands take."""
    kinds = parser.add_subparsers(required=True, metavar="synthetic|sample|check")
    synthetic = kinds.add_parser("synthetic", help="write synthetic data as JSONL")
    synthetic.add_argument("--num-samples", type=count_argument("--num-samples"), required=True)
    synthetic.add_argument("--seed", type=seed_argument("--seed"), default=0)
    synthetic.add_argument(
        "--out", type=folder_argument("--out"), default=Path("synthetic"), help="folder to write"
    )
    synthetic.set_defaults(command=_synthetic)
    sample = kinds.add_parser("sample", help="write a stratified sample of a data set as JSONL")
    sample.add_argument(
        "folder",
        type=folder_argument("folder"),
        nargs="?",
        help="folder of JSONL splits (default: built-in data)",
    )
    sample.add_argument(
        "--num", type=count_argument("--num"), required=True, help="functions over all splits"
    )
    sample.add_argument("--seed", type=seed_argument("--seed"), default=0)
    sample.add_argument(
        "--out", type=folder_argument("--out"), default=Path("sample"), help="folder to write"
    )
    sample.set_defaults(command=_sample)
    check = kinds.add_parser("check", help="report duplicates, conflicts and leaks")
    check.add_argument("folder", type=folder_argument("folder"))
    check.set_defaults(command=_check)


def _synthetic(arguments: argparse.Namespace) -> int:
    from sg_ray.data.sources import load_data

    config = _config("--num-samples", num_samples=arguments.num_samples, seed=arguments.seed)
    _write(arguments.out, load_data(config).splits)
    return 0


def _sample(arguments: argparse.Namespace) -> int:
    from sg_ray.data.sources import DataConfig, load_data
    from sg_ray.data.splits import stratified_sample

    source: Path | None = arguments.folder
    if source is not None and with_home(source).resolve() == arguments.out.resolve():
        raise InputError(f"--out {arguments.out}: is the folder to sample from. Name another one.")
    data = load_data(DataConfig() if source is None else DataConfig(path=source))
    _write(arguments.out, stratified_sample(data.splits, arguments.num, arguments.seed))
    return 0


def _check(arguments: argparse.Namespace) -> int:
    """Print what was found; return 1 if a sweep as it is by default would refuse the data.

    Duplicates, conflicts, leaks and names are told only: a sweep keeps them, and says so.
    """
    from sg_ray.config import Experiment
    from sg_ray.data.samples import labels_of
    from sg_ray.data.sources import DataConfig, load_data
    from sg_ray.training.metrics import check_objective

    data = load_data(DataConfig(path=arguments.folder))
    sizes = ", ".join(f"{split} {len(samples)}" for split, samples in data.splits.items())
    print(f"{sizes}; fingerprint {data.fingerprint}")
    for note in data.notes:
        print(note)
    try:
        check_objective(
            Experiment.model_fields["objective"].default, labels_of(data.splits["valid"])
        )
    except InputError as error:
        print(error)
        return 1
    return 0


def _config(option: str, **settings: Any) -> "DataConfig":
    from sg_ray.data.sources import DataConfig

    try:
        return DataConfig(**settings)
    except ValidationError as error:
        raise InputError(f"{option}: {error.errors()[0]['msg']}.") from error


def _write(folder: Path, splits: "Mapping[str, Sequence[Sample]]") -> None:
    from sg_ray.data.sources import write_folder
    from sg_ray.host.folders import require_writable

    require_writable(folder, "--out")
    for split, path in write_folder(folder, splits).items():
        print(f"{path}: {len(splits[split])} samples")
