"""A plausible finished sweep, written through the real journal and records; nothing is trained."""

import math
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sg_ray.configuration import Configuration
from sg_ray.files import content_hash, write_json, write_text
from sg_ray.records.events import (
    DataChecked,
    EpochEnded,
    LearningRateFound,
    StageStarted,
    SweepFinished,
    SweepStarted,
    TrialFinished,
    TrialStarted,
    WinnerTested,
)
from sg_ray.records.folder_format import write_format
from sg_ray.records.journal import Journal
from sg_ray.records.leaderboard import rank, write_leaderboard
from sg_ray.records.record import Failure, RunRecord, Status, write_record
from sg_ray.sweep_folder import SweepFolder

SEEDS = (42, 2025, 7)
OBJECTIVE = "val_roc_auc"
BASE_MS = 1_790_000_000_000
MINUTE_MS = 60_000
SWEEP_YAML = """\
# identity: 0123456789ab
name: demo
objective: val_roc_auc
data:
  source: synthetic
  num_samples: 3000
families: [transformer, gnn, fusion]
search:
  num_trials: 6
replicate:
  top_k: 2
  seeds: [42, 2025, 7]
  max_seeds: 5
"""
QUALITY = {"lexical": 0.66, "transformer": 0.78, "gnn": 0.74, "fusion": 0.81}
NUM_EPOCHS = 5
FLOOR_CONFIG = {"max_features": 50_000, "ngram_max": 2}


def write_sample_sweep(folder: Path) -> list[RunRecord]:
    """Write a sweep folder over four families, with prunings, one failure and range tests."""
    folder.mkdir(parents=True, exist_ok=True)
    write_format(SweepFolder(folder))
    write_text(folder / "sweep.yaml", SWEEP_YAML)
    journal = Journal(folder / "events.jsonl")
    journal.append(
        SweepStarted(
            name="demo", plan={"data": {"source": "synthetic"}}, sweep_id="5eed5eed5eed5eed"
        )
    )
    journal.append(StageStarted(model="", stage="prepare", num_trials=0))
    journal.append(
        DataChecked(notes=["train: 3 functions occur twice; kept once"], fingerprint="d" * 16)
    )
    records = [_at(record, number) for number, record in enumerate(sample_records())]
    for family in QUALITY:
        if family != "lexical":
            _tell_range_test(journal, family)
        for record in (record for record in records if record.family == family):
            journal.append(StageStarted(model=family, stage=record.stage, num_trials=6))
            _tell_trial(journal, record)
            write_record(SweepFolder(folder), record)
    rows = rank(records, objective=OBJECTIVE, seeds=SEEDS)
    write_leaderboard(folder / "leaderboard.csv", rows)
    tested = {"test_f1": 0.732, "test_mcc": 0.471}
    best = {"model": rows[0].model, "config_hash": rows[0].config_hash}
    write_json(folder / "test.json", {**best, "metrics": tested, "seeds": {}})
    journal.append(WinnerTested(model=rows[0].family, metrics=tested))
    journal.append(SweepFinished(status="completed"))
    journal.close()
    return records


def sample_records() -> Iterator[RunRecord]:
    """Yield the records of the sample sweep, in the order in which they finished."""
    for seed in SEEDS:
        yield make_record("lexical", FLOOR_CONFIG, seed, stage="floor")
    for family in ("transformer", "gnn", "fusion"):
        configs = [_config(family, number) for number in range(6)]
        for number, config in enumerate(configs):
            status: Status = "pruned" if number in (1, 4) else "completed"
            yield make_record(family, config, SEEDS[0], status=status, penalty=number * 0.012)
        for number, config in enumerate(configs[:1] + configs[2:3]):
            for seed in SEEDS[1:]:
                fails = family == "gnn" and number == 1 and seed == SEEDS[2]
                yield make_record(
                    family,
                    config,
                    seed,
                    stage="replicate",
                    status="failed" if fails else "completed",
                    penalty=number * 0.024,
                )


def make_record(
    family: str,
    config: Mapping[str, Any],
    seed: int,
    *,
    stage: str = "search",
    status: Status = "completed",
    penalty: float = 0.0,
    **changes: Any,
) -> RunRecord:
    """Return a record with a learning curve drawn from its own seed."""
    generator = random.Random(f"{family}{sorted(config.items())}{seed}")
    num_epochs = {"pruned": 2, "failed": 1}.get(status, 1 if family == "lexical" else NUM_EPOCHS)
    top = QUALITY.get(family, 0.7) - penalty + generator.gauss(0, 0.008)
    history = [_epoch(epoch, num_epochs, top, generator) for epoch in range(1, num_epochs + 1)]
    best = max(history, key=lambda epoch: epoch[OBJECTIVE])
    key = content_hash([family, config, seed], 16)
    failure = Failure(
        kind="TrainingError",
        message="loss is not finite at epoch 2, step 31 (<nan>). Lower learning_rate.",
        traceback='Traceback (most recent call last):\n  File "loop.py", line 1, in train\n...',
    )
    fields: dict[str, Any] = {
        "trial_key": key,
        "stage": stage,
        "configuration": Configuration(model=family, family=family, values=config),
        "config_hash": content_hash([family, config]),
        "seed": seed,
        "status": status,
        "objective": OBJECTIVE,
        "metrics": {name: value for name, value in best.items() if name != "epoch"},
        "best_epoch": int(best["epoch"]),
        "epochs": num_epochs,
        "history": history,
        "branches": {},
        "data_fingerprint": "5f3c2a9b7e1d4c60",
        "code_version": "9a8b7c6d5e4f",
        "started_at_ms": BASE_MS,
        "finished_at_ms": BASE_MS + num_epochs * MINUTE_MS,
        "train_time_s": num_epochs * 60.0,
        "environment": {"python": "3.11.7", "torch": "2.13.0", "device": "cpu", "num_threads": 1},
        "failure": failure if status == "failed" else None,
    }
    if "metrics" in changes:  # which epochs of another curve would contradict
        changes = {"history": [], **changes}
    return RunRecord(**{**fields, **changes})


def _at(record: RunRecord, number: int) -> RunRecord:
    """Return the record as the ``number``-th of a row of trials."""
    delay_ms = 6 * number * MINUTE_MS
    times = ("started_at_ms", "finished_at_ms")
    return record.model_copy(update={name: getattr(record, name) + delay_ms for name in times})


def _epoch(epoch: int, num_epochs: int, top: float, generator: random.Random) -> dict[str, float]:
    progress = 1 - math.exp(-1.1 * epoch) if num_epochs > 1 else 1.0
    auc = 0.5 + (top - 0.5) * progress + generator.gauss(0, 0.004)
    accuracy = auc - 0.05
    return {
        "epoch": epoch,
        "train_loss": 0.69 - 0.3 * (1 - math.exp(-0.5 * epoch)),
        "val_loss": 0.69 - 0.6 * (auc - 0.5) + 0.01 * max(0, epoch - 4),
        "val_accuracy": accuracy,
        "val_f1": accuracy + generator.gauss(-0.01, 0.02),
        "val_mcc": 2 * accuracy - 1,
        "val_roc_auc": auc,
        "epoch_time_s": 60.0,
    }


def _config(family: str, number: int) -> dict[str, Any]:
    generator = random.Random(f"{family}{number}")
    return {
        "learning_rate": round(10 ** generator.uniform(-4, -2.5), 7),
        "dropout": round(generator.uniform(0, 0.3), 3),
        "epochs": NUM_EPOCHS,
        "batch_size": 32,
        "hidden_dim": 64,
    }


def _tell_range_test(journal: Journal, family: str) -> None:
    curves = [_range_curve(seed) for seed in SEEDS[:2]]
    rate, source, reason = 8.1e-4, "range test", None
    if family == "fusion":
        rate, source, reason, curves = 1e-3, "default", "no descent on most seeds", curves[:1]
    journal.append(StageStarted(model=family, stage="lr_range", num_trials=1))
    journal.append(
        LearningRateFound(
            model=family, learning_rate=rate, source=source, reason=reason, curve=curves
        )
    )


def _range_curve(seed: int) -> dict[str, Any]:
    generator = random.Random(seed)
    rates = [10 ** (-6 + 5 * step / 79) for step in range(80)]
    losses = [
        0.7 - 0.12 / (1 + (2e-3 / rate) ** 2) + 4 * max(0, rate - 2e-2) + generator.gauss(0, 0.01)
        for rate in rates
    ]
    return {"seed": seed, "learning_rates": rates, "losses": losses}


def _tell_trial(journal: Journal, record: RunRecord) -> None:
    journal.append(
        TrialStarted(
            trial_key=record.trial_key,
            model=record.family,
            family=record.family,
            stage=record.stage,
            config=record.configuration.values,
            config_hash=record.config_hash,
            seed=record.seed,
        )
    )
    for epoch in record.history:
        journal.append(EpochEnded(trial_key=record.trial_key, epoch=epoch["epoch"], metrics=epoch))
    journal.append(
        TrialFinished(
            trial_key=record.trial_key,
            status=record.status,
            epochs=record.epochs,
            metrics=record.metrics,
        )
    )
