"""Settings as they were written: plain values, and where each of them was given."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from sg_ray.errors import InputError

Key = tuple[str, ...]


@dataclass(frozen=True)
class Values:
    """The content of an experiment file, with what the command line changed.

    ``origins`` maps keys to the place that gave them: ``FILE:LINE``, or an override.
    """

    path: Path
    content: dict[str, Any]
    origins: Mapping[Key, str]

    def where(self, key: Key) -> str:
        """Return where a key, or the section around it, was given; the file if nowhere."""
        sections = (key[:length] for length in range(len(key), 0, -1))
        return next((self.origins[s] for s in sections if s in self.origins), str(self.path))

    def overridden(self, override: str) -> "Values":
        """Return the values changed by ``key=value``; raises InputError if it is no such thing.

        A key within a search space that is a file changes what the file holds.
        """
        key, value = _parse(override)
        values = self.with_spaces() if _is_in_space(key) else self
        return values._changed(key, value, override)

    def _changed(self, key: Key, value: Any, override: str) -> "Values":
        content = copy.deepcopy(self.content)
        sections = [key[:length] for length in range(1, len(key))]
        section = content
        for path in sections:
            if section.get(path[-1]) is None:
                section[path[-1]] = {}
            section = section[path[-1]]
            if not isinstance(section, dict):
                raise InputError(f"{override!r}: {'.'.join(path)} is {section!r}, not a section.")
        section[key[-1]] = value
        origins = {k: origin for k, origin in self.origins.items() if k[: len(key)] != key}
        new = [path for path in (*sections, key) if path not in origins]
        origins |= dict.fromkeys(new, repr(override))
        return replace(self, content=content, origins=origins)

    def with_spaces(self) -> "Values":
        """Return the values with what the file holds in place of each ``space: FILE``.

        FILE is relative to the experiment's folder.
        """
        models = self.content.get("models")
        if not isinstance(models, dict):
            return self
        content, origins = copy.deepcopy(self.content), dict(self.origins)
        for name, settings in models.items():
            if isinstance(settings, dict) and isinstance(settings.get("space"), str):
                space = read_values(self.path.parent / settings["space"])
                content["models"][name]["space"] = space.content
                prefix = ("models", str(name), "space")
                origins |= {(*prefix, *key): origin for key, origin in space.origins.items()}
        return replace(self, content=content, origins=origins)


def _is_in_space(key: Key) -> bool:
    return len(key) > 3 and (key[0], key[2]) == ("models", "space")


def read_values(path: Path) -> Values:
    """Read a YAML file that holds a mapping. Raises InputError for anything else."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file. Give the path of an experiment YAML.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
    try:
        lines = _lines(yaml.compose(text, Loader=yaml.SafeLoader), path)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise InputError(f"{path}: must hold a mapping of settings, found {found}.")
    return Values(path, content, {key: f"{path}:{line}" for key, line in lines.items()})


def _lines(root: yaml.Node | None, path: Path) -> dict[Key, int]:
    """Return the line of every key. Raises InputError for a key that is given twice."""
    lines: dict[Key, int] = {}
    for key, line in _keys(root, ()):
        if key in lines:
            raise InputError(
                f"{path}:{line}: {'.'.join(key)} is given twice (first on line {lines[key]})."
            )
        lines[key] = line
    return lines


def _keys(node: yaml.Node | None, section: Key) -> Iterable[tuple[Key, int]]:
    if not isinstance(node, yaml.MappingNode):
        return
    for name_node, value_node in node.value:
        key = (*section, str(name_node.value))
        yield key, name_node.start_mark.line + 1
        yield from _keys(value_node, key)


def _parse(override: str) -> tuple[Key, Any]:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError(
            f"{override!r}: an override is written key=value, e.g. data.limit.train=100."
        )
    try:
        return tuple(key.split(".")), yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{override!r}: the value is not valid YAML.") from error
