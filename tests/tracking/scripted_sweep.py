"""A small sweep told to the real journal, without training anything."""

from pathlib import Path
from typing import Any
from uuid import uuid4

from sg_ray.configuration import Configuration
from sg_ray.detector import ModelCard, WinnerCard
from sg_ray.files import write_json
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
from sg_ray.records.journal import Journal
from sg_ray.records.record import Failure, RunRecord, write_record
from sg_ray.sweep_folder import MODEL_CARD, WINNER_CARD, SweepFolder

CONFIG = {"learning_rate": 2e-5, "epochs": 3, "encoder": {"width": 64, "layers": 2}}
PLAN = {
    "objective": "val_f1",
    "families": ["gnn"],
    "models": {"gnn": {"space": {"encoder.width": {"int_uniform": [32, 128]}}}},
    "data": {"source": "synthetic", "num_samples": 240, "seed": 0, "path": None},
}
OUTCOMES = {"t-best": "completed", "t-cut": "pruned", "t-broken": "failed"}
NUM_EPOCHS = 3
NAMED = Configuration(model="gnn", family="gnn", values=CONFIG, short_name="gnn lr 1.1e-3")


def metrics_of(epoch: int) -> dict[str, float | None]:
    return {
        "epoch": epoch,
        "val_f1": 0.5 + epoch / 100,
        "val_loss": 1 / epoch,
        "val_mcc": None,
        "learning_rate": 1e-4 / epoch,
    }


def begin(plan: dict[str, Any] | None = None) -> SweepStarted:
    """Return the event with which a sweep begins that is not any other."""
    return SweepStarted(name="tiny", sweep_id=uuid4().hex[:16], plan=plan or {})


def tell_sweep(journal: Journal, sweep_dir: Path, outcomes: dict[str, str] = OUTCOMES) -> None:
    (sweep_dir / "sweep.yaml").write_text("name: tiny\n")
    journal.append(begin(PLAN))
    journal.append(DataChecked(fingerprint="d" * 16, notes=[]))
    curve = [{"learning_rate": 1e-4, "loss": 0.7}]
    journal.append(
        LearningRateFound(model="gnn", learning_rate=5e-4, source="default", curve=curve)
    )
    journal.append(StageStarted(model="gnn", stage="search", num_trials=len(outcomes)))
    for seed, (key, status) in enumerate(outcomes.items()):
        tell_trial(journal, sweep_dir, key, status, seed)
    tell_end(journal, sweep_dir)


def tell_trial(journal: Journal, sweep_dir: Path, key: str, status: str, seed: int = 42) -> None:
    start_trial(journal, key, seed)
    for epoch in range(1, NUM_EPOCHS + 1):
        journal.append(EpochEnded(trial_key=key, epoch=epoch, metrics=metrics_of(epoch)))
    best = {"val_f1": 0.53, "val_loss": 1 / 3, "learning_rate": 1e-4 / NUM_EPOCHS}
    write_record(SweepFolder(sweep_dir), record(key, status, seed, best))
    folder = SweepFolder(sweep_dir).trial(key)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training_metadata.json").write_text('{"best_val_f1": 0.53}\n')
    journal.append(TrialFinished(trial_key=key, status=status, epochs=NUM_EPOCHS, metrics=best))


def start_trial(journal: Journal, key: str, seed: int = 42, **changes: Any) -> None:
    facts = {
        "model": "gnn",
        "family": "gnn",
        "stage": "search",
        "config": CONFIG,
        "config_hash": "ab12cd34",
        "seed": seed,
        **changes,
    }
    journal.append(TrialStarted(trial_key=key, **facts))


def write_winner(sweep_dir: Path, key: str) -> Path:
    """Write what an export leaves of a winner; weights that nobody loads."""
    folder = SweepFolder(sweep_dir).best / "gnn"
    folder.mkdir(parents=True, exist_ok=True)
    card = ModelCard(
        configuration=NAMED,
        config_hash="ab12cd34",
        seed=42,
        trial_key=key,
        threshold=0.5,
        metrics={"val_f1": 0.53},
        data_fingerprint="d" * 16,
        code_version="c" * 12,
        branches={},
    )
    (folder / "best_model.pt").write_bytes(b"weights of " + key.encode())
    write_json(folder / MODEL_CARD, card)
    winner = WinnerCard(model="gnn", config_hash="ab12cd34", trial_key=key)
    write_json(SweepFolder(sweep_dir).best / WINNER_CARD, winner)
    return folder


def tell_end(
    journal: Journal, sweep_dir: Path, status: str = "completed", mean: float = 0.53
) -> None:
    journal.append(WinnerTested(model="gnn", metrics={"test_f1": 0.51}))
    (sweep_dir / "leaderboard.csv").write_text(
        "rank,name,model,family,config_hash,num_seeds,num_failed,val_f1_mean,val_f1_sd,config\n"
        f"1,gnn,gnn,gnn,ab12cd34,3,0,{mean},0.01,{{}}\n2,gnn,gnn,gnn,ff12cd34,3,0,0.50,0.01,{{}}\n"
    )
    journal.append(SweepFinished(status=status))


def record(key: str, status: str, seed: int, metrics: dict[str, float]) -> RunRecord:
    failure = Failure(kind="TrainingError", message="loss is NaN", traceback="...")
    return RunRecord(
        trial_key=key,
        stage="search",
        configuration=NAMED,
        config_hash="ab12cd34",
        seed=seed,
        status=status,
        objective="val_f1",
        metrics=metrics,
        best_epoch=3,
        epochs=NUM_EPOCHS,
        history=[metrics_of(epoch) for epoch in range(1, NUM_EPOCHS + 1)],
        branches={},
        data_fingerprint="d" * 16,
        code_version="c" * 12,
        started_at_ms=1_700_000_000_000,
        finished_at_ms=1_700_000_060_000,
        train_time_s=60.0,
        environment={"torch": "2.13.0"},
        failure=failure if status == "failed" else None,
    )
