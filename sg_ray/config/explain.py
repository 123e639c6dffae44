"""Validation errors in words: where the value was given, what is wrong, what was perhaps meant."""

import difflib
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from sg_ray.config.values import Key, Values

MAX_LENGTH = 500
"""Of one message: a wrong value may be long."""


def explain(
    error: ValidationError, model: type[BaseModel], values: Values, section: Key = ()
) -> str:
    """Return a line for each problem that ``model`` had with ``section`` of the values."""
    lines = []
    for problem in error.errors(include_url=False):
        inner = tuple(map(str, problem["loc"]))
        key = (*section, *inner)
        reason = _reason(problem, model, inner)
        lines.append(f"{values.where(key)}: {'.'.join(key)}: {reason}"[:MAX_LENGTH])
    return "\n".join(lines)


def _reason(problem: Any, model: type[BaseModel], key: Key) -> str:
    kind = problem["type"]
    if kind == "extra_forbidden":
        return f"unknown key{_suggestion(model, key)}"
    if kind == "missing":
        return str(problem["msg"])
    if kind == "tuple_type":
        message = "Input should be a list, e.g. [a, b]"
    elif kind == "model_type":
        message = "Input should be a section with settings of its own, e.g. data.limit.train=100"
    else:
        message = problem["msg"].removeprefix("Value error, ")
    return f"{message} (got {problem['input']!r})"


def _suggestion(model: type[BaseModel], key: Key) -> str:
    known = _names_in_section(model, key[:-1])
    close = difflib.get_close_matches(key[-1], known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(known)}" if known else ""


def _names_in_section(model: type[BaseModel], section: Key) -> list[str]:
    """Return the settings that a section below ``model`` has; none if it has no fixed ones."""
    annotation: Any = model
    for name in section:
        annotation = _below(annotation, name)
    found = _model_in(annotation)
    return sorted(found.model_fields) if found is not None else []


def _below(annotation: Any, name: str) -> Any:
    """Return the type of ``name`` in a section or mapping of type ``annotation``."""
    if get_origin(annotation) is Mapping:
        return get_args(annotation)[1]
    model = _model_in(annotation)
    field = model.model_fields.get(name) if model is not None else None
    return field.annotation if field is not None else None


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a type stands for: itself, or the one in ``X | None``."""
    candidates = (annotation, *get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
