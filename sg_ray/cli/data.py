"""``sg-ray data``: write synthetic data, check a data folder."""

import argparse
from pathlib import Path

from pydantic import ValidationError

from sg_ray.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the commands take."""
    kinds = parser.add_subparsers(required=True, metavar="synthetic|check")
    synthetic = kinds.add_parser("synthetic", help="write synthetic data as JSONL")
    synthetic.add_argument("--num-samples", type=int, required=True)
    synthetic.add_argument("--seed", type=int, default=0)
    synthetic.add_argument("--out", type=Path, default=Path("synthetic"), help="folder to write")
    synthetic.set_defaults(command=_synthetic)
    check = kinds.add_parser("check", help="report duplicates, conflicts and leaks")
    check.add_argument("folder", type=Path)
    check.set_defaults(command=_check)


def _synthetic(arguments: argparse.Namespace) -> int:
    from sg_ray.data.sources import DataConfig, load_data, write_jsonl

    try:
        config = DataConfig(num_samples=arguments.num_samples, seed=arguments.seed)
    except ValidationError as error:
        raise InputError(f"--num-samples, --seed: {error.errors()[0]['msg']}.") from error
    data = load_data(config)
    for split, samples in data.splits.items():
        path = arguments.out / f"{split}.jsonl"
        write_jsonl(path, samples)
        print(f"{path}: {len(samples)} samples")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from sg_ray.data.sources import DataConfig, load_data

    data = load_data(DataConfig(path=arguments.folder))
    sizes = ", ".join(f"{split} {len(samples)}" for split, samples in data.splits.items())
    print(f"{sizes}; fingerprint {data.fingerprint}")
    for note in data.notes:
        print(note)
    return 0
