"""A model of an experiment: what is searched, ranked, compared and exported under one name."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sg_ray.config.resources import Resources
from sg_ray.configuration import Configuration
from sg_ray.models.families import get_family
from sg_ray.models.family import FamilyConfig, NeuralFamily
from sg_ray.space import Space

FLOOR = "lexical"
"""The model that every leaderboard shows as the floor, and its family."""


@dataclass(frozen=True)
class Model:
    """A family's code under a name, with the experiment's own values and what is tried beside them.

    ``settings`` are those values, ``resources`` what one trial takes, and ``space`` is empty if
    the model is not searched. ``branches`` names, by family, the models of the same experiment
    that it builds on; one that is not there comes from elsewhere (``branches_from``).
    """

    name: str
    family: str
    settings: FamilyConfig
    space: Space
    resources: Resources
    branches: Mapping[str, str]

    @cached_property
    def baseline(self) -> Configuration:
        """The configuration of the experiment's own values."""
        return Configuration.of(self.name, self.family, self.settings)

    def configured(self, values: Mapping[str, Any]) -> Configuration:
        """Return the configuration with ``values`` in place of the experiment's own.

        They become what the family's configuration makes of them, whichever distribution they
        came from.
        """
        settings = self.settings.model_dump() | dict(values)
        return Configuration.of(
            self.name, self.family, type(self.settings).model_validate(settings)
        )

    @property
    def is_floor(self) -> bool:
        """Whether it is what the others must beat to be worth their cost."""
        return self.name == FLOOR

    @property
    def max_stacked(self) -> int:
        """How many seeds of one configuration train as one at most; 1: each by itself."""
        family = get_family(self.family)
        if isinstance(family, NeuralFamily) and family.can_stack(self.settings):
            return self.resources.max_stacked
        return 1

    @property
    def is_neural(self) -> bool:
        """Whether it learns by steps, at a learning rate, from streams of random numbers."""
        return isinstance(get_family(self.family), NeuralFamily)
