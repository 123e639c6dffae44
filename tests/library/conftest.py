"""A sweep of seconds, run from Python; the tests work on copies of it."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import sg_ray

GNN = {
    "config": {
        "learning_rate": 5e-3,
        "epochs": 2,
        "num_layers": 1,
        "hidden_dim": 16,
        "graphs": {"vocab_size": 400},
    },
    "space": {"learning_rate": {"log_uniform": [1e-4, 1e-2]}},
}
SETTINGS: dict[str, Any] = {
    "name": "tiny",
    "data": {"source": "synthetic", "num_samples": 240},
    "families": ["gnn"],
    "models": {"gnn": GNN},
    "lr_range.enabled": False,
    "search": {"num_trials": 2, "pruning": {"enabled": False}},
    "replicate": {"top_k": 1, "seeds": [42, 7]},
    "tracking.enabled": False,
}
"""Seconds in this process; the default experiment's other values stay."""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished sweep in ``outputs/tiny`` and its cache. Only to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        sweep = sg_ray.run_sweep(
            sg_ray.load_experiment(settings=SETTINGS), executor="inline", show=False
        )
    assert sweep.state == "complete"
    return folder


@pytest.fixture
def swept(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder with the finished sweep, as the current folder."""
    folder = tmp_path / "swept"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    return folder
