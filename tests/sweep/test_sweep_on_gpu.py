"""Trials of a real sweep on a real GPU, two of them sharing it."""

import json
from pathlib import Path

import pytest
from devices import GPU_MARKS

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "quick.yaml"
pytestmark = [*GPU_MARKS, pytest.mark.ray]
SHARE = 0.5


def test_trials_share_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sg_ray.cli import main

    monkeypatch.chdir(tmp_path)
    settings = (
        "name=shared", "families=[gnn]", "data.num_samples=240", "lr_range.enabled=false",
        "models.gnn.config.num_layers=1", "models.gnn.config.hidden_dim=16",
        "models.gnn.config.epochs=2", "search.num_trials=2", "replicate.top_k=1",
        "replicate.seeds=[42,1]", "replicate.max_seeds=null", "replicate.variance_seeds=0",
        "tracking.enabled=false", f"resources.gpus={SHARE}",
    )  # fmt: skip
    assert main(["sweep", str(EXPERIMENT), *settings]) == 0
    records = [json.loads(path.read_text()) for path in Path("outputs").glob("*/records/*.json")]
    devices = {r["environment"]["device"] for r in records if r["configuration"]["model"] == "gnn"}
    assert devices == {"cuda"}
