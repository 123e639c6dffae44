"""Search spaces: one distribution per hyperparameter, from YAML to Optuna's distributions."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Annotated, Any, Self

from optuna.trial import Trial
from pydantic import (
    BaseModel,
    BeforeValidator,
    PlainValidator,
    Strict,
    ValidationError,
    model_validator,
)

from sg_ray.errors import InputError
from sg_ray.models.family import FamilyConfig
from sg_ray.setting_types import StrictModel
from sg_ray.training.lr_range import narrow


def _plain(value: Any) -> Any:
    is_finite = not isinstance(value, float) or math.isfinite(value)
    if value is None or (isinstance(value, bool | int | float | str) and is_finite):
        return value
    raise ValueError("a choice is a number, a text, true, false or null")


MAX_LISTED = 64
"""Whole numbers of an interval that are looked at one by one."""


def _low_and_high(value: Any) -> Any:
    if isinstance(value, list | tuple) and len(value) != 2:
        raise ValueError("Input should be [low, high]")
    return value


_Bounds = BeforeValidator(_low_and_high)
Interval = Annotated[tuple[float, float], Strict(False), _Bounds]
Plain = Annotated[bool | int | float | str | None, PlainValidator(_plain)]


class Dimension(StrictModel):
    """The values one hyperparameter may take: exactly one of these four."""

    uniform: Interval | None = None
    """[low, high]: any number between the two, each as likely."""
    log_uniform: Interval | None = None
    """[low, high], both above 0: any number, each order of magnitude as likely. For learning
    rates and decays."""
    int_uniform: Annotated[tuple[int, int], Strict(False), _Bounds] | None = None
    """[low, high]: any whole number from the one to the other."""
    choice: Annotated[tuple[Plain, ...], Strict(False)] | None = None
    """One of the values listed: numbers, texts, true, false or null."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = {name: value for name, value in self if value is not None}
        if len(given) != 1:
            raise ValueError("give exactly one of uniform, log_uniform, int_uniform, choice")
        ((kind, values),) = given.items()
        if kind == "choice":
            if not values or len(set(map(repr, values))) != len(values):
                raise ValueError("choice needs at least one value, none of them twice")
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
        """Return the values that must be valid for the whole dimension to be.

        Bounds and choices; of whole numbers all that are between, or if those are many the next.
        """
        if self.int_uniform is not None:
            low, high = self.int_uniform
            is_short = high - low <= MAX_LISTED
            return tuple(range(low, high + 1)) if is_short else (low, low + 1, high - 1, high)
        return self.uniform or self.log_uniform or self.choice or ()


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


def checked_space(
    space: Space, baseline: FamilyConfig, where: Callable[[str], str]
) -> dict[str, Dimension]:
    """Return the space, its choices as the family's configuration makes them of what was given.

    ``where`` tells where a dimension was given. Raises InputError that begins with that, for a
    dimension that is no hyperparameter of the family, or takes a value that is not legal, be it
    only beside one of another dimension: the search would end when it comes upon it.
    """
    searchable = searchable_fields(type(baseline))
    checked = {}
    for name, dimension in space.items():
        if name not in searchable:
            raise InputError(
                f"{where(name)}: the family has no hyperparameter {name!r} to search over. "
                f"It has: {', '.join(sorted(searchable))}."
            )
        examples = dimension.examples()
        values = [getattr(_configured({name: v}, baseline, where), name) for v in examples]
        checked[name] = _with_choices(dimension, values, where(name))
        own = getattr(baseline, name)
        if not checked[name].contains(own):
            is_given = name in baseline.model_fields_set
            whose = "the experiment's own: change" if is_given else "the family's default: set"
            raise InputError(
                f"{where(name)}: the value that the search begins with, {own!r}, lies outside "
                f"{dimension.model_dump(exclude_none=True)}; it is {whose} "
                f"config.{name}, or widen the space."
            )
    for pair in combinations(checked, 2):
        for both in product(*(checked[name].examples() for name in pair)):
            _configured(dict(zip(pair, both, strict=True)), baseline, where)
    return checked


def _configured(
    values: Mapping[str, Any], baseline: FamilyConfig, where: Callable[[str], str]
) -> FamilyConfig:
    """Return the family's configuration with values from a space. Raises InputError if illegal."""
    try:
        return type(baseline).model_validate({**baseline.model_dump(), **values})
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        *others, name = values
        beside = "".join(f" beside {other} {values[other]!r}" for other in others)
        raise InputError(
            f"{where(name)}: {values[name]!r}{beside} is not a legal value ({reason})."
        ) from error


def _with_choices(dimension: Dimension, values: Sequence[Any], place: str) -> Dimension:
    if dimension.choice is None:
        return dimension
    try:
        return Dimension(choice=tuple(values))
    except ValidationError as error:
        raise InputError(f"{place}: choice has the same value twice: {values}.") from error


def searchable_fields(config: type[FamilyConfig]) -> set[str]:
    """Names of a family's hyperparameters, without the settings of its features.

    Features are made once per sweep, so what shapes them is not searched over.
    """
    return {
        name
        for name, field in config.model_fields.items()
        if name not in config.FIXED
        and not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
    }
