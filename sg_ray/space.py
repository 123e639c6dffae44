"""Search spaces: one distribution per hyperparameter, from YAML to Optuna's distributions."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Self

from optuna.trial import Trial
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from sg_ray.errors import InputError
from sg_ray.models.family import FamilyConfig
from sg_ray.training.lr_range import narrow


class Dimension(BaseModel):
    """The values one hyperparameter may take: exactly one of these four."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    uniform: tuple[float, float] | None = None
    log_uniform: tuple[float, float] | None = None
    int_uniform: tuple[int, int] | None = None
    choice: tuple[bool | int | float | str | None, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = {name: value for name, value in self if value is not None}
        if len(given) != 1:
            raise ValueError("give exactly one of uniform, log_uniform, int_uniform, choice")
        ((kind, values),) = given.items()
        if kind == "choice":
            if not values or len(set(map(repr, values))) != len(values):
                raise ValueError("choice needs at least one value, none of them twice")
        elif not all(map(math.isfinite, values)):
            raise ValueError(f"{kind} needs finite bounds, got {list(values)}")
        elif values[0] >= values[1]:
            raise ValueError(f"{kind} needs low < high, got {list(values)}")
        if kind == "log_uniform" and values[0] <= 0:
            raise ValueError(f"log_uniform needs low > 0, got {list(values)}")
        return self

    def suggest(self, trial: Trial, name: str) -> Any:
        """Return the value that ``trial`` tries for this dimension, called ``name``."""
        if self.uniform is not None:
            return trial.suggest_float(name, *self.uniform)
        if self.log_uniform is not None:
            return trial.suggest_float(name, *self.log_uniform, log=True)
        if self.int_uniform is not None:
            return trial.suggest_int(name, *self.int_uniform)
        return trial.suggest_categorical(name, self.choice or ())

    def contains(self, value: Any) -> bool:
        """Return True if ``value`` lies in this dimension."""
        bounds = self.uniform or self.log_uniform or self.int_uniform
        if bounds is not None:
            return isinstance(value, int | float) and bounds[0] <= value <= bounds[1]
        return value in (self.choice or ())

    def clip(self, value: float) -> float:
        """Return the number in this interval that is nearest to ``value``."""
        bounds = self.uniform or self.log_uniform or self.int_uniform
        return value if bounds is None else min(max(value, bounds[0]), bounds[1])

    def examples(self) -> tuple[Any, ...]:
        """Return the values that must be valid for the whole dimension to be (bounds, choices)."""
        bounds = self.uniform or self.log_uniform or self.int_uniform
        return bounds if bounds is not None else (self.choice or ())


Space = Mapping[str, Dimension]


def narrowed(space: Space, baseline: Mapping[str, Any], learning_rate: float | None) -> Space:
    """Return the space with the learning rate's interval drawn in around a range test's result.

    The interval keeps the baseline's own learning rate. Without a result nothing changes.
    """
    dimension = space.get("learning_rate")
    if learning_rate is None or dimension is None or dimension.log_uniform is None:
        return space
    low, high = narrow(learning_rate, *dimension.log_uniform)
    own = baseline["learning_rate"]
    return {**space, "learning_rate": Dimension(log_uniform=(min(low, own), max(high, own)))}


def check_space(space: Space, baseline: FamilyConfig, where: Callable[[str], str]) -> None:
    """Check that every dimension is a hyperparameter of the family and only takes legal values.

    ``where`` tells where a dimension was given. Raises InputError that begins with that, and lists
    what the family has.
    """
    searchable = searchable_fields(type(baseline))
    for name, dimension in space.items():
        if name not in searchable:
            raise InputError(
                f"{where(name)}: the family has no hyperparameter {name!r} to search over. "
                f"It has: {', '.join(sorted(searchable))}."
            )
        own = getattr(baseline, name)
        if not dimension.contains(own):
            raise InputError(
                f"{where(name)}: the experiment's own value {own!r} lies outside "
                f"{dimension.model_dump(exclude_none=True)}; it is always tried first, so widen "
                f"the space or change config.{name}."
            )
        for value in dimension.examples():
            try:
                type(baseline).model_validate({**baseline.model_dump(), name: value})
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                raise InputError(
                    f"{where(name)}: {value!r} is not a legal value ({reason})."
                ) from error


def searchable_fields(config: type[FamilyConfig]) -> set[str]:
    """Names of a family's hyperparameters, without the nested settings of its features.

    Features are made once per sweep, so what shapes them is not searched over.
    """
    return {
        name
        for name, field in config.model_fields.items()
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
    }
