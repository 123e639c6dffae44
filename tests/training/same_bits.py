"""Compare the folders of two trainings bit by bit, times aside."""

import json
from pathlib import Path
from typing import Any

import torch

TRIAL_FILES = {
    "last.pt",
    "best_model.pt",
    "valid_predictions.npz",
    "metrics.jsonl",
    "training_metadata.json",
}
TIMES = ("samples_per_s", "epoch_time_s", "train_time_s", "total_time_s")


def without_times(value: Any) -> Any:
    """Tensors become bytes, so that == compares bits."""
    if isinstance(value, torch.Tensor):
        return (value.dtype, value.shape, value.numpy().tobytes())
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def assert_same_bits(one: Path, other: Path) -> None:
    predictions = [folder / "valid_predictions.npz" for folder in (one, other)]
    assert predictions[0].read_bytes() == predictions[1].read_bytes()
    for name in ("last.pt", "best_model.pt"):
        contents = [torch.load(folder / name, weights_only=True) for folder in (one, other)]
        assert without_times(contents[0]) == without_times(contents[1])
    for name in ("training_metadata.json", "metrics.jsonl"):
        texts = [(folder / name).read_text().strip() for folder in (one, other)]
        lines = [texts] if name.endswith(".json") else zip(*map(str.splitlines, texts), strict=True)
        for pair in lines:
            first, second = (without_times(json.loads(text)) for text in pair)
            assert first == second
