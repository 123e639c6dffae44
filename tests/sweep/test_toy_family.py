"""A family from a file of the user's, through a whole sweep on Ray: one class, one name."""

from pathlib import Path

import pytest
from tiny_sweep import MODELS, read_json_records, tiny_experiment

from sg_ray.sweep.run import run_sweep

SOURCE = Path(__file__).parent / "byte_count.py"


@pytest.mark.slow
def test_a_fourth_family_needs_one_class_in_one_file(ray_session: None, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_bytes(SOURCE.read_bytes())
    experiment = tiny_experiment(
        tmp_path,
        families=["./own.py:ByteCountFamily"],  # beside the experiment
        models={**MODELS, "byte_count": {"config": {"epochs": 2}}},
        lr_range={"enabled": True, "num_steps": 20, "cache_dir": str(tmp_path / "lr")},
    )
    assert experiment.families == ("byte_count",)
    assert experiment.model("byte_count").space["hidden_dim"].choice == (4, 8, 16), (
        "the family's own"
    )
    own.unlink()  # workers have it from the driver
    outcome = run_sweep(experiment)
    assert outcome.problems == []
    assert {row.family for row in outcome.rows} == {"byte_count", "lexical"}
    records = [
        r
        for r in read_json_records(experiment.folder.path)
        if r["configuration"]["model"] == "byte_count"
    ]
    assert [r["status"] for r in records] == ["completed"] * 3
    assert (experiment.folder.path / "lr_range" / "byte_count.json").exists()
    assert (experiment.folder.path / "best" / "byte_count" / "best_model.pt").exists()
