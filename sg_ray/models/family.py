"""The contract of a model family: one class in one file that fills it.

Shape legend: B samples in a batch, n samples in a split, D embedding width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from sg_ray.errors import InputError
from sg_ray.features.packed import Features
from sg_ray.features.spec import FeatureSpec
from sg_ray.setting_types import Count, StrictModel

Batch = dict[str, Tensor]


MAX_EPOCHS = 100_000
MAX_BATCH = 1_000_000
"""More than anybody means: the journal keeps a line for each epoch, a step reads a whole batch."""


class FamilyConfig(StrictModel):
    """Hyperparameters of a family: its own, and those of the training loop. Never the seed."""

    FIXED: ClassVar[frozenset[str]] = frozenset()
    """Names of those that no search may vary, for features depend on them."""


class NeuralConfig(FamilyConfig):
    """What the training loop needs to know; families add their architecture."""

    learning_rate: float = Field(default=1e-3, gt=0, le=10)
    """AdamW's rate at the end of warm-up, from where it falls to 0 in a straight line. The
    setting that matters most: search it first."""
    weight_decay: float = Field(default=0.01, ge=0, le=1_000)
    """How much each step shrinks the weights (times the learning rate). Raise it if the model
    learns the train split by heart."""
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    """Share of all steps in which the rate rises from 0. Raise it if trainings collapse in their
    first epoch."""
    epochs: int = Field(default=5, ge=1, le=MAX_EPOCHS)
    """Passes over the train split. The best one on validation is kept. The learning rate falls
    over all of them: more epochs are another schedule, not only a longer training."""
    batch_size: int = Field(default=32, ge=1, le=MAX_BATCH)
    """Samples per optimisation step, over all workers. Memory does not change it: see
    ``max_units_per_micro_batch``. A larger one wants a higher learning rate."""
    max_units_per_micro_batch: Count = 16_384
    """Padded tokens or graph nodes in one forward pass; a step accumulates as many as it needs.
    Lower it if memory runs out, raise it to fill a GPU; the batch stays the same."""
    gradient_clip_norm: float = Field(default=1.0, gt=0, le=1e300)
    """A step whose gradient is longer is scaled down to this length. Lower it if the loss jumps."""
    early_stopping_patience: Count | None = None
    """Epochs without a better validation after which a training ends. None: it runs to its last
    epoch."""
    collapse_patience: Count | None = 5
    """Validations in a row that may show a collapsed model, which gives every sample the same
    answer; one more epoch is not trained then.

    None: never stopped for it. See ``sg_ray.training.collapse``."""
    weighted_sampling: bool = False
    """Draw both classes equally often in training. For data with few vulnerable functions;
    probabilities are then too high."""
    fixed_shapes: Literal["auto", "on", "off"] = "auto"
    """Fill batches up to one set of shapes. On a GPU a step is then recorded once and replayed as
    one launch.

    ``auto``: on a GPU, where a replay does what a plain step does. Set off if filling up costs
    more than launching saves: very large models."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Numbers of the forward pass. ``auto``: on a GPU bf16 where it has it, else fp16; on a CPU
    fp32. Set fp32 if losses are not finite."""


class SplitData(Protocol):
    """One split as the training loop sees it."""

    @property
    def labels(self) -> NDArray[np.int8]:
        """Labels, shape [n], 0 or 1."""
        ...

    @property
    def units(self) -> NDArray[np.int64]:
        """Cost of each sample in tokens or nodes, shape [n], at least 1."""
        ...

    @property
    def padded(self) -> bool:
        """True if a batch costs B x its largest sample, False if it costs the sum."""
        ...

    def collate(self, indices: NDArray[np.int64]) -> Batch:
        """Return the CPU tensors of these samples, in this order, without labels."""
        ...


Capacity = Mapping[str, int]
"""What one set of shapes holds, e.g. {"samples": 9, "tokens": 2688}. "samples" is always there."""


@runtime_checkable
class FixedSplit(SplitData, Protocol):
    """A split whose batches can be filled up to shapes that depend on a capacity alone."""

    def capacity(self, pieces: Sequence[NDArray[np.int64]]) -> Capacity:
        """Return what holds each of ``pieces`` with its dummies, rounded up; some may be empty."""
        ...

    def collate_fixed(self, indices: NDArray[np.int64], capacity: Capacity) -> Batch:
        """Return what ``collate`` does, filled up to ``capacity`` with dummies; may be all of it.

        Names, shapes and types of the tensors depend on ``capacity`` alone. The dummies come after
        the samples; the model gives each a finite logit, which counts for nothing, so that logits
        have shape [capacity["samples"]].
        """
        ...


class Classifier(nn.Module, ABC):
    """A model with a readout that another family can build on."""

    embedding_dim: int
    reaches_every_parameter: bool = False
    """Whether each pass in training reaches every weight, whatever the batch. Several workers then
    need not look, in each step, for weights without a gradient."""

    @abstractmethod
    def embed(self, batch: Batch) -> Tensor:
        """Return one vector per sample, shape [B, D]."""

    @abstractmethod
    def classify(self, embedding: Tensor) -> Tensor:
        """Return one logit per sample, shape [B]; above 0 means vulnerable."""

    def forward(self, batch: Batch) -> Tensor:
        """Return logits, shape [B]. Raises InputError if ``classify`` has them in another shape."""
        logits = self.classify(self.embed(batch))
        if logits.dim() != 1:
            raise InputError(
                f"{type(self).__name__}.classify returned shape {list(logits.shape)}. One logit a "
                "sample is wanted, shape [B]: squeeze(-1) takes the last dimension out."
            )
        return logits


@dataclass(frozen=True)
class Branch:
    """A trained member of another family, as input of a family that builds on it.

    ``identity`` tells its settings and weights from all others, however they came about; None if
    nobody knows.
    ``load`` returns the model in eval mode with its best weights, and draws no random numbers;
    ``splits`` is its view of the data.
    """

    family: str
    identity: str | None
    load: Callable[[], Classifier]
    splits: Mapping[str, SplitData]

    @cached_property
    def model(self) -> Classifier:
        """The model, loaded when it is first needed."""
        return self.load()


@dataclass(frozen=True)
class Inputs:
    """What a family reads: the sweep's features, its trained branches, a folder for caches.

    ``is_restoring``: the caller puts saved weights into what is built, so that those of a
    pretrained encoder need not be there.
    """

    features: Features
    branches: Mapping[str, Branch] = field(default_factory=dict)
    cache_dir: Path | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    is_restoring: bool = False


ConfigT = TypeVar("ConfigT", bound=FamilyConfig)
NeuralConfigT = TypeVar("NeuralConfigT", bound=NeuralConfig)


class Family(ABC, Generic[ConfigT]):
    """What a model family is: a name, its configuration, and the features it reads."""

    name: ClassVar[str]
    Config: type[ConfigT]
    branches: ClassVar[tuple[str, ...]] = ()
    """Names of the families whose trained members this one builds on."""
    lr_range: ClassVar[tuple[float, float]] = (1e-6, 1e-1)
    """Learning rates that a range test walks through, low to high."""
    space: ClassVar[Mapping[str, Any]] = {}
    """Search space, as an experiment would write it, of a family from outside that an experiment
    gives none; the spaces of those built in are files in ``search_spaces/``."""

    @abstractmethod
    def feature_specs(self, config: ConfigT) -> Sequence[FeatureSpec]:
        """Return the feature kinds to prepare before a trial of ``config`` can run."""

    def pinned(self, config: ConfigT) -> ConfigT:
        """Return ``config`` with the hash of each file from outside that it names.

        Trials of equal names and other files are then other trials. Raises InputError if a file
        is not there, or is not the one that ``config`` already means.
        """
        return config

    def check(self, config: ConfigT) -> None:
        """Raise InputError if what ``config`` names from outside cannot be built on.

        Takes seconds at most, once before trials begin.
        """


class NeuralFamily(Family[NeuralConfigT], ABC):
    """A family trained by gradient descent in ``sg_ray.training.loop``."""

    stacks: ClassVar[bool] = False
    """Whether several models of one configuration can be computed as one, by ``torch.func.vmap``.

    Their forward pass is then a function of weights, buffers and batch, changes none of them, and
    drops by ``SeededDropout``; splits are ``FixedSplit``."""

    def can_stack(self, config: NeuralConfigT) -> bool:
        """Return whether that holds of ``config``."""
        del config
        return self.stacks

    @abstractmethod
    def split_data(self, config: NeuralConfigT, inputs: Inputs, split: str) -> SplitData:
        """Return the batches' view of one split."""

    @abstractmethod
    def build(self, config: NeuralConfigT, inputs: Inputs) -> Classifier:
        """Return a new model. Draws its weights from torch's global generator and nothing else."""


class Estimator(Protocol):
    """A fitted model without epochs."""

    def predict_proba(self, inputs: Inputs, split: str) -> NDArray[np.float64]:
        """Return the probability of "vulnerable" for each sample of a split, shape [n]."""
        ...

    def state(self) -> dict[str, Any]:
        """Return tensors and plain values from which ``EstimatorFamily.load`` restores it."""
        ...


class EstimatorFamily(Family[ConfigT], ABC):
    """A family that fits in one go (a baseline)."""

    @abstractmethod
    def fit(self, config: ConfigT, inputs: Inputs, seed: int) -> Estimator:
        """Fit on the train split."""

    @abstractmethod
    def load(self, config: ConfigT, state: Mapping[str, Any]) -> Estimator:
        """Restore what ``Estimator.state`` returned."""
