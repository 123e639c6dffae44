"""Eight seeds as one stacked model beside the same eight, each trained for itself.

    python experiments/benchmarks/stacked_seeds.py

Graph network and fusion head of the default sweep's size, on synthetic functions. The baselines are
eight trainings one after another in one process, and two at a time in two processes of a thread
each, which is how a sweep runs them on two cores. All ways end with the same scores of each seed up
to rounding, or the comparison fails. What two processes take to start is not counted.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Literal

import frozen_fusion
import torch
from figures import Figure, Measured, print_figures, times_better

from sg_ray.config import load_experiment
from sg_ray.models.families import get_family
from sg_ray.models.family import Inputs, NeuralConfig, NeuralFamily
from sg_ray.training.compute import Compute, make_compute
from sg_ray.training.loop import Training, make_training, never
from sg_ray.training.seeding import Seeds, deterministic, torch_stream
from sg_ray.training.stacked import StackedTraining

Model = Literal["gnn", "fusion"]
SEEDS = tuple(range(1, 9))
EPOCHS = {"gnn": 1, "fusion": 10}
NUM_SAMPLES = {"gnn": 400, "fusion": 2_000}
ROUNDS = 3
CPU = torch.device("cpu")
GOAL = 1 / 0.8
"""Of two at a time: below that a sweep leaves stacking off."""


@dataclass(frozen=True)
class Setting:
    """One model over features that lie in a folder, so that every process finds them there."""

    model: Model
    folder: Path

    @property
    def config(self) -> NeuralConfig:
        """The default sweep's values, with as many epochs as are measured."""
        given = load_experiment(frozen_fusion.EXPERIMENT).model(self.model).settings
        assert isinstance(given, NeuralConfig)
        changes = {"epochs": EPOCHS[self.model], "early_stopping_patience": None}
        return given.model_copy(update=changes)

    def training(self, seed: int, compute: Compute, folder: Path, *, is_stacked: bool) -> Training:
        """Return the training of one seed."""
        family, inputs = get_family(self.model), inputs_in(self.folder, NUM_SAMPLES[self.model])
        assert isinstance(family, NeuralFamily)
        with torch_stream(seed, "init"):
            model = family.build(self.config, inputs)
        return make_training(
            model,
            family.split_data(self.config, inputs, "train"),
            family.split_data(self.config, inputs, "valid"),
            self.config,
            seeds=Seeds(seed),
            objective="val_roc_auc",
            folder=folder / str(seed),
            identity={},
            compute=compute,
            is_stacked=is_stacked,
        )


Scores = dict[int, float]
"""By seed, the last score on validation."""


@cache
def inputs_in(folder: Path, num_samples: int) -> Inputs:
    """Return the features and branches of a folder, made once there."""
    return frozen_fusion.inputs_in(folder, num_samples)


def alone(setting: Setting, seeds: Sequence[int]) -> Scores:
    """Train seeds one after another."""
    deterministic(threads=1)
    scores = {}
    with TemporaryDirectory(prefix="sg-ray-alone-") as folder:
        for seed in seeds:
            compute = make_compute(setting.config, CPU)
            training = setting.training(seed, compute, Path(folder), is_stacked=False)
            *_, last = training.epochs(never)
            scores[seed] = last.metrics["val_roc_auc"]
    return scores


def stacked(setting: Setting) -> Scores:
    """Train all seeds as one model, by one thread: two take longer, above all beside others."""
    deterministic(threads=1)
    scores: Scores = {}
    compute = make_compute(setting.config, CPU)
    with TemporaryDirectory(prefix="sg-ray-stacked-") as folder:
        members = {
            row: setting.training(seed, compute, Path(folder), is_stacked=True)
            for row, seed in enumerate(SEEDS)
        }
        names = [str(seed) for seed in SEEDS]
        for news in StackedTraining(members, names, setting.config, compute).rounds(never):
            for row, one in news.items():
                if isinstance(one, Exception):
                    raise one
                scores[SEEDS[row]] = one.metrics["val_roc_auc"]
    return scores


def measure(today: Path | None) -> Measured:  # noqa: ARG001 - the baselines are other ways, not then
    """Train both models each way, in turn."""
    return list(_figures())


def _figures() -> Iterator[Figure]:
    with TemporaryDirectory(prefix="sg-ray-seeds-") as folder:
        spawned = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(2, mp_context=spawned) as pool:
            for model in ("fusion", "gnn"):
                setting = Setting(model, Path(folder) / model)  # type: ignore[arg-type]
                inputs_in(setting.folder, NUM_SAMPLES[setting.model])
                yield from _of_model(setting, pool)


def _of_model(setting: Setting, pool: ProcessPoolExecutor) -> Iterator[Figure]:
    halves = (SEEDS[::2], SEEDS[1::2])

    def two_at_a_time() -> Scores:
        both = pool.map(partial(alone, setting), halves)
        return {seed: score for part in both for seed, score in part.items()}

    two_at_a_time()  # both processes have imported and read everything
    ways: dict[str, Callable[[], Scores]] = {
        "stacked": lambda: stacked(setting),
        "two at a time": two_at_a_time,
        "one after another": lambda: alone(setting, SEEDS),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    scores: dict[str, Scores] = {}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began_s = time.perf_counter()
            scores[name] = way()
            times[name].append(time.perf_counter() - began_s)
    for seed in SEEDS:
        apart = abs(scores["stacked"][seed] - scores["one after another"][seed])
        if apart > 1e-3:  # one pair of functions may change places
            raise RuntimeError(f"{setting.model} seed {seed}: scores differ by {apart:.2g}")
    ours = median(times["stacked"])
    note = f"8 seeds, {EPOCHS[setting.model]} epochs, one thread each"
    for name, goal in (("two at a time", times_better(GOAL)), ("one after another", None)):
        baseline = median(times[name])
        yield Figure(f"{setting.model}, {name}", ours, baseline, "s", goal, note=note)


if __name__ == "__main__":
    print_figures(measure(None))
