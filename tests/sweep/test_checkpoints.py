"""What is kept of a trial that has ended, and what is not."""

from pathlib import Path

import pytest

from sg_ray.sweep.checkpoints import keep_results

MODEL = {"best_model.pt", "valid_predictions.npz"}
HISTORY = {"metrics.jsonl", "training_metadata.json"}


@pytest.mark.parametrize(("model", "kept"), [(True, HISTORY | MODEL), (False, HISTORY)])
def test_model_and_predictions_are_kept_together_or_not_at_all(
    tmp_path: Path, model: bool, kept: set[str]
) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    for name in (*MODEL, *HISTORY, "last.pt"):
        (checkpoint / name).write_text(name)
    folder = keep_results(tmp_path, "key", checkpoint, model=model)
    assert {path.name for path in folder.iterdir()} == kept


def test_a_checkpoint_from_before_predictions_were_kept_is_kept_without(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "best_model.pt").touch()
    folder = keep_results(tmp_path, "key", checkpoint, model=True)
    assert [path.name for path in folder.iterdir()] == ["best_model.pt"]
