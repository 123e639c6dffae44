"""Files of ours read back: what is damaged becomes an InputError with file, line and remedy.

A file may be missing, empty or cut, hold NUL bytes, a foreign or a doubled line, be a folder, be
no UTF-8, or come from another version. All of that is said here, once, for every kind of file.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from sg_ray.errors import InputError

Model = TypeVar("Model", bound=BaseModel)

Number = Annotated[float, Field(strict=True)]
"""A measured number: no text or truth value that could be taken for one."""
TimeMs = Annotated[int, Field(ge=0, lt=7_258_118_400_000)]
"""Milliseconds since 1970, before the year 2200: what is beyond is damage, and no date."""


def read_text(path: Path, *, what: str, remedy: str) -> str:
    """Return a UTF-8 file's text.

    ``what`` names what the file should be, ``remedy`` says in sentences what to do if it is not.
    Raises InputError with both.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). {remedy}") from error
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} is not UTF-8"
        raise InputError(f"{path}: not a valid {what} ({reason}). {remedy}") from error


def read_json(path: Path, *, what: str, remedy: str) -> Any:
    """Return the JSON value in a file; see ``read_text``. A key given twice is an error, too."""
    text = read_text(path, what=what, remedy=remedy)
    try:
        return _parse(text)
    except ValueError as error:
        raise InputError(f"{path}: not a valid {what} ({error}). {remedy}") from error


def read_object(path: Path, *, what: str, remedy: str) -> dict[str, Any]:
    """Return the JSON object in a file; see ``read_json``."""
    content = read_json(path, what=what, remedy=remedy)
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a valid {what} (no JSON object). {remedy}")
    return content


def read_model(path: Path, model: type[Model], *, what: str, remedy: str) -> Model:
    """Return a JSON file's content as ``model``; see ``read_json``."""
    content = read_json(path, what=what, remedy=remedy)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        reason = explain_first(error)
        raise InputError(f"{path}: not a valid {what} ({reason}). {remedy}") from error


@dataclass(frozen=True)
class Line:
    """One line of a file of JSON lines: its number (from 1), bytes, and value or problem."""

    number: int
    content: bytes
    value: Any
    problem: str | None

    @property
    def is_whole(self) -> bool:
        """Whether it has its end: a kill or a full disk may have cut the last line off."""
        return self.content.endswith(b"\n")


def json_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a file, those that are no JSON objects with what is wrong with them.

    Raises InputError if the file cannot be read.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                yield json_line(number, line)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}). Mend that, or restore it from a copy."
        ) from error


def json_line(number: int, content: bytes) -> Line:
    """Return a line with its value, or with what is wrong with it."""
    try:
        value = _parse(content.decode("utf-8"))
        if isinstance(value, dict):
            return Line(number, content, value, None)
        problem = "no JSON object"
    except ValueError as error:
        problem = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
    return Line(number, content, None, problem.removeprefix("line 1: "))


def explain_first(error: ValidationError) -> str:
    """Return what is wrong first, in a few words and without the value."""
    return _explain(error.errors(include_input=False, include_url=False)[0])


def _explain(detail: ErrorDetails) -> str:
    place = ".".join(map(str, detail["loc"]))
    if detail["type"] == "missing":
        return f"{place} is missing"
    if detail["type"] == "union_tag_invalid":
        return "its type is unknown: another version of sg-ray wrote it"
    if detail["type"] == "extra_forbidden":
        return f"{place} is unknown: another version of sg-ray wrote it"
    return f"{place}: {detail['msg']}" if place else detail["msg"]


def _parse(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError that names the line, never the text."""
    if not text.strip():
        raise ValueError("it is empty")
    if "\0" in text:
        raise ValueError(f"line {text.count(chr(10), 0, text.index(chr(0))) + 1}: NUL bytes")
    try:
        return json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"key {name!r} is given twice")
    return content
