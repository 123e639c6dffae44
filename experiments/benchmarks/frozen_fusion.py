"""A fusion trial over frozen branches beside one that embeds every function anew in every epoch.

    python experiments/benchmarks/frozen_fusion.py

Both train the same head on the same synthetic functions in the same loop, with branches of the
default sweep's size. Ours reads the branches' outputs from the cache, where the first fusion trial
of a sweep has put them (its cost is told); the baseline has the branches' forward passes, without
gradients, in each batch. Both end with the same scores, or the comparison fails.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from figures import Figure, Measured, print_figures, times_better
from numpy.typing import NDArray

from sg_ray.config import load_experiment
from sg_ray.data.samples import DataSet
from sg_ray.data.synthetic.generator import generate
from sg_ray.features.build import prepare_features
from sg_ray.models.families import get_family
from sg_ray.models.family import Batch, Branch, Classifier, Inputs, NeuralFamily, SplitData
from sg_ray.models.fusion import FusionConfig
from sg_ray.training.compute import make_compute
from sg_ray.training.loop import make_training, never
from sg_ray.training.seeding import Seeds, deterministic

EXPERIMENT = Path(__file__).parents[1] / "quick.yaml"
NUM_SAMPLES = 4_000
EPOCHS = 12
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Timed:
    """What one trial took on the clock and of the CPU, and its last score on validation."""

    wall_s: float
    cpu_s: float
    score: float


@dataclass(frozen=True)
class AnewSplit:
    """A split whose branch outputs are computed whenever a batch of it is made."""

    labels: NDArray[np.int8]
    branches: tuple[tuple[Classifier, str, SplitData], ...]
    padded: bool = False

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """Ones, shape [n], as of a frozen split, so that both have the same batches."""
        return np.ones(len(self.labels), dtype=np.int64)

    @torch.no_grad()
    def collate(self, indices: NDArray[np.int64]) -> Batch:
        """Return what a frozen split would, computed now."""
        batch: Batch = {}
        for model, name, split in self.branches:
            embedding = model.embed(split.collate(indices))
            batch[f"{name}/embedding"] = embedding
            batch[f"{name}/logit"] = model.classify(embedding)
        return batch


def measure(today: Path | None) -> Measured:  # noqa: ARG001 - the baseline is another way, not then
    """Train the head both ways, in turn."""
    with TemporaryDirectory(prefix="sg-ray-fusion-") as folder:
        return _measure(Path(folder))


def _measure(folder: Path) -> Measured:
    deterministic(threads=1)
    fusion = get_family("fusion")
    assert isinstance(fusion, NeuralFamily)
    config = FusionConfig(epochs=EPOCHS, early_stopping_patience=None)
    inputs = inputs_in(folder)

    def frozen() -> tuple[Classifier, SplitData, SplitData]:
        splits = [fusion.split_data(config, inputs, split) for split in ("train", "valid")]
        return fusion.build(config, inputs), splits[0], splits[1]

    def anew() -> tuple[Classifier, SplitData, SplitData]:
        train_split, valid_split = (_anew(inputs, split) for split in ("train", "valid"))
        with_cache = replace(inputs, cache_dir=folder)
        return fusion.build(config, with_cache), train_split, valid_split

    first = _timed(frozen, config, folder / "first")
    baseline = _timed(anew, config, folder / "anew")
    ours = [_timed(frozen, config, folder / f"frozen-{number}") for number in range(5)]
    (score,) = {one.score for one in ours}
    if abs(score - baseline.score) > 1e-3:
        raise RuntimeError(f"the two ways score {score:.4f} and {baseline.score:.4f}")
    ours_s, ours_cpu_s = median(one.wall_s for one in ours), median(one.cpu_s for one in ours)
    note = f"{EPOCHS} epochs, {NUM_SAMPLES} functions; the first of a sweep {first.wall_s:.2f} s"
    goal = times_better(20)
    return [
        Figure("embeddings anew", ours_s, baseline.wall_s, "s", goal, note=note),
        Figure("embeddings anew, CPU time", ours_cpu_s, baseline.cpu_s, "s", None),
    ]


def _timed(
    build: Callable[[], tuple[Classifier, SplitData, SplitData]],
    config: FusionConfig,
    folder: Path,
) -> Timed:
    """Train one trial."""
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    torch.manual_seed(0)
    model, train_split, valid_split = build()
    results = list(
        make_training(
            model, train_split, valid_split, config, seeds=Seeds(0), objective="val_roc_auc",
            folder=folder, identity={}, compute=make_compute(config, CPU),
        ).epochs(never)
    )  # fmt: skip
    wall_s, cpu_s = time.perf_counter() - started_s, time.process_time() - started_cpu_s
    return Timed(wall_s, cpu_s, results[-1].metrics["val_roc_auc"])


def inputs_in(folder: Path, num_samples: int = NUM_SAMPLES) -> Inputs:
    """Return synthetic features, and branches of the default sweep's size, not trained."""
    experiment = load_experiment(EXPERIMENT)
    samples = generate(num_samples, seed=0)
    tenth = num_samples // 10
    cuts = {
        "train": slice(0, 8 * tenth),
        "valid": slice(8 * tenth, 9 * tenth),
        "test": slice(9 * tenth, None),
    }
    data = DataSet("synthetic", {split: samples[part] for split, part in cuts.items()})
    configs = {name: experiment.model(name).settings for name in ("transformer", "gnn")}
    specs = [s for name, one in configs.items() for s in get_family(name).feature_specs(one)]
    inputs = Inputs(prepare_features(data, specs, folder), cache_dir=folder)
    branches = {}
    for name, config in configs.items():
        family = get_family(name)
        assert isinstance(family, NeuralFamily)
        torch.manual_seed(1)
        model = family.build(config, inputs).eval()
        splits = {split: family.split_data(config, inputs, split) for split in cuts}
        branches[name] = Branch(name, f"{name}-untrained", lambda model=model: model, splits)  # type: ignore[misc]
    return replace(inputs, branches=branches)


def _anew(inputs: Inputs, split: str) -> AnewSplit:
    parts = tuple((b.model, name, b.splits[split]) for name, b in inputs.branches.items())
    return AnewSplit(inputs.features.labels[split], parts)


if __name__ == "__main__":
    print_figures(measure(None))
