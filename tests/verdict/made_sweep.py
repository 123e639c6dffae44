"""Sweep folders made by hand: scores as given, or predictions with the scores that follow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sg_ray.config.yaml_text import write_yaml
from sg_ray.configuration import Configuration
from sg_ray.files import content_hash, write_json
from sg_ray.records.folder_format import write_format
from sg_ray.records.record import Failure, RunRecord, write_record
from sg_ray.sweep_folder import TEST_PREDICTIONS, VALID_PREDICTIONS, SweepFolder
from sg_ray.training.metrics import scored
from sg_ray.training.predictions import Predictions, write_predictions

BASE_MS = 1_790_000_000_000
SEARCH_SEED = 42


class MadeSweep:
    """Writes a sweep folder record by record; each starts later than the one before."""

    def __init__(
        self,
        folder: Path,
        *,
        objective: str = "val_accuracy",
        seeds: Sequence[int] = (SEARCH_SEED, 1, 2, 3),
        **settings: Any,
    ) -> None:
        self.folder = SweepFolder(folder)
        self.objective, self._num_records = objective, 0
        content = {
            "name": "made",
            "objective": objective,
            "families": ["transformer", "gnn", "fusion"],
            "replicate": {"seeds": list(seeds)},
            **settings,
        }
        folder.mkdir(parents=True, exist_ok=True)
        write_format(self.folder)
        self.folder.settings.write_text(write_yaml(content))

    def add(
        self,
        family: str,
        name: str,
        scores: Mapping[int, float | None],
        *,
        stage: str | None = None,
        **changes: Any,
    ) -> list[RunRecord]:
        """Write a trial of configuration ``name`` for each seed; a score of None is a failure."""
        return [
            self.write(family, name, seed, score, stage=stage, **changes)
            for seed, score in scores.items()
        ]

    def write(
        self,
        family: str,
        name: str,
        seed: int,
        score: float | None,
        *,
        stage: str | None = None,
        metrics: Mapping[str, float] | None = None,
        **changes: Any,
    ) -> RunRecord:
        """Write the record of one trial of an hour."""
        self._num_records += 1
        started_at_ms = BASE_MS + 1000 * self._num_records
        is_search = seed == SEARCH_SEED
        usual_stage = "floor" if family == "lexical" else "search" if is_search else "replicate"
        streams = changes.get("streams", {})
        fields: dict[str, Any] = {
            "trial_key": content_hash([family, name, seed, streams], 16),
            "stage": stage or usual_stage,
            "configuration": Configuration(model=family, family=family, values={"name": name}),
            "config_hash": hash_of(family, name),
            "seed": seed,
            "status": "failed" if score is None else "completed",
            "objective": self.objective,
            "metrics": {} if score is None else {**(metrics or {}), self.objective: score},
            "best_epoch": None if score is None else 1,
            "epochs": 1,
            "history": [],
            "branches": {},
            "data_fingerprint": "5f3c2a9b7e1d4c60",
            "code_version": "9a8b7c6d5e4f",
            "started_at_ms": started_at_ms,
            "finished_at_ms": started_at_ms + 500,
            "train_time_s": 3600.0,
            "environment": {"device": "cpu"},
            "failure": None
            if score is not None
            else Failure(kind="Diverged", message="loss is not finite", traceback=""),
        }
        record = RunRecord(**{**fields, **changes})
        write_record(self.folder, record)
        return record

    def predict(
        self,
        family: str,
        name: str,
        seed: int,
        labels: np.ndarray,
        probabilities: np.ndarray,
        *,
        threshold: float = 0.5,
        **changes: Any,
    ) -> RunRecord:
        """Write a trial with its validation predictions, and the metrics that follow from them."""
        metrics = scored("val", labels, probabilities, threshold)
        record = self.write(family, name, seed, metrics[self.objective], metrics=metrics, **changes)
        path = self.folder.trial(record.trial_key) / VALID_PREDICTIONS
        write_predictions(path, Predictions(labels.astype(np.int8), probabilities))
        return record

    def test(self, records: Sequence[RunRecord], labels: np.ndarray, rows: np.ndarray) -> None:
        """Write test.json and the test predictions [s, n] of a winner's records."""
        metrics = {}
        for record, row in zip(records, rows, strict=True):
            threshold = record.metrics["val_threshold"]
            metrics[str(record.seed)] = scored("test", labels, row, threshold)
            path = self.folder.trial(record.trial_key) / TEST_PREDICTIONS
            write_predictions(path, Predictions(labels.astype(np.int8), row))
        means = {
            name: float(np.mean([one[name] for one in metrics.values()]))
            for name in next(iter(metrics.values()))
        }
        summary = {
            "model": records[0].model,
            "config_hash": records[0].config_hash,
            "metrics": means,
            "seeds": metrics,
        }
        write_json(self.folder.test_scores, summary)


def hash_of(family: str, name: str) -> str:
    """Return the hash of a made configuration."""
    return content_hash([family, {"name": name}], 8)


def probabilities(rng: np.random.Generator, labels: np.ndarray, strength: float) -> np.ndarray:
    """Return probabilities that tell labels [n] apart the better, the larger ``strength``."""
    logits = strength * (2 * labels - 1) + rng.normal(size=len(labels))
    return 1 / (1 + np.exp(-logits))


def draw_labels(num: int, seed: int = 0) -> np.ndarray:
    """Return labels 0 and 1, half each on average."""
    return (np.random.default_rng(seed).random(num) < 0.5).astype(np.int8)
