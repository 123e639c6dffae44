"""The settings of an experiment: frozen, validated sections."""

from collections.abc import Mapping
from itertools import count, islice
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sg_ray.config.hardware import this_machine
from sg_ray.data.sources import DataConfig
from sg_ray.files import content_hash
from sg_ray.models.families import get_family
from sg_ray.models.family import EstimatorFamily, FamilyConfig
from sg_ray.space import Dimension

FLOOR = "lexical"
"""The family that every leaderboard shows as the floor."""

AUTO = "auto"
"""The value that stands for what the hardware suggests."""


class Settings(BaseModel):
    """Base of every section: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Resources(Settings):
    """What one trial takes. ``cpus`` and ``gpus`` are per worker; ``gpus`` may be a fraction.

    ``auto`` asks the machine that reads the experiment: ``gpus`` is 1 if it has a GPU, else 0, and
    ``cpus`` is what goes with that GPU (hardware.py). Behind a driver without a GPU, such
    as the CPU head of a cluster, say the numbers.
    """

    gpus: float = Field(default=0, ge=0)
    cpus: float = Field(default=1, gt=0)
    num_workers: int = Field(default=1, ge=1)
    min_workers: int | None = Field(default=None, ge=1)
    """With as few workers a trial may start, or go on when machines are taken away."""

    @field_validator("gpus", mode="before")
    @classmethod
    def _auto_gpus(cls, value: Any) -> Any:
        return float(torch.cuda.is_available()) if value == AUTO else value

    @field_validator("cpus", mode="before")
    @classmethod
    def _auto_cpus(cls, value: Any, info: ValidationInfo) -> Any:
        """``gpus`` is known here because its field comes first."""
        return this_machine(info.data.get("gpus", 0)).cpus if value == AUTO else value

    @model_validator(mode="after")
    def _whole_gpus_when_several(self) -> Self:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus above 1 must be whole, got {self.gpus}")
        return self

    @model_validator(mode="after")
    def _min_not_above_max(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.num_workers:
            raise ValueError(f"min_workers {self.min_workers} is above num_workers")
        return self


class ModelSettings(Settings):
    """One family in an experiment: its baseline values, its search space, its resources."""

    config: Mapping[str, Any] = Field(default_factory=dict)
    space: Mapping[str, Dimension] = Field(default_factory=dict)
    resources: Resources | None = None


class LrRangeSettings(Settings):
    """The learning-rate range test before a family's search."""

    enabled: bool = True
    num_steps: int = Field(default=60, ge=10)
    num_seeds: int = Field(default=1, ge=1)
    max_samples: int = Field(default=2000, ge=1)
    cache_dir: Path = Path(".lr_cache")
    max_age_days: float = Field(default=7, ge=0)


class PruningSettings(Settings):
    """Asynchronous successive halving on epochs: after ``min_epochs`` the best 1/factor go on."""

    enabled: bool = True
    min_epochs: int = Field(default=1, ge=1)
    reduction_factor: int = Field(default=3, ge=2)


class SearchSettings(Settings):
    """Optuna's TPE over each family's space; trial 1 is always the experiment's own values."""

    num_trials: int = Field(default=16, ge=1)
    seed: int = Field(default=0, ge=0)
    pruning: PruningSettings = PruningSettings()


def _no_repeats(seeds: tuple[int, ...]) -> tuple[int, ...]:
    repeated = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if repeated:
        raise ValueError(f"seeds must differ, repeated: {repeated}")
    return seeds


Seed = Annotated[int, Field(ge=0, lt=2**32)]


class ReplicateSettings(Settings):
    """The best ``top_k`` configurations of a family race over seeds.

    All of them get each seed in turn; the first is the one that the search used.
    """

    top_k: int = Field(default=2, ge=1)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_no_repeats)] = (
        42,
        2025,
        7,
    )
    race_alpha: Annotated[float, Field(gt=0, lt=1)] | None = 0.1
    """A configuration that cannot win any more gets no further seed; one of the best is dropped
    with at most this probability. None: nobody is dropped."""
    max_seeds: int | None = Field(default=None, ge=1)
    """What ``seeds`` leave undecided gets more of them, up to so many in all."""
    budget_epochs: int | None = Field(default=None, ge=1)
    """Epochs of training of a family, its search included, within which it gets more seeds: what
    successive halving and the race save goes to the undecided. None: ``max_seeds`` is the limit."""
    variance_seeds: int = Field(default=0, ge=0)
    """The winner is trained again so often with other first weights alone, and as often with
    another order of the data alone: which of the two does the variance over seeds come from?"""

    @model_validator(mode="after")
    def _room_for_seeds(self) -> Self:
        if self.max_seeds is not None and self.max_seeds < len(self.seeds):
            raise ValueError(f"max_seeds {self.max_seeds} is below the number of seeds")
        return self

    @property
    def extra_seeds(self) -> tuple[int, ...]:
        """The seeds beyond the planned ones, in order: 1, 2, 3, ... without those planned."""
        num_extra = max(0, (self.max_seeds or 0) - len(self.seeds))
        return tuple(islice((seed for seed in count(1) if seed not in self.seeds), num_extra))

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """Every seed that a configuration may get, in the order of the rounds."""
        return (*self.seeds, *self.extra_seeds)

    @property
    def num_variance_trials(self) -> int:
        """How many trials split the winner's variance: as many for each of the two."""
        return 2 * self.variance_seeds


class TrackingSettings(Settings):
    """Where MLflow keeps the mirror of the records."""

    enabled: bool = True
    uri: str = "sqlite:///mlflow.db"
    register_model: bool = True
    """Whether the winner's weights are copied to MLflow and registered under the sweep's name."""


class Experiment(Settings):
    """Everything a sweep needs to know, resolved."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    output_dir: Path = Path("outputs")
    cache_dir: Path = Path(".cache")
    data: DataConfig = DataConfig()
    families: Annotated[tuple[str, ...], Field(min_length=1)] = ("transformer", "gnn", "fusion")
    models: Mapping[str, ModelSettings] = Field(default_factory=dict)
    branches_from: Path | None = None
    """What holds the trained branches when ``families`` lacks them: a finished sweep's folder, or
    one with results of ``sg-ray train``."""
    objective: str = "val_roc_auc"
    lr_range: LrRangeSettings = LrRangeSettings()
    search: SearchSettings = SearchSettings()
    replicate: ReplicateSettings = ReplicateSettings()
    resources: Resources = Resources()
    max_concurrent_trials: int | None = Field(default=None, ge=1)
    max_failures: int = Field(default=2, ge=0)
    """How often a trial whose process or machine died starts again from its last checkpoint."""
    tracking: TrackingSettings = TrackingSettings()

    @property
    def sweep_dir(self) -> Path:
        """The folder of this sweep, absolute: workers run in folders of their own."""
        return (self.output_dir / self.name).absolute()

    @property
    def all_families(self) -> tuple[str, ...]:
        """The floor, then the experiment's families with those that others build on first."""
        ordered = sorted(
            (name for name in dict.fromkeys(self.families) if name != FLOOR),
            key=lambda name: len(get_family(name).branches),
        )
        return (FLOOR, *ordered)

    def baseline(self, family: str) -> FamilyConfig:
        """Return the experiment's own values for a family."""
        settings = self.models.get(family, ModelSettings())
        config: FamilyConfig = get_family(family).Config.model_validate(settings.config)
        return config

    def space(self, family: str) -> Mapping[str, Dimension]:
        """Return the search space of a family; empty if it is not searched."""
        return self.models.get(family, ModelSettings()).space

    def num_points(self, family: str) -> int:
        """Return how many configurations a family's search tries: one if it is not searched."""
        return self.search.num_trials if self.space(family) else 1

    def num_finalists(self, family: str) -> int:
        """Return how many of them get more seeds, unless the race drops them."""
        return min(self.replicate.top_k, self.num_points(family))

    def resources_of(self, family: str) -> Resources:
        """Return what one trial of a family takes; one that fits in one go takes no GPU."""
        takes = self.models.get(family, ModelSettings()).resources or self.resources
        if isinstance(get_family(family), EstimatorFamily):
            return Resources(cpus=takes.cpus)
        return takes

    @property
    def identity(self) -> dict[str, Any]:
        """The part that decides the results; a resume may change only the rest."""
        deciding = ("data", "families", "models", "branches_from", "objective", "lr_range")
        whole = self.model_dump(mode="json")
        kept = {key: whole[key] for key in (*deciding, "search", "replicate")}
        kept["models"] = {
            name: {key: value for key, value in settings.items() if key != "resources"}
            for name, settings in kept["models"].items()
        }
        return kept

    @property
    def identity_hash(self) -> str:
        """Hash of ``identity``."""
        return content_hash(self.identity)
