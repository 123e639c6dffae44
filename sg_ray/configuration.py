"""A configuration: a model's name, its family, and a value for each of the family's settings."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from sg_ray.features.spec import by_content
from sg_ray.files import content_hash, short_hash
from sg_ray.models.family import FamilyConfig


class Configuration(BaseModel):
    """What trials of several seeds have in common; equal ones are equal keys of a dict.

    ``values`` are what the family's configuration made of what was given: every setting is there,
    as plain JSON, so that two ways to write a number are one configuration, and so are a default
    that is written out and one that is left out. Make one by ``of``; what is read from a record
    was made so. They are the numbers' past: an installation that lacks the family can read them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    model: str
    """The name under which it is searched, ranked, compared and exported."""
    family: str
    """The code that trains it."""
    values: Mapping[str, Any]
    short_name: str | None = None
    """What people call it, see ``short_names``; no part of what it is, nor of its hash."""

    @classmethod
    def of(cls, model: str, family: str, settings: FamilyConfig) -> Self:
        """Return the configuration of these settings of a family."""
        return cls(model=model, family=family, values=settings.model_dump(mode="json"))

    @property
    def name(self) -> str:
        """What people call it: ``gnn lr 5e-3``, or the model's name."""
        return self.short_name or self.model

    def title(self, config_hash: str) -> str:
        """Return the name and the digits that are shown of a hash: ``gnn lr 5e-3 1f0c9a2b``."""
        return f"{self.name} {short_hash(config_hash)}"

    @property
    def label(self) -> str:
        """The model's name, and its family's where that is another: ``codebert (transformer)``."""
        return self.model if self.model == self.family else f"{self.model} ({self.family})"

    @cached_property
    def hash(self) -> str:
        """Hash of it all. Of pretrained files it is the content that counts, not their place.

        Equal values under two names are two configurations: each has its trials and its rank.
        """
        return self.hash_on({})

    def hash_on(self, branches: Mapping[str, str]) -> str:
        """Return its hash where it builds on branches, whose own hashes are given by name."""
        return content_hash([*self.identity, branches])

    @property
    def identity(self) -> tuple[str, Any]:
        """What tells it from all others."""
        return self.label, by_content(self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Configuration) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)
