"""A sweep small enough for a test, yet real: Ray, Optuna, MLflow and training as users run them."""

import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

from sg_ray.config import Experiment, load_experiment
from sg_ray.config.yaml_text import write_yaml
from sg_ray.host.processes import descendants

MODELS: dict[str, Any] = {
    "transformer": {
        "config": {
            "learning_rate": 2e-3,
            "epochs": 3,
            "num_layers": 1,
            "hidden_dim": 16,
            "num_heads": 2,
            "max_tokens": 64,
            "tokens": {"vocab_size": 400},
        },
        "space": {"learning_rate": {"log_uniform": [1e-4, 1e-2]}},
    },
    "gnn": {
        "config": {
            "learning_rate": 5e-3,
            "epochs": 3,
            "num_layers": 1,
            "hidden_dim": 16,
            "graphs": {"vocab_size": 400},
        },
        "space": {"learning_rate": {"log_uniform": [1e-4, 1e-2]}},
    },
    "fusion": {"config": {"epochs": 2}},
}


def write_experiment(folder: Path, **settings: Any) -> Path:
    """Write a tiny experiment that keeps everything inside ``folder``; return its path."""
    content = {
        "name": "tiny",
        "output_dir": str(folder / "outputs"),
        "cache_dir": str(folder / "cache"),
        "data": {"source": "synthetic", "num_samples": 240},
        "families": ["gnn"],
        "models": MODELS,
        "lr_range": {"enabled": False, "cache_dir": str(folder / "lr_cache")},
        "search": {"num_trials": 2, "pruning": {"enabled": False}},
        "replicate": {"top_k": 1, "seeds": [42, 7]},
        "tracking": {"uri": f"sqlite:///{folder / 'mlflow.db'}"},
        **settings,
    }
    path = folder / "experiment.yaml"
    path.write_text(write_yaml(content))
    return path


def tiny_experiment(folder: Path, *overrides: str, **settings: Any) -> Experiment:
    """Return a tiny experiment that keeps everything inside ``folder``."""
    return load_experiment(write_experiment(folder, **settings), overrides)


def read_json_records(sweep_dir: Path) -> list[dict[str, Any]]:
    """Return the records as the JSON that other programs would read."""
    paths = sorted((sweep_dir / "records").glob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def mlflow_state(database: Path) -> tuple[Counter[str], list[tuple[str, str, int]]]:
    """Return how many runs have each status, and every (run, key, step) that occurs twice.

    Read with plain SQL: what is checked is the store, not our way of reading it.
    """
    with sqlite3.connect(database) as connection:
        statuses = Counter(status for (status,) in connection.execute("select status from runs"))
        repeated = connection.execute(
            "select run_uuid, key, step from metrics"
            " group by run_uuid, key, step having count(*) > 1"
        ).fetchall()
    return statuses, repeated


def own_processes(*titles: bytes) -> list[int]:
    """Return the processes below this one whose title, set by Ray, begins with one of these."""
    pids = sorted(process.pid for process in descendants())
    return [pid for pid in pids if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(titles)]
