"""The data of a sweep as MLflow's own data set entities."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from sg_ray.data.codexglue import HUB_NAME

CONTEXTS: Mapping[str, str] = {"train": "train", "valid": "validation"}
"""What each split is to a trial, in MLflow's word."""


@dataclass(frozen=True)
class DataInput:
    """One split as input of a run; equal data have equal digests."""

    name: str
    digest: str
    context: str
    settings: Mapping[str, Any]
    """The ``data`` section of the experiment."""


def data_inputs(settings: Mapping[str, Any], fingerprint: str) -> list[DataInput]:
    """Return the splits that a trial reads, of data with that fingerprint."""
    return [
        DataInput(f"{_name(settings)} ({split})", fingerprint, context, settings)
        for split, context in CONTEXTS.items()
    ]


def to_mlflow(data: DataInput) -> Any:
    """Return MLflow's entity of one input."""
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag

    dataset = MetaDataset(_source(data.settings), name=data.name, digest=data.digest)
    return DatasetInput(
        dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", data.context)]
    )


def _name(settings: Mapping[str, Any]) -> str:
    source = str(settings.get("source", "synthetic"))
    if source == "synthetic":
        return f"synthetic-{settings.get('num_samples')}-seed{settings.get('seed')}"
    place = settings.get("path") or settings.get("train_file")
    return PurePath(place).name if place else source


def _source(settings: Mapping[str, Any]) -> Any:
    import mlflow.data  # makes the class for local files, which no module defines
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.huggingface_dataset_source import HuggingFaceDatasetSource

    place = settings.get("path") or settings.get("train_file")
    if place:
        return mlflow.data.sources.LocalArtifactDatasetSource(str(place))
    if settings.get("source") == "codexglue":
        return HuggingFaceDatasetSource(path=HUB_NAME)
    return CodeDatasetSource({"mlflow.source.type": "PROJECT", "mlflow.source.name": "sg-ray data"})
