"""What every setting is checked by: strict types, seeds, counts, and where things lie.

Strict: ``true`` is no number, a number no text, 1.0 no count. YAML's own rules decide what a value
is, nothing is guessed from it afterwards.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError

MAX_SEEDS = 1_000
"""Of one configuration. A typo beyond it would fill the memory with trials that nobody meant."""

NOTHING_GIVEN = "nothing_given"
TOO_MANY_SEEDS = "too_many_seeds"
"""Types of pydantic's errors whose messages say all there is to say."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class StrictModel(BaseModel):
    """Base of sections of settings: frozen, strict, finite, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def checked_place(value: Any, what: str) -> Any:
    """Return ``value``, the place of a ``what`` such as "folder", if it may be one.

    Raises ValueError for none, for an empty text, and for the address of a remote store.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        raise PydanticCustomError(NOTHING_GIVEN, "no {what} given", {"what": what})
    if not isinstance(value, str | Path):
        raise PydanticCustomError(
            "string_type", "Input should be the path of a {what}", {"what": what}
        )
    if "\0" in str(value):
        raise ValueError(f"a {what} has no NUL in its name")
    if _ADDRESS.match(str(value)):
        raise ValueError(f"addresses such as s3:// are not supported; give a {what}")
    return value


def _place_of(what: str) -> BeforeValidator:
    return BeforeValidator(lambda value: checked_place(value, what))


def _with_home(path: Path) -> Path:
    """Return the path with the home folder for a leading ``~``; ``~name`` is a name."""
    return path.expanduser() if path.parts[:1] == ("~",) else path


_Path = Annotated[Path, Strict(False)]
_OwnPath = Annotated[_Path, AfterValidator(_with_home)]

OwnFolder = Annotated[_OwnPath, _place_of("folder")]
"""A folder that sg-ray makes or looks into; ``~`` is the home folder. Not empty."""

MaybeOwnFolder = Annotated[_OwnPath | None, _place_of("folder")]
"""The same, or left out. Not null: a variable that is not set must not mean "left out"."""

MaybeFolder = Annotated[_Path | None, _place_of("folder")]
"""A folder of the user's, kept as it was given, or left out. Neither null nor empty."""

MaybeFile = Annotated[_Path | None, _place_of("file")]
"""A file of the user's, kept as it was given, or left out. Neither null nor empty."""


def _hub_name_or_folder(value: Any) -> Any:
    return checked_place(value, "hub name or folder") if isinstance(value, str) else value


HubNameOrFolder = Annotated[str, BeforeValidator(_hub_name_or_folder)]
"""Of something that Hugging Face's libraries load. Not empty."""


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError(NOTHING_GIVEN, "no value given")
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


def _too_many_seeds() -> PydanticCustomError:
    return PydanticCustomError(TOO_MANY_SEEDS, "at most {limit} seeds", {"limit": f"{MAX_SEEDS:,}"})


def _at_most_max_seeds(value: Any) -> Any:
    if isinstance(value, list | tuple) and len(value) > MAX_SEEDS:
        raise _too_many_seeds()
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
    BeforeValidator(_at_most_max_seeds),
    AfterValidator(_no_repeats),
]
"""At least one seed, each once."""


def _at_most_seeds(number: int) -> int:
    if number > MAX_SEEDS:
        raise _too_many_seeds()
    return number


NumSeeds = Annotated[int, AfterValidator(_at_most_seeds)]

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
"""How many of something that is counted and not made in advance, so that it takes no memory."""
