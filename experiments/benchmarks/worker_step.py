"""A step under TorchTrainer with one worker beside one without workers.

    python experiments/benchmarks/worker_step.py

The worker trains the same small graph network by turns: as one of a group of one, whose stop is
asked for as a group's is, and as a process alone. That there is a process group, set up by Train,
holds for both. What DistributedDataParallel would take, around a group of one, is told beside it.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import ray
import torch
from figures import Figure, Measured, print_figures, times_better
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue

from sg_ray.cluster.groups.process_group import GroupConfig
from sg_ray.cluster.ray_private.train_tune_names import get_train_context
from sg_ray.data.samples import DataSet
from sg_ray.data.synthetic.generator import generate
from sg_ray.features.build import prepare_features
from sg_ray.models.families import get_family
from sg_ray.models.family import Inputs, NeuralFamily
from sg_ray.training.compute import make_compute
from sg_ray.training.loop import make_training
from sg_ray.training.seeding import Seeds, deterministic
from sg_ray.training.workers import ALONE, TorchGroup, Workers, workers_of_group

CPU = torch.device("cpu")
NUM_SAMPLES = 1_600
BATCH_SIZE = 16
EPOCHS = 3
NUM_ROUNDS = 5


def measure(today: Path | None) -> Measured:  # noqa: ARG001 - without workers is the baseline
    """Train by turns in one worker of a TorchTrainer."""
    with TemporaryDirectory(prefix="sg-ray-worker-") as folder:
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            found = Queue()
            TorchTrainer(
                _work,
                train_loop_config={"folder": folder, "found": found},
                torch_config=GroupConfig(backend="gloo"),
                scaling_config=ScalingConfig(num_workers=1),
                run_config=RunConfig(name="worker-step", storage_path=folder),
            ).fit()
            ours_ms, baseline_ms, wrapped_ms = found.get()
        finally:
            ray.shutdown()
    note = f"CPU time; wrapped in DistributedDataParallel all the same: {wrapped_ms:.2f} ms"
    goal = times_better(1 / 1.03)
    return [Figure("no workers", ours_ms, baseline_ms, "ms", goal, note=note)]


def _work(config: dict[str, Any]) -> None:
    """Run in the worker: hand over the milliseconds of a step as one of a group, alone, wrapped."""
    deterministic(threads=1, strict=False)
    folder = Path(config["folder"])
    family = get_family("gnn")
    assert isinstance(family, NeuralFamily)
    settings = family.Config(
        hidden_dim=64, num_layers=2, batch_size=BATCH_SIZE, epochs=EPOCHS, collapse_patience=None
    )
    samples = generate(NUM_SAMPLES, seed=0)
    cuts = {"train": slice(0, -100), "valid": slice(-100, None)}
    data = DataSet("synthetic", {split: samples[part] for split, part in cuts.items()})
    inputs = Inputs(prepare_features(data, family.feature_specs(settings), folder))
    splits = [family.split_data(settings, inputs, split) for split in ("train", "valid")]
    number = iter(range(1_000))

    def step_ms(workers: Workers, should_stop: Callable[[], bool]) -> float:
        torch.manual_seed(0)
        model = family.build(settings, inputs)
        began_s = time.process_time()
        results = list(
            make_training(
                model, *splits, settings, seeds=Seeds(0), objective="val_roc_auc",
                folder=folder / str(next(number)), identity={},
                compute=make_compute(settings, CPU, workers),
            ).epochs(should_stop)
        )  # fmt: skip
        num_steps = len(results) * -(-len(splits[0].labels) // BATCH_SIZE)
        return 1000 * (time.process_time() - began_s) / num_steps

    def on_notice() -> bool:
        return get_train_context().preemption_context.preemption_info is not None

    ways: list[tuple[Workers, Callable[[], bool]]] = [
        (workers_of_group(CPU), on_notice),
        (ALONE, lambda: False),
        (TorchGroup(CPU), on_notice),
    ]
    step_ms(*ways[1])  # the first training of a process also loads what all need
    rounds = [[step_ms(*way) for way in ways] for _ in range(NUM_ROUNDS)]
    config["found"].put([median(times) for times in zip(*rounds, strict=True)])


if __name__ == "__main__":
    print_figures(measure(None))
