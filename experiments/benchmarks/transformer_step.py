"""Training of a small transformer on a CPU: ours, the commit compared with, and the usual recipe.

The encoder is a RoBERTa from scratch (two layers, 64 wide, or 128) with RoBERTa's 50,265 tokens,
400 of them a function at most, batches of 32. Tokens are random; lengths have Devign's quantiles,
which are what decides the time. Each side runs in a process of its own on one thread, and takes a
few steps in turn with the others. A short training without dropout, on the same weights and
batches, shows that all follow the same curve.

Run it with ``python experiments/benchmarks/transformer_step.py [--today FOLDER]``.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

import numpy as np
import torch
from figures import NO_TODAY, Figure, Measured, Skipped, environment_of, print_figures, times_better

from sg_ray.features.packed import FeatureKind, Features, Ragged
from sg_ray.models.family import Inputs
from sg_ray.models.transformer import Transformer, TransformerConfig
from sg_ray.training.batches import epoch_batches
from sg_ray.training.compute import make_compute
from sg_ray.training.optimiser import Optimiser, linear_schedule
from sg_ray.training.seeding import deterministic, torch_stream
from sg_ray.training.step import Stepper

HERE = Path(__file__).resolve()
WIDTHS = (64, 128)
BATCH_SIZE, MAX_TOKENS, NUM_FUNCTIONS = 32, 400, 2_000
QUANTILES = (20, 80, 150, 292, 658, 1_346, 4_000)
"""Tokens of Devign's functions at shares of 0, 10, 25, 50, 75, 90 and 100 %."""
META = {"vocab_size": 50_265, "bos_id": 0, "pad_id": 1, "eos_id": 2, "unk_id": 3}
ROUNDS, STEPS, RECIPE_STEPS, CURVE_STEPS = 3, 3, 1, 4


def measure(today: Path | None) -> Measured:
    """Return samples a second for each width, beside today's and the recipe's."""
    measured: list[Figure | Skipped] = []
    for width in WIDTHS:
        measured += _measure(width, today)
    return measured


def _measure(width: int, today: Path | None) -> Measured:
    root = HERE.parents[2]
    with ExitStack() as stack:
        sides = {"ours": stack.enter_context(Side.of("ours", width, root))}
        sides["recipe"] = stack.enter_context(Side.of("recipe", width, root))
        if today is not None:
            sides["today"] = stack.enter_context(Side.of("ours", width, today))
        curves = {name: side.ask("curve") for name, side in sides.items() if name != "recipe"}
        rates = _in_turn(sides)
    goal = {"today": times_better(1.5), "recipe": times_better(6)}
    figures: list[Figure | Skipped] = []
    for name in ("today", "recipe"):
        label = f"2 x {width}, {name}"
        if name not in rates:
            figures.append(Skipped(label, NO_TODAY))
            continue
        note = "samples a second of CPU time"
        if name in curves:
            apart = np.abs(np.subtract(curves["ours"], curves[name])).max()
            note += f"; losses of {CURVE_STEPS} steps differ by {apart:.1e} at most"
        figures.append(
            Figure(label, rates["ours"], rates[name], "samples/s", goal[name], "more", note=note)
        )
    return figures


def _in_turn(sides: Mapping[str, "Side"]) -> dict[str, float]:
    """Return the median samples a second of CPU time; the first round warms up."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(1 + ROUNDS):
        for name, side in sides.items():
            spent[name].append(side.ask("steps"))
    return {name: 1 / median(each[1:]) for name, each in spent.items()}


@dataclass
class Side:
    """A process that trains, with the sources of some checkout, and answers line by line."""

    process: "subprocess.Popen[str]"

    @classmethod
    def of(cls, name: str, width: int, checkout: Path) -> Self:
        """Start it."""
        command = [sys.executable, str(HERE), "--side", name, "--width", str(width)]
        pipe = subprocess.PIPE
        environment = environment_of(checkout)
        return cls(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def ask(self, question: str) -> Any:
        """Return the answer to ``question``. Raises RuntimeError if the process is gone."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(question, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"no answer from {self.process.args!r}")
        return json.loads(answer)


def answer(side: str, width: int) -> None:
    """Be a side: ``steps`` takes some, and gives CPU seconds a sample; ``curve`` gives losses."""
    deterministic(1)
    kind, labels = functions()
    num_steps, step = (
        (RECIPE_STEPS, _recipe(kind, labels, width))
        if side == "recipe"
        else (STEPS, _ours(kind, labels, width))
    )
    for question in sys.stdin:
        if question.strip() == "curve":
            print(json.dumps(curve(kind, labels, width)), flush=True)
            continue
        began_s = time.process_time()
        for _ in range(num_steps):
            step()
        print(json.dumps((time.process_time() - began_s) / num_steps / BATCH_SIZE), flush=True)


def functions() -> tuple[FeatureKind, Any]:
    """Return functions of random tokens, and random labels."""
    rng = np.random.default_rng(0)
    shares = rng.random(NUM_FUNCTIONS)
    lengths = np.interp(shares, (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1), QUANTILES).astype(int)
    items = [rng.zipf(1.2, size=num) % (META["vocab_size"] - 5) + 5 for num in lengths]
    ids = Ragged.pack([item.astype(np.uint16) for item in items])
    return FeatureKind(META, {"train": {"ids": ids}}), rng.integers(0, 2, len(ids)).astype(np.int8)


def _ours(kind: FeatureKind, labels: Any, width: int) -> Callable[[], object]:
    stepper, batches = _stepper(kind, labels, width, dropout=0.1)
    following = iter(batches)
    return lambda: stepper.step(next(following))


def _recipe(kind: FeatureKind, labels: Any, width: int) -> Callable[[], object]:
    from plain_trainings import recipe_step

    encoder = {
        "hidden_size": width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 4 * width,
    }
    cpu = torch.device("cpu")
    return recipe_step(kind, labels, encoder, MAX_TOKENS, BATCH_SIZE, torch.float32, cpu)


def curve(kind: FeatureKind, labels: Any, width: int) -> list[float]:
    """Return the mean losses of some steps without dropout, over the samples in their order."""
    stepper, _ = _stepper(kind, labels, width, dropout=0.0)
    batches = np.arange(CURVE_STEPS * BATCH_SIZE).reshape(CURVE_STEPS, BATCH_SIZE)
    return [stepper.step(batch).loss_sum / BATCH_SIZE for batch in batches]


def _stepper(
    kind: FeatureKind, labels: Any, width: int, dropout: float
) -> tuple[Stepper, Sequence[Any]]:
    config = TransformerConfig(
        hidden_dim=width, max_tokens=MAX_TOKENS, batch_size=BATCH_SIZE, dropout=dropout
    )
    inputs = Inputs(Features("functions", {"train": labels}, {config.tokens.key: kind}))
    family = Transformer()
    split = family.split_data(config, inputs, "train")
    with torch_stream(1, "init"):
        model = family.build(config, inputs).train()
    compute = make_compute(config, torch.device("cpu"))
    schedule = linear_schedule(config, 1_000)
    optimiser = Optimiser(model, config, schedule, compute.precision.grad_scaler())
    return Stepper(model, split, optimiser, compute), epoch_batches(split, config, 1, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--today", type=Path, help="a checkout of the commit compared with")
    parser.add_argument("--side", choices=["ours", "recipe"], help=argparse.SUPPRESS)
    parser.add_argument("--width", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side is not None:
        answer(arguments.side, arguments.width)
    else:
        print_figures(measure(arguments.today))
