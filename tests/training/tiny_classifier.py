"""A family in miniature: token sequences whose label is learnable, and a model with dropout."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from sg_ray.models.family import Batch, Classifier, NeuralConfig

NUM_WORDS = 40


@dataclass
class TinySplit:
    """Sequences of word numbers from 1; word 1 occurs more often in the positive ones."""

    sequences: list[np.ndarray]
    labels: np.ndarray
    padded: bool = True
    largest_batch: int = field(default=0, init=False)

    @property
    def units(self) -> np.ndarray:
        return np.array([len(sequence) for sequence in self.sequences], dtype=np.int64)

    def collate(self, indices: np.ndarray) -> Batch:
        chosen = [torch.from_numpy(self.sequences[index]) for index in indices]
        words = nn.utils.rnn.pad_sequence(chosen, batch_first=True)
        cost = words.numel() if self.padded else sum(len(sequence) for sequence in chosen)
        self.largest_batch = max(self.largest_batch, cost)
        return {"words": words}


def tiny_split(num_samples: int = 45, seed: int = 0, share_positive: float = 0.5) -> TinySplit:
    rng = np.random.default_rng(seed)
    labels = (np.arange(num_samples) < share_positive * num_samples).astype(np.int8)
    rng.shuffle(labels)
    sequences = []
    for label in labels:
        words = rng.integers(2, NUM_WORDS, size=rng.integers(3, 25))
        words[rng.random(len(words)) < 0.1 + 0.25 * label] = 1
        sequences.append(words)
    return TinySplit(sequences, labels)


class TinyClassifier(Classifier):
    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.embedding_dim = 8
        self.words = nn.Embedding(NUM_WORDS, 8, padding_idx=0)
        self.norm = nn.LayerNorm(8)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8, 1)

    def embed(self, batch: Batch) -> Tensor:
        words = batch["words"]
        total = self.words(words).sum(dim=1)
        return self.dropout(self.norm(total / (words > 0).sum(dim=1, keepdim=True)))

    def classify(self, embedding: Tensor) -> Tensor:
        return self.head(embedding).squeeze(-1)


def tiny_model(seed: int = 0, dropout: float = 0.2) -> TinyClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TinyClassifier(dropout)


def tiny_config(**changes: object) -> NeuralConfig:
    settings = {
        "learning_rate": 0.01,
        "epochs": 4,
        "batch_size": 8,
        "max_units_per_micro_batch": 60,
        **changes,
    }
    return NeuralConfig.model_validate(settings)
