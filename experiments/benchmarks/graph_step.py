"""Training of a graph network on the CPU, beside today's and one of PyTorch Geometric.

    python experiments/benchmarks/graph_step.py [--today CHECKOUT]

The network has the width and depth of the default sweep's, and trains on the sweep's kind of
functions, on one thread, as a trial does. Ours and today's run in processes of their own, in turn,
each through its own training loop; PyG's ``DataLoader`` and ``RGCNConv`` step on the same graphs.
With equal weights ours and today's must give the same logits, or the comparison fails.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from figures import (
    NO_TODAY,
    Figure,
    Measured,
    Skipped,
    environment_of,
    print_figures,
    times_better,
)
from gpu_pack import GRAPHS, TOKENS, pack_synthetic, read_pack
from step_rate import Training, repeated_rate

from sg_ray.models.families import FAMILIES
from sg_ray.models.family import Inputs
from sg_ray.training.seeding import deterministic

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
SPLITS = {"train": 3_200, "valid": 64}
HIDDEN_DIM, NUM_LAYERS, BATCH_SIZE = 48, 3, 32
WARM_UP, STEPS, PYG_STEPS, ROUNDS = 10, 80, 20, 3
TOLERANCE = 1e-4
_PATIENCE_S = 100


def measure(today: Path | None) -> Measured:
    """Time ours, today's in turn with it, and PyG's."""
    with TemporaryDirectory(prefix="sg-ray-bench-") as folder:
        features = Path(folder) / "features.npz"
        pack_synthetic(features, SPLITS)
        checkouts = [ROOT] if today is None else [ROOT, today]
        runs = [[_apart(features, checkout) for checkout in checkouts] for _ in range(ROUNDS)]
        rates = [median(each["samples_per_s"] for each in of) for of in zip(*runs, strict=True)]
        note = f"hidden {HIDDEN_DIM}, {NUM_LAYERS} layers, one thread"
        figures: list[Figure | Skipped] = []
        if today is None:
            figures.append(Skipped("today", NO_TODAY))
        else:
            gap = np.ptp([run["logits"] for run in runs[0]], axis=0).max()
            if gap > TOLERANCE:
                raise RuntimeError(f"with equal weights the logits differ by {gap:.2g}")
            equal = f"{note}; logits within {gap:.1g}"
            figures.append(_faster("today", rates, rates[1], 1.5, equal))
        try:
            figures.append(_faster("PyG RGCNConv", rates, _pyg_rate(features), 10, note))
        except ImportError:
            figures.append(Skipped("PyG RGCNConv", "torch_geometric is not installed"))
        return figures


def _faster(name: str, rates: list[float], baseline: float, goal: float, note: str) -> Figure:
    return Figure(name, rates[0], baseline, "graphs/s", times_better(goal), "more", note=note)


def _apart(features: Path, checkout: Path) -> dict[str, Any]:
    """Return the rate and the logits of a checkout, from a process of its own."""
    run = subprocess.run(
        [sys.executable, __file__, "--features", str(features)],
        env=environment_of(checkout),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=_PATIENCE_S,
    )
    answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answer


def _answer(path: Path) -> dict[str, Any]:
    """Return the rate of a training, and the logits of a model with weights by a rule."""
    deterministic(threads=1)
    family = FAMILIES["gnn"]
    config = family.Config.model_validate(
        {
            "hidden_dim": HIDDEN_DIM,
            "num_layers": NUM_LAYERS,
            "batch_size": BATCH_SIZE,
            "epochs": 1,
        }
    )
    inputs = Inputs(read_pack(path, TOKENS, config.graphs.key), device=CPU)

    def build() -> Any:
        torch.manual_seed(0)
        return family.build(config, inputs)  # type: ignore[attr-defined]

    train, valid = (
        family.split_data(config, inputs, split)  # type: ignore[attr-defined]
        for split in SPLITS
    )
    rate = Training(build, train, valid, config, CPU).rate(WARM_UP, STEPS, profiles=False)
    model = build().eval()
    # Parameters have other names in other checkouts, but the same shapes in the same order.
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2, generator=generator)
        logits = model(valid.collate(np.arange(SPLITS["valid"])))
    return {"samples_per_s": rate.samples_per_s, "logits": logits.tolist()}


def _pyg_rate(path: Path) -> float:
    from plain_trainings import pyg_step

    deterministic(threads=1, strict=False)
    features = read_pack(path, TOKENS, GRAPHS)
    kind = features.kinds[GRAPHS]
    step = pyg_step(
        dict(kind.splits["train"]), features.labels["train"], dict(kind.meta),
        HIDDEN_DIM, NUM_LAYERS, BATCH_SIZE, CPU,
    )  # fmt: skip
    return repeated_rate(step, BATCH_SIZE, PYG_STEPS // 4, PYG_STEPS, CPU).samples_per_s


def main() -> None:
    """Print the figures; with ``--features``, what one checkout says of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--today", type=Path, help="checkout of the commit to compare with")
    parser.add_argument("--features", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.features is not None:
        print(json.dumps(_answer(arguments.features)))
        return
    print_figures(measure(arguments.today))


if __name__ == "__main__":
    main()
