"""Sweeps that the same tests run by either executor, and what is compared of them."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tiny_sweep import MODELS, read_json_records, tiny_experiment

from sg_ray.config import Experiment
from sg_ray.sweep.execute.worklist import Worklist
from sg_ray.sweep_folder import SweepFolder

TIMED = {
    "at_ms",
    "started_at_ms",
    "finished_at_ms",
    "train_time_s",
    "epoch_time_s",
    "samples_per_s",
    "traceback",
    "sweep_id",
}
"""What differs between two runs of one sweep: times, and where in the code a failure was met."""

_FAILING = {**MODELS["transformer"]["config"], "precision": "fp16"}
"""On a CPU there is no such format."""


def everything(folder: Path, **settings: Any) -> Experiment:
    """A sweep with all that can happen: range test, pruning, a family that fails, the test split.

    One trial at a time, so that the plan asks in one order whoever runs it.
    """
    lr_range = {"num_steps": 10, "max_samples": 40, "max_age_days": 0}
    changes: dict[str, Any] = {
        "families": ["gnn", "transformer"],
        "models": {**MODELS, "transformer": {"config": _FAILING}},
        "data": {"source": "synthetic", "num_samples": 120},
        "lr_range": {"enabled": True, "cache_dir": str(folder / "lr_cache"), **lr_range},
        "search": {"num_trials": 4, "pruning": {"min_epochs": 1, "reduction_factor": 2}},
        "max_concurrent_trials": 1,
        "tracking": {"enabled": False},
        **settings,
    }
    return tiny_experiment(folder, **changes)


def small(folder: Path, **settings: Any) -> Experiment:
    """One model and the floor, without a range test or pruning."""
    defaults: dict[str, Any] = {
        "families": ["gnn"],
        "lr_range": {"enabled": False},
        "search": {"num_trials": 1, "pruning": {"enabled": False}},
        "replicate": {"top_k": 1, "seeds": [42]},
    }
    return everything(folder, **{**defaults, **settings})


def bits(folder: SweepFolder) -> list[dict[str, Any]]:
    """The records, without times and without what was lost on the way."""
    records = read_json_records(folder.path)
    return sorted((untimed(record) for record in records), key=lambda record: record["trial_key"])


def journal(folder: SweepFolder) -> list[dict[str, Any]]:
    """The journal's lines, without times and places."""
    lines = folder.events.read_text(encoding="utf-8").splitlines()
    return [_anywhere(untimed(json.loads(line)), folder) for line in lines]


def types(folder: SweepFolder) -> list[str]:
    """What happened, in order."""
    return [line["type"] for line in journal(folder)]


def untimed(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: untimed(v) for name, v in content.items() if name not in TIMED}
    return [untimed(value) for value in content] if isinstance(content, list) else content


def _anywhere(content: Any, folder: SweepFolder) -> Any:
    root = str(folder.path.parents[1])
    return json.loads(json.dumps(content).replace(root, "ROOT"))


def signal_at_epoch(patch: pytest.MonkeyPatch, epoch: int, number: int = signal.SIGUSR1) -> None:
    """Send a signal to this process, once, while a model trains on after ``epoch``."""
    journal_epoch, sent = Worklist.journal_epoch, []

    def journal_and_signal(self: Any, job: Any, this: int, metrics: Any) -> None:
        journal_epoch(self, job, this, metrics)
        if job.spec.family == "gnn" and this == epoch and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    patch.setattr(Worklist, "journal_epoch", journal_and_signal)
