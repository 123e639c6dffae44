"""What every setting is checked by: strict types, seeds, counts, and where things lie.

Strict: ``true`` is no number, a number no text, 1.0 no count. YAML's own rules decide what a value
is, nothing is guessed from it afterwards.
"""

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

MAX_SEEDS = 1_000
"""Of one configuration. A typo beyond it would fill the memory with trials that nobody meant."""

MAX_NAME_BYTES = 255
"""Of a folder's or file's own name, as Linux has it."""
MAX_PATH_BYTES = 4_000
"""Of a whole path, with room for what sg-ray puts below it."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class SaidInFullError(ValueError):
    """What is wrong with a setting, in words that need no value beside them."""


class NotTextError(ValueError):
    """A number, say, where a text is wanted; quotes would make it one."""


@dataclass(frozen=True)
class Place:
    """Marks a setting that says where something lies: left out perhaps, but never null."""

    what: str


class StrictModel(BaseModel):
    """Base of sections of settings: frozen, strict, finite, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def checked_place(value: Any, what: str) -> Any:
    """Return ``value``, the place of a ``what`` such as "folder", if it may be one.

    Raises ValueError for none, for an empty text, for what no path can be, and for the address of
    a remote store.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        raise SaidInFullError(f"no {what} given")
    if not isinstance(value, str | Path):
        raise NotTextError(f"Input should be the path of a {what}")
    _check_path(str(value), what)
    if _ADDRESS.match(str(value)):
        raise ValueError(f"addresses such as s3:// are not supported; give a {what}")
    return value


def _check_path(path: str, what: str) -> None:
    """Raise ValueError for what the system refuses as a path, whatever there is."""
    if "\0" in path:
        raise ValueError(f"a {what} has no NUL in its name")
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise ValueError(f"a {what}'s name is text, not halves of characters") from error
    if len(encoded) > MAX_PATH_BYTES or max(map(len, encoded.split(b"/"))) > MAX_NAME_BYTES:
        raise SaidInFullError(
            f"too long a name: at most {MAX_NAME_BYTES} bytes between two slashes, and "
            f"{MAX_PATH_BYTES:,} in all"
        )
    try:
        with_home(Path(path))
    except RuntimeError as error:
        raise ValueError("there is no home folder that ~ could stand for: set HOME") from error


def _folder(value: Any) -> Any:
    return checked_place(value, "folder")


def _file(value: Any) -> Any:
    return checked_place(value, "file")


def _hub_name_or_folder(value: Any) -> Any:
    return checked_place(value, "hub name or folder") if isinstance(value, str) else value


def with_home(path: Path) -> Path:
    """Return the path with the home folder for a leading ``~``; ``~name`` is a name."""
    return path.expanduser() if path.parts[:1] == ("~",) else path


_Folder = Annotated[Path, Strict(False), BeforeValidator(_folder)]
_OwnFolder = Annotated[_Folder, AfterValidator(with_home)]
_File = Annotated[Path, Strict(False), BeforeValidator(_file)]

OwnFolder = Annotated[_OwnFolder, Place("folder")]
"""A folder that sg-ray makes or looks into; ``~`` is the home folder. Not empty."""

MaybeOwnFolder = Annotated[_OwnFolder | None, Place("folder")]
"""The same, or left out."""

MaybeFolder = Annotated[_Folder | None, Place("folder")]
"""A folder of the user's, kept as it was given, or left out. Not empty."""

MaybeFile = Annotated[_File | None, Place("file")]
"""A file of the user's, kept as it was given, or left out. Not empty."""

HubNameOrFolder = Annotated[str, BeforeValidator(_hub_name_or_folder)]
"""Of something that Hugging Face's libraries load. Not empty."""


def _not_blank(text: str) -> str:
    if not text.strip():
        raise SaidInFullError("no value given")
    return text


Text = Annotated[str, AfterValidator(_not_blank)]
"""A text that is not empty."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            "a name begins with a letter or a digit and holds only letters, digits, '.', '_' and "
            "'-', at most 100"
        )
    return text


Name = Annotated[Text, AfterValidator(_name)]
"""A name that can be a folder's anywhere."""

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What numpy, scikit-learn and Optuna take as a seed."""


def _not_too_many(value: Any) -> Any:
    """Refuse too many seeds, or too large a number of them, before they are looked at."""
    is_list = isinstance(value, list | tuple)
    if (len(value) if is_list else value if isinstance(value, int) else 0) > MAX_SEEDS:
        raise SaidInFullError(f"at most {MAX_SEEDS:,} seeds")
    return value


def _no_repeats(seeds: tuple[int, ...]) -> tuple[int, ...]:
    repeated = sorted(seed for seed, times in Counter(seeds).items() if times > 1)
    if repeated:
        raise ValueError(f"seeds must differ, repeated: {repeated}")
    return seeds


Seeds = Annotated[
    tuple[Seed, ...],
    Strict(False),
    Field(min_length=1),
    BeforeValidator(_not_too_many),
    AfterValidator(_no_repeats),
]
"""At least one seed, each once."""


NumSeeds = Annotated[int, Field(ge=1, le=MAX_SEEDS), BeforeValidator(_not_too_many)]
NoneOrMoreSeeds = Annotated[int, Field(ge=0, le=MAX_SEEDS), BeforeValidator(_not_too_many)]

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
"""How many of something that is counted and not made in advance, so that it takes no memory."""
