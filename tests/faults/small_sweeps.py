"""Sweeps of seconds to do damage to: one is run, the tests work on copies of it."""

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from sg_ray.config.yaml_text import write_yaml

SWEEP = Path("outputs/tiny")
DATABASE = Path("mlflow.db")
ROOT = Path(__file__).parents[2]
INLINE = ("--executor", "inline")
"""For tests of what a sweep leaves and finds: whoever runs its trials leaves and finds the same."""
TIME_VALUED = ("epoch_time_s", "samples_per_s")

GNN = {
    "config": {
        "learning_rate": 5e-3,
        "epochs": 4,
        "num_layers": 1,
        "hidden_dim": 16,
        "graphs": {"vocab_size": 400},
    },
    "space": {"learning_rate": {"log_uniform": [1e-4, 1e-2]}},
}


def write_experiment(folder: Path, **settings: Any) -> None:
    """Write experiment.yaml. All paths are relative, so that what comes of it can be copied."""
    content = {
        "name": "tiny",
        "output_dir": "outputs",
        "cache_dir": "cache",
        "data": {"source": "synthetic", "num_samples": 240},
        "families": ["gnn"],
        "models": {"gnn": GNN},
        "lr_range": {"enabled": False},
        "search": {"num_trials": 2, "pruning": {"enabled": False}},
        "replicate": {"top_k": 1, "seeds": [42, 7]},
        "max_concurrent_trials": 1,
        "tracking": {"uri": f"sqlite:///{DATABASE}"},
        **settings,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.yaml").write_text(write_yaml(content))


def copy_of(original: Path, folder: Path) -> Path:
    """Copy a folder with a sweep and its MLflow store, which names its artifacts' place."""
    shutil.copytree(original, folder, dirs_exist_ok=True)
    with closing(sqlite3.connect(folder / DATABASE)) as connection, connection:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            connection.execute(
                f"update {table} set {column} = replace({column}, ?, ?)",
                (str(original), str(folder)),
            )
    return folder


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the ``sg-ray`` command in a process of its own; it writes to console.log."""
    with (folder / "console.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "sg_ray", *arguments],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def records(sweep_dir: Path) -> list[dict[str, Any]]:
    """The records as other programs would read them."""
    paths = sorted((sweep_dir / "records").glob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def results(sweep_dir: Path) -> dict[str, Any]:
    """What must be equal bit for bit: every epoch's numbers, without times."""
    return {
        record["trial_key"]: (
            record["status"],
            record["stage"],
            record["best_epoch"],
            [
                {name: value for name, value in epoch.items() if name not in TIME_VALUED}
                for epoch in record["history"]
            ],
        )
        for record in records(sweep_dir)
    }


def run_statuses(database: Path) -> Counter[str]:
    """How many MLflow runs have each status, read with plain SQL."""
    return Counter(status for (status,) in query(database, "select status from runs"))


def repeated_points(database: Path) -> list[tuple[Any, ...]]:
    """Every (run, key, step) of a trial that the store holds twice.

    The sweep's own run is left out: its summary has a new point when the ranking changes.
    """
    return query(
        database,
        "select run_uuid, m.key, step from metrics m join tags t using (run_uuid)"
        " where t.key = 'trial_key' group by run_uuid, m.key, step having count(*) > 1",
    )


def query(database: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


def wait_until(condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)
