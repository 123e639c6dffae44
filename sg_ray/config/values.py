"""Settings as they were written: plain values, and where each of them was given."""

import copy
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sg_ray.config.yaml_text import MAX_DEPTH, Key, Written, read_value, read_yaml
from sg_ray.errors import InputError
from sg_ray.plugins import offered, offered_file, package_file

SPACES = "sg_ray.spaces"
"""The group in which an installed package offers search spaces: ``name = "package:file.yaml"``."""

MAX_SHOWN = 200
"""Characters of an override in a message."""


@dataclass(frozen=True)
class Given:
    """A setting given as a value, by a flag or by a caller: never printed and parsed again."""

    key: str
    value: Any
    place: str
    """What the user wrote, e.g. ``--epochs 3``."""

    @property
    def origin(self) -> Written:
        """Where the value was given."""
        return Written(self.place)


@dataclass(frozen=True)
class Override:
    """A setting given as ``key=value``, its value read as YAML."""

    text: str
    key: str
    value: Any
    origin: Written


@dataclass(frozen=True)
class Values:
    """The content of an experiment file, with what the command line changed.

    ``origins`` maps keys to the place that gave them: ``FILE:LINE``, a flag or an override.
    """

    path: Path
    content: dict[str, Any]
    origins: Mapping[Key, Written]
    is_passed_on: bool = False
    """Whether the file is one of a sweep or training to go on with, whoever put it there."""

    def where(self, key: Key) -> str:
        """Return where a key, or the section around it, was given; the file if nowhere."""
        sections = (key[:length] for length in range(len(key), 0, -1))
        return next((self.origins[s].place for s in sections if s in self.origins), str(self.path))

    def quoted(self, key: Key) -> str | None:
        """Return how the plain value of ``key`` is written as text; None if it was not plain."""
        origin = self.origins.get(key)
        if origin is None or not origin.text:
            return None
        if origin.place == repr(f"{'.'.join(key)}={origin.text}"):
            return f"{'.'.join(key)}={_in_quotes(origin.text)}"
        return f'{key[-1]}: "{origin.text}"'

    def is_empty(self, key: Key) -> bool:
        """Whether the key was given with nothing behind it, and nothing was put there since."""
        origin = self.origins.get(key)
        return origin is not None and origin.text == "" and self.at(key) is None

    @property
    def null_keys(self) -> Iterator[Key]:
        """The keys that were given null, or nothing."""
        return (key for key in self.origins if self.at(key) is None)

    def given(self, setting: Given | Override) -> "Values":
        """Return the values with one setting changed. Raises InputError if its key cannot be.

        A key within a search space that is a file changes what the file holds.
        """
        key = tuple(setting.key.split("."))
        if len(key) > MAX_DEPTH:
            raise InputError(f"{setting.origin.place}: no setting lies that deep.")
        values = self.with_spaces() if _is_in_space(key) else self
        return values._changed(key, setting.value, setting.origin)

    def at(self, key: Key) -> Any:
        """Return the value of a key; None if there is none."""
        value: Any = self.content
        for name in key:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def _changed(self, key: Key, value: Any, origin: Written) -> "Values":
        content = copy.deepcopy(self.content)
        sections = [key[:length] for length in range(1, len(key))]
        section = content
        for path in sections:
            if section.get(path[-1]) is None:
                section[path[-1]] = {}
            section = section[path[-1]]
            if not isinstance(section, dict):
                raise InputError(f"{origin.place}: {'.'.join(path)} is {section!r}, not a section.")
        section[key[-1]] = value
        origins = {k: known for k, known in self.origins.items() if k[: len(key)] != key}
        new = [path for path in sections if path not in origins]
        origins |= dict.fromkeys(new, Written(origin.place)) | {key: origin}
        return replace(self, content=content, origins=origins)

    def with_spaces(self) -> "Values":
        """Return the values with what the file holds in place of each ``space: FILE``.

        FILE is relative to the experiment's folder, ``PACKAGE:FILE`` of an installed package, or a
        name under which such a package offers one. Raises InputError if there is no such file.
        """
        models = self.content.get("models")
        if not isinstance(models, dict):
            return self
        content, origins = copy.deepcopy(self.content), dict(self.origins)
        for name, settings in models.items():
            if isinstance(settings, dict) and isinstance(settings.get("space"), str):
                prefix = ("models", name, "space")
                space = self._space(prefix, settings["space"])
                content["models"][name]["space"] = space.content
                origins |= {(*prefix, *key): origin for key, origin in space.origins.items()}
        return replace(self, content=content, origins=origins)

    def _space(self, key: Key, name: str) -> "Values":
        path = self.path.parent / name
        if not path.is_file():
            try:
                path = offered_file(SPACES, name) or package_file(name) or path
            except InputError as error:
                raise InputError(f"{self.where(key)}: {'.'.join(key)}: {error}") from error
        if not path.is_file():
            problem = "is no file" if path.exists() else "does not exist"
            what = f"{name} {problem}" if name.strip() else "no file given"
            names = ", ".join(offered(SPACES))
            by_name = f", and those that packages offer by name: {names}" if names else ""
            raise InputError(
                f"{self.where(key)}: {'.'.join(key)}: {what} (search spaces are looked for beside "
                f"the experiment, and as PACKAGE:FILE in an installed package{by_name})."
            )
        return read_values(path)


def _is_in_space(key: Key) -> bool:
    return len(key) > 3 and (key[0], key[2]) == ("models", "space")


def read_values(path: Path) -> Values:
    """Read a YAML file that holds a mapping. Raises InputError for anything else."""
    try:
        text = _decoded(path.read_bytes(), path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file. Give the path of an experiment YAML.") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: cannot be read ({reason}).") from error
    document = read_yaml(text, lambda line: f"{path}:{line}")
    content = document.content
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise InputError(f"{path}: must hold a mapping of settings, found {found}.")
    return Values(path, content, document.origins)


def _decoded(content: bytes, path: Path) -> str:
    """Return the text of a file. Raises InputError that names the line that is not UTF-8."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise InputError(
            f"{path}:{line}: byte 0x{byte:02x} is not UTF-8. Save the file as UTF-8."
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_override(text: str) -> Override:
    """Read ``key=value``; raises InputError if it is no such thing, or no single YAML value."""
    key, separator, written = text.partition("=")
    if not separator or not all(key.split(".")):
        raise InputError(f"{text!r}: an override is written key=value, e.g. data.limit.train=100.")
    place = repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")
    try:
        value, origin = read_value(written, place)
    except InputError as error:
        raise InputError(
            f"{error} If it is meant as text, quote it: {key}={_in_quotes(written[:MAX_SHOWN])}"
        ) from error
    return Override(text, key, value, origin)


def _in_quotes(text: str) -> str:
    """Return ``text`` as YAML's quoted text, for a shell."""
    return shlex.quote(json.dumps(text, ensure_ascii=not text.isprintable()))
