"""Fusion of trained branches: their averaged logits, plus a learned correction.

Branches fit the train split far better than any other, so whatever a head learns from their train
outputs misjudges them. What holds is decided elsewhere: each branch's temperature is fitted on the
validation split (one number a branch; Guo et al. 2017, https://arxiv.org/abs/1706.04599), which
also weighs the branches, as a weak one has small calibrated logits. Training starts at the mean of
the calibrated logits and learns a correction whose last layer starts at zero.

Shape legend: B samples in a batch, n samples in a split, D_f embedding width of branch f.
"""

import logging
import zipfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from sg_ray.errors import InputError
from sg_ray.features.spec import FeatureSpec
from sg_ray.files import atomic_path
from sg_ray.models.family import (
    MAX_BATCH,
    MAX_EPOCHS,
    Batch,
    Branch,
    Capacity,
    Classifier,
    Inputs,
    NeuralConfig,
    NeuralFamily,
    SplitData,
)
from sg_ray.models.seeded_dropout import SeededDropout
from sg_ray.setting_types import Count

_LOGGER = logging.getLogger(__name__)

BRANCH_OUTPUTS = "branch_outputs"
"""The folder, in the cache, of what frozen branches say of a data set."""

Mode = Literal["frozen", "fine_tune"]

LEARNING_RATES: Mapping[Mode, float] = {"frozen": 3e-4, "fine_tune": 2e-5}

ENCODE_MAX_UNITS = 16_384
"""Padded tokens or graph nodes in one pass over a frozen branch. Not a setting: what is cached
must not depend on the trial that came first."""


class FusionConfig(NeuralConfig):
    """The head, and whether the branches are trained on. Defaults suit frozen branches."""

    mode: Mode = "frozen"
    """``frozen``: branch outputs are computed once and cached, and only the head trains, in
    seconds; ``fine_tune``: all trains together, at the cost of all branches."""
    learning_rate: float = Field(default=LEARNING_RATES["frozen"], gt=0, le=10)
    """As of every neural family. Left out it follows ``mode``: 3e-4 frozen, 2e-5 for fine_tune,
    which would else unlearn the branches."""
    epochs: int = Field(default=10, ge=1, le=MAX_EPOCHS)
    """Passes over the train split. Frozen ones take seconds."""
    batch_size: int = Field(default=128, ge=1, le=MAX_BATCH)
    """Samples per optimisation step, over all workers."""
    early_stopping_patience: Count | None = 3
    """Epochs without a better validation after which a training ends. None: it runs to its last
    epoch."""
    hidden_dim: int = Field(default=64, ge=1, le=4096)
    """Width of the correction's hidden layer."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Of the correction: on the branches' embeddings and on its hidden layer. High, as branches
    know the train split by heart."""

    @model_validator(mode="before")
    @classmethod
    def _learning_rate_of_mode(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("mode") in LEARNING_RATES:
            return {"learning_rate": LEARNING_RATES[values["mode"]], **values}
        return values


@dataclass(frozen=True)
class BranchOutputs:
    """What a frozen branch says about a split: embeddings [n, D_f] and logits [n], float32."""

    embeddings: NDArray[np.float32]
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class FrozenSplit:
    """A split as its branches' outputs; every sample costs one unit. A ``FixedSplit``."""

    labels: NDArray[np.int8]
    outputs: Mapping[str, BranchOutputs]
    padded: bool = False

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """Ones, shape [n]."""
        return np.ones(len(self.labels), dtype=np.int64)

    def collate(self, indices: NDArray[np.int64]) -> Batch:
        """Return each branch's ``embedding`` [B, D_f] and ``logit`` [B]."""
        batch = {}
        for name, outputs in self.outputs.items():
            batch[f"{name}/embedding"] = torch.from_numpy(outputs.embeddings[indices])
            batch[f"{name}/logit"] = torch.from_numpy(outputs.logits[indices])
        return batch

    def capacity(self, pieces: Sequence[NDArray[np.int64]]) -> Capacity:
        """Return the number of samples of the largest piece."""
        return {"samples": max(map(len, pieces), default=1)}

    def collate_fixed(self, indices: NDArray[np.int64], capacity: Capacity) -> Batch:
        """Return what ``collate`` does; dummies are the split's first sample."""
        dummies = np.zeros(capacity["samples"] - len(indices), dtype=np.int64)
        return self.collate(np.concatenate([indices, dummies]))


@dataclass(frozen=True)
class JointSplit:
    """A split as the batches of all its branches together; a sample costs their sum."""

    labels: NDArray[np.int8]
    splits: Mapping[str, SplitData]

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """Tokens and nodes of each sample, shape [n]."""
        total: NDArray[np.int64] = np.sum([s.units for s in self.splits.values()], axis=0)
        return total

    @property
    def padded(self) -> bool:
        """True if any branch pads."""
        return any(split.padded for split in self.splits.values())

    def collate(self, indices: NDArray[np.int64]) -> Batch:
        """Return every branch's tensors, under ``<branch>/<key>``."""
        return {
            f"{name}/{key}": value
            for name, split in self.splits.items()
            for key, value in split.collate(indices).items()
        }


class FusionHead(nn.Module):
    """Mean of the calibrated branch logits plus a correction from the normalised embeddings."""

    inverse_temperatures: Tensor

    def __init__(
        self, dims: Sequence[int], inverse_temperatures: Sequence[float], config: FusionConfig
    ) -> None:
        super().__init__()
        self.dims = tuple(dims)
        self.register_buffer("inverse_temperatures", torch.tensor(inverse_temperatures))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for dim in dims)
        self.correction = nn.Sequential(
            SeededDropout(config.dropout),
            nn.Linear(sum(dims), config.hidden_dim),
            nn.GELU(),
            SeededDropout(config.dropout),
            nn.Linear(config.hidden_dim, 1),
        )
        last = cast(nn.Linear, self.correction[-1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, outputs: Tensor) -> Tensor:
        """Map ``outputs`` [B, F + sum of D_f] (the F logits first) to logits [B]."""
        logits, *embeddings = torch.split(outputs, [len(self.dims), *self.dims], dim=-1)
        normalised = [norm(e) for norm, e in zip(self.norms, embeddings, strict=True)]
        correction = cast(Tensor, self.correction(torch.cat(normalised, dim=-1))).squeeze(-1)
        calibrated = logits * self.inverse_temperatures
        return calibrated.mean(-1) + correction


class FusionClassifier(Classifier):
    """A head over branch outputs. Its embedding is the branches' logits and embeddings."""

    def __init__(self, names: Sequence[str], head: FusionHead) -> None:
        super().__init__()
        self.names = tuple(names)
        self.head = head
        self.embedding_dim = len(head.dims) + sum(head.dims)
        self.reaches_every_parameter = True

    @abstractmethod
    def branch_outputs(self, name: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return embedding [B, D_f] and logit [B] of one branch."""

    def embed(self, batch: Batch) -> Tensor:
        """Return the branches' logits, then their embeddings, shape [B, F + sum of D_f]."""
        outputs = [self.branch_outputs(name, batch) for name in self.names]
        logits = torch.stack([logit for _, logit in outputs], dim=-1)
        return torch.cat([logits, *(embedding for embedding, _ in outputs)], dim=-1)

    def classify(self, embedding: Tensor) -> Tensor:
        """Return one logit per sample, shape [B]."""
        return cast(Tensor, self.head(embedding))


class FrozenFusion(FusionClassifier):
    """Reads branch outputs from the batch."""

    def branch_outputs(self, name: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return what ``FrozenSplit`` put into the batch."""
        return batch[f"{name}/embedding"], batch[f"{name}/logit"]


class JointFusion(FusionClassifier):
    """Holds the branches' encoders and trains them on."""

    def __init__(
        self, names: Sequence[str], head: FusionHead, members: Mapping[str, Classifier]
    ) -> None:
        super().__init__(names, head)
        self.members = nn.ModuleDict(members)
        self.reaches_every_parameter = all(m.reaches_every_parameter for m in members.values())

    def branch_outputs(self, name: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """Run one branch on its part of the batch."""
        prefix = f"{name}/"
        own = {k.removeprefix(prefix): v for k, v in batch.items() if k.startswith(prefix)}
        member = cast(Classifier, self.members[name])
        embedding = member.embed(own)
        return embedding, member.classify(embedding)


class Fusion(NeuralFamily[FusionConfig]):
    """The fusion family."""

    name = "fusion"
    Config = FusionConfig
    branches = ("transformer", "gnn")
    lr_range = (1e-6, 1e-1)

    def can_stack(self, config: FusionConfig) -> bool:
        """Return True for heads over frozen branches."""
        return config.mode == "frozen"

    def feature_specs(self, config: FusionConfig) -> Sequence[FeatureSpec]:  # noqa: ARG002
        """Return nothing: the branches' configurations name what they read."""
        return ()

    def split_data(self, config: FusionConfig, inputs: Inputs, split: str) -> SplitData:
        """Return a split as branch outputs, or as the branches' joint batches."""
        labels = inputs.features.labels[split]
        branches = _branches(inputs)
        if config.mode == "fine_tune":
            return JointSplit(labels, {b.family: b.splits[split] for b in branches})
        return FrozenSplit(labels, {b.family: _cached_outputs(b, inputs, split) for b in branches})

    def build(self, config: FusionConfig, inputs: Inputs) -> Classifier:
        """Return a new head, over copies of the branches if they train on."""
        branches = _branches(inputs)
        names = [branch.family for branch in branches]
        temperatures = [_inverse_temperature(branch, inputs) for branch in branches]
        head = FusionHead([_embedding_dim(b, inputs) for b in branches], temperatures, config)
        if config.mode == "frozen":
            return FrozenFusion(names, head)
        members = {b.family: deepcopy(b.model).requires_grad_(True) for b in branches}
        return JointFusion(names, head, members)


def _branches(inputs: Inputs) -> list[Branch]:
    missing = [name for name in Fusion.branches if name not in inputs.branches]
    if missing:
        raise InputError(
            f"fusion builds on a trained {' and a trained '.join(missing)}, and none was given. "
            f"Train them in the same sweep (families: [{', '.join(Fusion.branches)}, fusion]), or "
            "name a finished sweep that holds them: branches_from=outputs/NAME."
        )
    return [inputs.branches[name] for name in Fusion.branches]


def _inverse_temperature(branch: Branch, inputs: Inputs) -> float:
    """Fit on validation; 1 without a validation split: serving loads a trained head."""
    if "valid" not in inputs.features.labels:
        return 1.0
    outputs = _cached_outputs(branch, inputs, "valid")
    return fit_inverse_temperature(outputs.logits, inputs.features.labels["valid"])


def _embedding_dim(branch: Branch, inputs: Inputs) -> int:
    """Return the width of a branch's embeddings, without its model if outputs are there."""
    if "valid" not in inputs.features.labels:
        return branch.model.embedding_dim
    return int(_cached_outputs(branch, inputs, "valid").embeddings.shape[1])


def fit_inverse_temperature(logits: NDArray[np.float32], labels: NDArray[np.int8]) -> float:
    """Return the factor on ``logits`` [n], from 0.01 to 10, that minimises their log loss.

    Never 0: a branch that is of no use yet must still get a gradient when it trains on.
    """
    signed = np.where(labels == 1, logits, -logits).astype(np.float64)
    candidates = np.geomspace(0.01, 10.0, 121)
    losses = [np.logaddexp(0.0, -factor * signed).mean() for factor in candidates]
    return float(candidates[int(np.argmin(losses))])


def _cached_outputs(branch: Branch, inputs: Inputs, split: str) -> BranchOutputs:
    """Return a branch's outputs, from the cache if they are there.

    A file is named by the weights and data that it follows from. Two trials that miss at once both
    compute; each renames a whole file into place. A folder that cannot be written caches nothing.
    """
    if inputs.cache_dir is None or branch.identity is None:
        return _compute_outputs(branch, inputs.device, split)
    name = f"{branch.family}-{branch.identity}-{inputs.features.data_fingerprint}-{split}.npz"
    path = inputs.cache_dir / BRANCH_OUTPUTS / name
    outputs = _read_outputs(path)
    if outputs is None:
        outputs = _compute_outputs(branch, inputs.device, split)
        try:
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez(file, embeddings=outputs.embeddings, logits=outputs.logits)
        except OSError as error:
            _LOGGER.warning("%s: nothing is cached there, so it takes longer (%s)", path, error)
    return outputs


def _read_outputs(path: Path) -> BranchOutputs | None:
    """Return None if the file is missing or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return BranchOutputs(arrays["embeddings"], arrays["logits"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


@torch.inference_mode()
def _compute_outputs(branch: Branch, device: torch.device, split: str) -> BranchOutputs:
    data = branch.splits[split]
    model = branch.model.to(device).eval()
    embeddings = np.empty((len(data.labels), model.embedding_dim), dtype=np.float32)
    logits = np.empty(len(data.labels), dtype=np.float32)
    for indices in _passes(data.units):
        batch = {key: value.to(device) for key, value in data.collate(indices).items()}
        embedding = model.embed(batch)
        embeddings[indices] = embedding.float().cpu().numpy()
        logits[indices] = model.classify(embedding).float().cpu().numpy()
    return BranchOutputs(embeddings, logits)


def _passes(units: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cut a split, sorted by length, into passes of at most ENCODE_MAX_UNITS padded units."""
    order = np.argsort(-units, kind="stable")
    passes = []
    start = 0
    while start < len(order):
        size = max(1, ENCODE_MAX_UNITS // int(units[order[start]]))
        passes.append(order[start : start + size])
        start += size
    return passes
