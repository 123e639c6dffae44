"""Validation errors in words: where the value was given, what is wrong, what was perhaps meant."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from sg_ray.config.values import Values
from sg_ray.config.yaml_text import Key
from sg_ray.setting_types import NotTextError, Place, SaidInFullError

MAX_LENGTH = 500
"""Of one message: a wrong value may be long."""
MAX_PROBLEMS = 20
"""Told at once."""

_MESSAGES = {
    "tuple_type": "Input should be a list, e.g. [a, b]",
    "dict_type": "Input should be a section with settings of its own",
    "mapping_type": "Input should be a section with settings of its own",
    "model_type": "Input should be a section with settings of its own, e.g. data.limit.train=100",
    "model_attributes_type": (
        "Input should be a section with settings of its own, e.g. data.limit.train=100"
    ),
    "too_short": "Input should hold at least one value",
    "bool_type": "Input should be true or false",
}


def explain(
    error: ValidationError, model: type[BaseModel], values: Values, section: Key = ()
) -> str:
    """Return a line for each problem that ``model`` had with ``section`` of the values."""
    problems = error.errors(include_url=False)
    lines = []
    for problem in problems:
        inner = tuple(map(str, problem["loc"]))
        if _is_short_of_others(problem, problems) or _stands_in(problem, problems, values, section):
            continue
        line = told(values, (*section, *inner), _reason(problem, model, inner, values, section))
        lines.append(line[:MAX_LENGTH])
    if len(lines) > MAX_PROBLEMS:
        lines[MAX_PROBLEMS:] = [f"and {len(lines) - MAX_PROBLEMS:,} more"]
    return "\n".join(lines)


def told(values: Values, key: Key, reason: str) -> str:
    """Return the line that tells what is wrong with a key, and where it was given."""
    place, name = values.where(key), ".".join(key)
    said_already = values.is_empty(key) and place == repr(f"{name}=")
    return f"{place}: {reason}" if said_already else f"{place}: {name}: {reason}"


def _is_short_of_others(problem: Any, problems: Sequence[Any]) -> bool:
    """Whether a list is too short only because what it holds is wrong."""
    place = problem["loc"]
    return problem["type"] == "too_short" and any(
        len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in problems
    )


def _stands_in(problem: Any, problems: Sequence[Any], values: Values, section: Key) -> bool:
    """Whether the value was given for another setting, which is told, and only handed on here."""
    same = [o for o in problems if (o["msg"], o["input"]) == (problem["msg"], problem["input"])]
    keys = [(*section, *map(str, other["loc"])) for other in same]
    own = (*section, *map(str, problem["loc"]))
    was_given = own in values.origins or own[:-1] in values.origins
    return not was_given and any(key in values.origins for key in keys)


def _reason(problem: Any, model: type[BaseModel], inner: Key, values: Values, section: Key) -> str:
    kind, given, key = problem["type"], problem["input"], (*section, *inner)
    if kind == "extra_forbidden":
        return f"unknown key{_suggestion(model, inner)}"
    own = problem.get("ctx", {}).get("error")
    if isinstance(own, SaidInFullError):
        return str(own)
    if kind == "missing":
        return str(problem["msg"])
    if values.is_empty(key):
        return "no value given"
    message = _MESSAGES.get(kind, problem["msg"].removeprefix("Value error, "))
    is_no_text = kind == "string_type" or isinstance(own, NotTextError)
    return f"{message} (got {_shown(given)}){_hint(kind, given, is_no_text, values.quoted(key))}"


def _hint(kind: str, given: Any, is_no_text: bool, quoted: str | None) -> str:
    if is_no_text and quoted is not None:
        return f"; quote it: {quoted}"
    if kind == "int_type" and isinstance(given, float) and given.is_integer():
        return "; write it without a point or an exponent"
    return ""


def _shown(given: Any) -> str:
    try:
        return repr(given)
    except ValueError:  # more digits than Python prints
        return "a number of very many digits"


def _suggestion(model: type[BaseModel], key: Key) -> str:
    known = _names_in_section(model, key[:-1])
    close = difflib.get_close_matches(key[-1], known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(known)}" if known else ""


def wanted_place(model: type[BaseModel], key: Key) -> str | None:
    """Return what a setting says the place of, e.g. "folder"; None if it is no place."""
    section = _section(model, key[:-1])
    field = None if section is None else section.model_fields.get(key[-1])
    marks = [] if field is None else field.metadata
    return next((mark.what for mark in marks if isinstance(mark, Place)), None)


def _names_in_section(model: type[BaseModel], section: Key) -> list[str]:
    """Return the settings that a section below ``model`` has; none if it has no fixed ones."""
    found = _section(model, section)
    return sorted(found.model_fields) if found is not None else []


def _section(model: type[BaseModel], section: Key) -> type[BaseModel] | None:
    annotation: Any = model
    for name in section:
        annotation = _below(annotation, name)
    return _model_in(annotation)


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
