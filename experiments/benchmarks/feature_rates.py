"""How fast features are made: program graphs by the whole command, tokens from text to the store.

    python experiments/benchmarks/feature_rates.py --today DIR       # a checkout to compare with
    python experiments/benchmarks/feature_rates.py --num-functions 2000

``sg-ray graphs`` is timed from its start to its end beside the same command of an older checkout,
and beside tree-sitter's parse of the same functions on one core, which no graph goes without.
Tokens are timed from the data set to the stored arrays, with a tokenizer that is trained already,
beside ``tokenizers.encode_batch`` on as many processes, whose start counts for both. The functions
are Devign's where a copy lies at hand (SG_RAY_DEVIGN names its folder), else synthetic ones.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from figures import (
    NO_TODAY,
    Figure,
    Measured,
    Skipped,
    environment_of,
    in_turn,
    print_figures,
    times_better,
)
from tokenizers import Tokenizer
from tree_sitter import Parser

from sg_ray.data.jsonl import write_jsonl
from sg_ray.data.samples import DataSet, Sample
from sg_ray.data.sources import DataConfig, load_data
from sg_ray.features.build import prepare_features
from sg_ray.features.featuriser import in_chunks
from sg_ray.features.kinds import save_featuriser
from sg_ray.features.spec import TokenSpec
from sg_ray.features.syntax import LANGUAGE
from sg_ray.features.tokens import TokenFeaturiser
from sg_ray.host.cpus import num_cpus

ROOT = Path(__file__).parents[2]
NUM_FUNCTIONS = 24_586
"""Devign's train and validation splits."""
_NUM_TO_FIT = 2_000


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--today", type=Path, metavar="DIR", help="a checkout to compare with")
    parser.add_argument("--num-functions", type=int, default=NUM_FUNCTIONS, metavar="N")
    parser.add_argument("--rounds", type=int, default=1, metavar="N")
    given = parser.parse_args()
    print_figures(measure(given.today, given.num_functions, given.rounds))


def measure(today: Path | None, num_functions: int = NUM_FUNCTIONS, rounds: int = 1) -> Measured:
    """Measure graphs and tokens of ``num_functions``; see the module."""
    data = _functions(num_functions)
    with TemporaryDirectory(prefix="sg-ray-features-") as scratch:
        return [
            *_graphs(data, today, Path(scratch), rounds),
            *_tokens(data, Path(scratch), rounds),
        ]


def _functions(num_functions: int) -> DataSet:
    """Return so many functions, a tenth of them for validation."""
    devign = Path(os.environ.get("SG_RAY_DEVIGN", ROOT.parent / "shared" / "devign"))
    if devign.is_dir():
        config = DataConfig(path=devign)
    else:
        print(f"no Devign in {devign}: the functions are synthetic")
        config = DataConfig(num_samples=num_functions + num_functions % 2)
    read = load_data(config, judges_names=False)
    samples = [sample for split in read.splits.values() for sample in split][:num_functions]
    num_valid = max(2, len(samples) // 10)
    return DataSet("functions", {"train": samples[num_valid:], "valid": samples[:num_valid]})


def _graphs(data: DataSet, today: Path | None, scratch: Path, rounds: int) -> Measured:
    folder = scratch / "data"
    for split, samples in data.splits.items():
        write_jsonl(folder / f"{split}.jsonl", samples)
    sources = [sample.source.encode() for sample in _all_samples(data)]
    ways = [partial(_run_command, ROOT, folder), partial(_parse, sources)]
    if today is not None:
        ways.append(partial(_run_command, today, folder))
    ours, parse, *others = in_turn(ways, rounds)
    note = f"{len(sources)} functions, CPU {ours.cpu_s:.1f} s"
    beside_parse = Figure(
        "tree-sitter's parse alone, on one core",
        ours.wall_s,
        parse.wall_s,
        "s",
        times_better(1 / 2.5),
        floor=parse.wall_s / num_cpus(),
        note=note,
    )
    if not others:
        return [Skipped("today's command", NO_TODAY), beside_parse]
    (before,) = others
    beside_today = Figure(
        "today's command",
        ours.wall_s,
        before.wall_s,
        "s",
        times_better(2),
        floor=parse.wall_s / num_cpus(),
        note=f"{note} against {before.cpu_s:.1f} s",
    )
    return [beside_today, beside_parse]


def _run_command(checkout: Path, data: Path) -> None:
    with TemporaryDirectory(dir=data.parent) as out:
        command = [sys.executable, "-m", "sg_ray", "graphs", "--data", str(data), "--out", out]
        subprocess.run(command, env=environment_of(checkout), check=True, stdout=subprocess.DEVNULL)


def _parse(sources: Sequence[bytes]) -> None:
    parser = Parser(LANGUAGE)
    for source in sources:
        parser.parse(source)


def _tokens(data: DataSet, scratch: Path, rounds: int) -> Measured:
    folder = scratch / "tokenizer"
    few = [sample.source for sample in data.splits["train"][:_NUM_TO_FIT]]
    save_featuriser(TokenFeaturiser.fit(TokenSpec(), few), folder)
    spec = TokenSpec(tokenizer=str(folder))
    texts = [" ".join(sample.source.split()) for sample in _all_samples(data)]
    ways = [partial(_prepare, data, spec, scratch), partial(_encode_alone, folder, texts)]
    ours, alone = in_turn(ways, rounds)
    return [
        Figure(
            "tokens, tokenizers.encode_batch alone",
            len(texts) / ours.wall_s,
            len(texts) / alone.wall_s,
            "functions/s",
            times_better(0.9),
            "more",
            note=f"{num_cpus()} processes, CPU {ours.cpu_s:.1f} s against {alone.cpu_s:.1f} s",
        )
    ]


def _prepare(data: DataSet, spec: TokenSpec, scratch: Path) -> None:
    with TemporaryDirectory(dir=scratch) as cache:
        prepare_features(data, [spec], Path(cache), num_workers=num_cpus())


def _encode_alone(folder: Path, texts: Sequence[str]) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(num_cpus(), _load_tokenizer, (folder,)) as pool:
        for _ in pool.imap(_encode_chunk, in_chunks(texts)):
            pass


_tokenizers: list[Tokenizer] = []
"""The tokenizer of a process of the pool."""


def _load_tokenizer(folder: Path) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _tokenizers.append(Tokenizer.from_file(str(folder / "tokenizer.json")))


def _encode_chunk(texts: Sequence[str]) -> None:
    _tokenizers[0].encode_batch(texts, add_special_tokens=False)


def _all_samples(data: DataSet) -> list[Sample]:
    return [sample for samples in data.splits.values() for sample in samples]


if __name__ == "__main__":
    main()
