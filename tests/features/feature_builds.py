"""A data set big enough to interrupt, and builds of it as processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

from sg_ray.data.samples import DataSet, Sample
from sg_ray.features.build import prepare_features
from sg_ray.features.spec import GraphSpec, TextSpec, TokenSpec

SPECS = (TokenSpec(vocab_size=320), GraphSpec(vocab_size=64), TextSpec())
PROJECT_ROOT = Path(__file__).parents[2]


def make_data(num_train: int = 60, num_valid: int = 20) -> DataSet:
    """Functions that differ from each other in names, numbers and length."""
    return DataSet(
        "toy",
        {
            "train": [_sample(i) for i in range(num_train)],
            "valid": [_sample(i) for i in range(num_train, num_train + num_valid)],
        },
    )


def _sample(i: int) -> Sample:
    steps = " ".join(f"if (v{j} > {i}) v{j} = g(v{j}, {i * j});" for j in range(i % 7))
    return Sample(f"int f{i}(int v0, int n) {{ {steps} return n + {i}; }}", i % 2, str(i))


def start_build(cache_dir: Path, *, num_train: int, num_workers: int = 1) -> subprocess.Popen[str]:
    """Start a build as a process; it says "started" when the first feature is being encoded."""
    return subprocess.Popen(
        [sys.executable, __file__, str(cache_dir), str(num_train), str(num_workers)],
        env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _say_started(kind: str, num_done: int, num_total: int) -> None:
    if num_done == 0:
        print("started", kind, flush=True)


if __name__ == "__main__":
    prepare_features(
        make_data(int(sys.argv[2])),
        SPECS,
        Path(sys.argv[1]),
        num_workers=int(sys.argv[3]),
        progress=_say_started,
    )
    print("finished", flush=True)
