"""What a trial costs beside its training: checkpoints and MLflow on, hardly anything to train.

    python experiments/benchmarks/trial_overhead.py

Ours are seeds of the lexical floor on 160 functions (it fits in about 10 ms) in a whole sweep. The
baselines are what most people write: a Tuner whose trials report one metric with one checkpoint,
with Ray's MLflow callback; once the function trains by itself, once it starts a ``TorchTrainer``
with one worker, as Ray's guide shows. As many trials run at once as there are CPUs. Counted is the
time from one end of a trial to the next, over the run: processes that start at first are left out
of all of them, what starts anew with each trial is not.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from commands import run_to_its_end
from figures import (
    NO_TODAY,
    Figure,
    Measured,
    Skipped,
    at_most,
    environment_of,
    print_figures,
    times_better,
)

ROOT = Path(__file__).parents[2]
NUM_OURS, NUM_PLAIN, NUM_NESTED = 80, 12, 6
GOAL_S = 0.12


def measure(today: Path | None) -> Measured:
    """Measure ours and today's in turn, then both baselines."""
    ours_s, todays_s = [], []
    for _ in range(2):
        ours_s.append(_of_sweep(ROOT))
        if today is not None:
            todays_s.append(_of_sweep(today))
    ours = min(ours_s)
    nested, plain = _of_tuner("nested"), _of_tuner("plain")
    note = f"{NUM_OURS} trials"
    figures: list[Figure | Skipped] = [
        Figure("Tuner + nested TorchTrainer", ours, nested, "s", at_most(GOAL_S), note=note),
        Figure("plain Tune", ours, plain, "s", at_most(GOAL_S), note=note),
    ]
    if todays_s:
        figures.append(Figure("today", ours, min(todays_s), "s", times_better(1), note=note))
    else:
        figures.append(Skipped("today", NO_TODAY))
    return figures


def _of_sweep(checkout: Path) -> float:
    """Return the seconds a trial of a checkout's sweep; the first fifth is left out."""
    seeds = ",".join(map(str, range(NUM_OURS)))
    with tempfile.TemporaryDirectory(prefix="sg-ray-overhead-") as folder:
        experiment = Path(folder) / "tiny.yaml"
        experiment.write_text(
            "name: tiny\n"
            "data: {source: synthetic, num_samples: 240}\n"
            "families: [lexical]\n"
            f"replicate: {{top_k: 1, seeds: [{seeds}]}}\n",
            encoding="utf-8",
        )
        command = [sys.executable, str(checkout / "experiments" / "sweep.py"), str(experiment)]
        run_to_its_end(command, Path(folder), environment_of(checkout))
        journal = Path(folder) / "outputs" / "tiny" / "events.jsonl"
        events = map(json.loads, journal.read_text(encoding="utf-8").splitlines())
        ends_s = [event["at_ms"] / 1000 for event in events if event["type"] == "trial_finished"]
    return _a_trial(ends_s[len(ends_s) // 5 :])


def _of_tuner(kind: str) -> float:
    with tempfile.TemporaryDirectory(prefix="sg-ray-overhead-") as folder:
        answer = Path(folder) / "ends.json"
        command = [sys.executable, __file__, "--tuner", kind, "--out", str(answer)]
        run_to_its_end(command, Path(folder), os.environ)
        return _a_trial(json.loads(answer.read_text(encoding="utf-8")))


def _a_trial(ends_s: list[float]) -> float:
    """Return the seconds a trial, from the times at which trials ended."""
    return (ends_s[-1] - ends_s[0]) / (len(ends_s) - 1)


def _run_tuner(kind: str, answer: Path) -> None:
    """Run a Tuner as most people write it, and note when its trials ended."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    ends_s: list[float] = []

    class Ends(tune.Callback):
        def on_trial_complete(self, *_: Any, **__: Any) -> None:
            ends_s.append(time.monotonic())

    ray.init(address="local", log_to_driver=False)
    is_nested = kind == "nested"
    folder = answer.parent
    train = tune.with_parameters(_train_nested if is_nested else _train_plain, folder=folder)
    tune.Tuner(
        tune.with_resources(train, {"cpu": 0.01 if is_nested else 1}),
        param_space={"seed": tune.grid_search(list(range(NUM_NESTED if is_nested else NUM_PLAIN)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=max(1, os.cpu_count() or 1)),
        run_config=tune.RunConfig(
            name="plain",
            storage_path=str(folder / "ray"),
            verbose=0,
            callbacks=[
                MLflowLoggerCallback(
                    tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", experiment_name="plain"
                ),
                Ends(),
            ],
        ),
    ).fit()
    answer.write_text(json.dumps(ends_s), encoding="utf-8")
    ray.shutdown()


def _train_plain(config: dict[str, int], folder: Path) -> None:
    """Report once, with a checkpoint, as Ray's guide shows for functions."""
    del folder
    import torch
    from ray import tune

    with tempfile.TemporaryDirectory() as checkpoint:
        torch.save({"weight": torch.zeros(10_000)}, Path(checkpoint) / "model.pt")
        tune.report(
            {"loss": float(config["seed"])},
            checkpoint=tune.Checkpoint.from_directory(checkpoint),
        )


def _train_nested(config: dict[str, int], folder: Path) -> None:
    """Start a trainer for the trial, and report what it came to, as Ray's guide shows."""
    from ray import train, tune
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        _worker,
        train_loop_config=config,
        scaling_config=train.ScalingConfig(num_workers=1),
        run_config=train.RunConfig(
            name=f"seed{config['seed']}", storage_path=str(folder / "train")
        ),
    )
    metrics = trainer.fit().metrics or {}
    tune.report({"loss": float(metrics["loss"])})


def _worker(config: dict[str, int]) -> None:
    import torch
    from ray import train

    with tempfile.TemporaryDirectory() as checkpoint:
        torch.save({"weight": torch.zeros(10_000)}, Path(checkpoint) / "model.pt")
        train.report(
            {"loss": float(config["seed"])},
            checkpoint=train.Checkpoint.from_directory(checkpoint),
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tuner", choices=["plain", "nested"], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--today", type=Path, help="a checkout of the commit to compare with")
    given = parser.parse_args()
    if given.tuner:
        _run_tuner(given.tuner, given.out)
    else:
        print_figures(measure(given.today))
