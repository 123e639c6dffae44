"""A family of your own: a bidirectional LSTM over code tokens, pooled by its largest values."""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sg_ray.features.spec import FeatureSpec, TokenSpec
from sg_ray.models.family import Batch, Classifier, Inputs, NeuralConfig, NeuralFamily
from sg_ray.models.token_split import TokenSplit


class BiLstmConfig(NeuralConfig):  # adds to learning_rate, epochs, batch_size, ...
    tokens: TokenSpec = TokenSpec()
    max_tokens: int = Field(default=256, ge=8)
    hidden_dim: int = Field(default=64, ge=2)


class BiLstmModel(Classifier):
    def __init__(self, num_tokens: int, hidden_dim: int) -> None:
        super().__init__()
        self.embedding_dim = 2 * hidden_dim
        self.tokens = nn.Embedding(num_tokens, hidden_dim)
        self.lstm = nn.LSTM(hidden_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden_dim, 1)

    def embed(self, batch: Batch) -> Tensor:  # one vector per function, shape [B, D]
        ids = batch["ids"]  # [B, T]; "mask" is there only if some are shorter than T
        mask = batch.get("mask", torch.ones_like(ids, dtype=torch.bool))
        lengths = mask.sum(1).cpu()
        packed = pack_padded_sequence(self.tokens(ids), lengths, True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], True, padding_value=-torch.inf)
        return states.amax(1)

    def classify(self, embedding: Tensor) -> Tensor:  # one logit per function, shape [B]
        logits: Tensor = self.head(embedding)
        return logits.squeeze(-1)


class BiLstm(NeuralFamily[BiLstmConfig]):
    name = "bilstm"  # in tables, folders and settings: models.bilstm.config.hidden_dim=128
    Config = BiLstmConfig
    space = {  # what a sweep searches, unless the experiment says otherwise
        "learning_rate": {"log_uniform": [1e-4, 1e-2]},
        "hidden_dim": {"choice": [32, 64, 128]},
    }

    def feature_specs(self, config: BiLstmConfig) -> Sequence[FeatureSpec]:
        return (config.tokens,)  # made once for all trials that read the same

    def split_data(self, config: BiLstmConfig, inputs: Inputs, split: str) -> TokenSplit:
        kind, labels = inputs.features.kinds[config.tokens.key], inputs.features.labels[split]
        return TokenSplit.of(kind, labels, kind.splits[split]["ids"], config.max_tokens)

    def build(self, config: BiLstmConfig, inputs: Inputs) -> BiLstmModel:
        num_tokens = inputs.features.kinds[config.tokens.key].meta["vocab_size"]
        return BiLstmModel(num_tokens, config.hidden_dim)
