"""The experiment that a command line names, and the values of its flags."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sg_ray.api.default_experiment import USUAL, default_experiment
from sg_ray.api.places import resumed
from sg_ray.commands import from_here
from sg_ray.config import Experiment, Given, load_experiment
from sg_ray.config.yaml_text import read_value
from sg_ray.errors import InputError
from sg_ray.setting_types import Seed, Text, checked_place


def named_experiment(
    settings: Sequence[str],
    default: Path | None,
    resume: str | None = None,
    given: Sequence[Given] = (),
) -> Experiment:
    """Read the experiment that the command line names: a file, overrides, or a sweep to resume.

    ``given`` are settings from flags; overrides win over them.
    """
    file, overrides = split_settings(settings)
    if resume is None:
        return load_experiment(file or default or told_default(), overrides, given)
    if file is not None:
        raise InputError(
            f"{resume}: a sweep that was begun takes its experiment from its folder, not {file}"
        )
    return resumed(resume, overrides, given)


def told_default() -> Path:
    """Return the default experiment; say which it is unless it is one of the working folder."""
    path = default_experiment()
    if path != USUAL:
        print(f"experiment: {path.stem}, the default one of sg-ray ({from_here(path)})")
    return path


def split_settings(settings: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the experiment's file, if one is named, and the overrides.

    Raises InputError for a second file, and for one without a name.
    """
    files = [text for text in settings if not _is_override(text)]
    if len(files) > 1:
        raise InputError(
            f"give one experiment file, not {len(files)}: {' '.join(files)} (a setting is written "
            "key=value, without blanks)"
        )
    if files == [""]:
        raise InputError("'': no experiment file given. Give its path, or leave it out.")
    return (Path(files[0]) if files else None), [t for t in settings if _is_override(t)]


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
        value, _ = read_value(text, f"{name} {text}".rstrip())
        if value is None:
            raise InputError(f"{name} {text}".rstrip() + ": no value given.")
        return value

    return read


def _whole_number(name: str, text: str) -> int:
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


def _is_override(text: str) -> bool:
    """Whether it is ``key=value``; a path may hold = as well, but no key holds a slash."""
    key, separator, _ = text.partition("=")
    return bool(separator) and "/" not in key
