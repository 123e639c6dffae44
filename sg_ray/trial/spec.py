"""What decides a trial's numbers, and the key and names that follow from it."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from sg_ray.configuration import Configuration
from sg_ray.files import content_hash, short_hash
from sg_ray.statistics.own_metrics import Direction
from sg_ray.training.seeding import Seeds, Stream, seed_name


class BranchSource(BaseModel):
    """A finished trial that another model's trial builds on."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    trial_key: str
    configuration: Configuration
    config_hash: str
    folder: Path
    """Holds the branch's best_model.pt."""
    weights: str | None = None
    """Its ``weights_id``, as recorded; None of a branch that failed, or of an earlier version."""

    @property
    def identity(self) -> list[str]:
        """The trial and its weights: trained again on other hardware, they may be others."""
        return [self.trial_key] if self.weights is None else [self.trial_key, self.weights]


class TrialSpec(BaseModel):
    """Everything that decides a trial's numbers, and the key that follows from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    configuration: Configuration
    seed: int
    objective: str
    data_fingerprint: str
    code_version: str
    branches: Mapping[str, BranchSource] = Field(default_factory=dict)
    """By family, which is how what builds on them asks for them."""
    streams: Mapping[Stream, int] = Field(default_factory=dict)
    """Seeds of single streams of random numbers, each in place of ``seed``."""
    trained_with: str | None = None
    """The version of the code that trains it, where it counts as made by ``code_version``."""
    own_metrics: Mapping[str, Direction] = Field(default_factory=dict)
    """Metrics of the user's own that are measured, too; ``code_version`` tells their code."""

    @cached_property
    def config_hash(self) -> str:
        """Hash of the configuration (with its branches' configurations), without the seed.

        What results are grouped by. A branch counts by the digits that are shown: a sweep has one
        configuration of each, and so a fusion's hash begins as it always did.
        """
        return self.configuration.hash_on(
            {name: short_hash(source.config_hash) for name, source in self.branches.items()}
        )

    @cached_property
    def trial_key(self) -> str:
        """Hash of configuration, seeds, data, objective, code version and branches.

        Of pretrained files and branches it is their content that counts, not where they lie.
        """
        branches = {name: source.identity for name, source in self.branches.items()}
        deciding = (self.seed, self.objective, self.data_fingerprint, self.code_version, branches)
        own_seeds = [self.streams] if self.streams else []  # trials without any keep their keys
        return content_hash([*self.configuration.identity, *deciding, *own_seeds], 16)

    @property
    def name(self) -> str:
        """Readable name, e.g. ``gnn-1f0c9a2b-seed42``, or ``gnn-1f0c9a2b-seed42-init7``."""
        config = short_hash(self.config_hash)
        return f"{self.model}-{config}-{self.row}"

    @property
    def row(self) -> str:
        """What tells it from other trials of its configuration, e.g. ``seed42-init7``."""
        return seed_name(self.seed, self.streams)

    @property
    def model(self) -> str:
        """The name of the model that is trained."""
        return self.configuration.model

    @property
    def family(self) -> str:
        """The code that trains it."""
        return self.configuration.family

    @property
    def seeds(self) -> Seeds:
        """What its training draws from."""
        return Seeds(self.seed, self.streams)

    def with_streams(self, streams: Mapping[Stream, int]) -> Self:
        """Return the trial that takes these streams, and no others, from seeds of their own."""
        return self.model_validate({**self.model_dump(), "streams": streams})

    def with_configuration(self, configuration: Configuration) -> Self:
        """Return the trial with other values, all else the same."""
        return self.model_validate({**self.model_dump(), "configuration": configuration})


def job_name(spec: TrialSpec) -> str:
    """Return the folder name of a trial, readable and unique in a sweep."""
    return f"{spec.name}-{spec.trial_key[:8]}"


def identity_of(spec: TrialSpec) -> dict[str, Any]:
    """Return what tells the trial from others, so that a refusal can say what differs."""
    names = {"seed", "data_fingerprint", "code_version"}
    own = {"trial_key": spec.trial_key, "model": spec.model, "family": spec.family}
    trained_with = {} if spec.trained_with is None else {"trained_with": spec.trained_with}
    return own | trained_with | spec.model_dump(include=names)
