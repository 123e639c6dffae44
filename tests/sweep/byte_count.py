"""A family that the project does not know, in one file that only the driver can read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sg_ray.features.packed import Ragged
from sg_ray.features.spec import FeatureSpec, TextSpec
from sg_ray.models.family import Batch, Classifier, Inputs, NeuralConfig, NeuralFamily


class ByteCountConfig(NeuralConfig):
    hidden_dim: int = 8


@dataclass(frozen=True)
class ByteCounts:
    """How often each byte occurs in each function, as frequencies."""

    frequencies: NDArray[np.float32]
    labels: NDArray[np.int8]
    padded: bool = False

    @property
    def units(self) -> NDArray[np.int64]:
        return np.ones(len(self.labels), dtype=np.int64)

    def collate(self, indices: NDArray[np.int64]) -> Batch:
        return {"frequencies": torch.from_numpy(self.frequencies[indices])}


class ByteCountModel(Classifier):
    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.embedding_dim = hidden_dim
        self.encoder = nn.Linear(256, hidden_dim)
        self.head = nn.Linear(hidden_dim, 1)

    def embed(self, batch: Batch) -> Tensor:
        return torch.tanh(self.encoder(batch["frequencies"]))

    def classify(self, embedding: Tensor) -> Tensor:
        logits: Tensor = self.head(embedding).squeeze(-1)
        return logits


class ByteCountFamily(NeuralFamily[ByteCountConfig]):
    name = "byte_count"
    Config = ByteCountConfig
    space: ClassVar = {"hidden_dim": {"choice": [4, 8, 16]}}

    def feature_specs(self, config: ByteCountConfig) -> Sequence[FeatureSpec]:
        return (TextSpec(),)

    def split_data(self, config: ByteCountConfig, inputs: Inputs, split: str) -> ByteCounts:
        text: Ragged = inputs.features.split(TextSpec().key, split)["bytes"]
        counts = np.stack([np.bincount(text[i], minlength=256) for i in range(len(text))])
        frequencies = (counts / text.lengths[:, None]).astype(np.float32)
        return ByteCounts(frequencies, inputs.features.labels[split])

    def build(self, config: ByteCountConfig, inputs: Inputs) -> ByteCountModel:
        return ByteCountModel(config.hidden_dim)
