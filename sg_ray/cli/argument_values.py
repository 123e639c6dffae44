"""The values of a command line's flags, read one by one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sg_ray.errors import InputError
from sg_ray.setting_types import Seed, Text, checked_place


def folder_argument(name: str) -> Callable[[str], Path]:
    """Return the reader of the folder that argument ``name`` gives; see ``checked_place``."""
    return lambda text: Path(_checked(name, text, lambda: checked_place(text, "folder")))


def file_argument(name: str) -> Callable[[str], Path]:
    """Return the reader of the file that argument ``name`` gives; see ``checked_place``."""
    return lambda text: Path(_checked(name, text, lambda: checked_place(text, "file")))


def new_file_argument(name: str) -> Callable[[str], Path]:
    """Return the reader of the file to write that argument ``name`` gives: no folder."""

    def read(text: str) -> Path:
        if checked_place(text, "file") and Path(text).is_dir():
            raise ValueError("is a folder; name a file in it")
        return Path(text)

    return lambda text: Path(_checked(name, text, lambda: read(text)))


def text_argument(name: str) -> Callable[[str], str]:
    """Return the reader of the text that argument ``name`` gives: anything but an empty one."""
    text_of = TypeAdapter(Text).validate_python
    return lambda text: str(_checked(name, text, lambda: text_of(text)))


def seed_argument(name: str) -> Callable[[str], int]:
    """Return the reader of the seed that argument ``name`` gives, by the rule for every seed."""
    seed_of = TypeAdapter(Seed).validate_python
    return lambda text: int(_checked(name, text, lambda: seed_of(_whole_number(name, text))))


def count_argument(name: str, kind: Any = int) -> Callable[[str], int]:
    """Return the reader of the whole number, of a ``kind``, that argument ``name`` gives."""
    count_of = TypeAdapter(kind).validate_python
    return lambda text: int(_checked(name, text, lambda: count_of(_whole_number(name, text))))


def value_argument(name: str) -> Callable[[str], Any]:
    """Return the reader of the value of a setting that argument ``name`` gives, as YAML has it."""

    def read(text: str) -> Any:
        from sg_ray.config.yaml_text import read_value  # imports torch, as all of config does

        value, _ = read_value(text, f"{name} {text}".rstrip())
        if value is None:
            raise InputError(f"{name} {text}".rstrip() + ": no value given.")
        return value

    return read


def _whole_number(name: str, text: str) -> int:
    from sg_ray.config.yaml_text import read_value

    value, _ = read_value(text, f"{name} {text}")
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("Input should be a whole number")
    return value


def _checked(name: str, text: str, read: Callable[[], Any]) -> Any:
    """Return what ``read`` makes of an argument; InputError that names it for ValueError."""
    try:
        return read()
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
    except ValueError as error:
        reason = str(error)
    raise InputError(f"{name} {text}".rstrip() + f": {reason}.")
