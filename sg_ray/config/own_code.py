"""Families of the user's own in settings: named by their code where one would name a family.

``families: [transformer, ./bilstm.py:BiLstm]`` becomes ``families: [transformer, bilstm]`` and
``plugins.families.bilstm: /home/me/bilstm.py:BiLstm``, which is how a sweep notes it for a resume.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from sg_ray.config.explain import told
from sg_ray.config.values import Values
from sg_ray.config.yaml_text import Key
from sg_ray.errors import InputError
from sg_ray.models.families import FAMILIES
from sg_ray.plugins import Plugin, is_reference
from sg_ray.setting_types import StrictModel, Text
from sg_ray.sweep_folder import SweepFolder

_FAMILIES = ("plugins", "families")


class PluginSettings(StrictModel):
    """Where code that an experiment has from outside of sg-ray comes from, by its name."""

    families: Mapping[str, Text] = Field(default_factory=dict)
    """``MODULE:CLASS`` of an installed package, or ``FILE.py:CLASS``. Written by sg-ray for each
    family that ``families`` names by its code; to be changed where a file has moved."""


def with_own_code(values: Values) -> Values:
    """Return the values with each family that is named by its code called by its own name.

    A file is looked for beside the experiment, if its file names it, and in the working folder.
    Raises InputError, with the place, for code that is not there, that cannot be loaded, or whose
    name is another's.
    """
    known: dict[str, Plugin] = {}
    for name, reference in _section(values, _FAMILIES).items():
        if isinstance(reference, str):
            _plug_in(values, (*_FAMILIES, str(name)), reference, known, called=str(name))
    given = values.content.get("families")
    if isinstance(given, list):
        names = [_named(values, item, known) if is_reference(item) else item for item in given]
        values = _with(values, ("families",), names)
    if known:
        references = {name: plugin.reference for name, plugin in known.items()}
        values = _with(values, _FAMILIES, references)
    return _with_own_spaces(values, known)


def _named(values: Values, reference: str, known: dict[str, Plugin]) -> str:
    return _plug_in(values, ("families",), reference, known)


def _plug_in(
    values: Values,
    key: Key,
    reference: str,
    known: dict[str, Plugin],
    *,
    called: str | None = None,
) -> str:
    """Make a family known; return its name, which is ``called`` if that is given."""
    try:
        plugin = Plugin.of(reference, _folders(values, key))
        _refuse_code_of_folder(values, key, plugin, reference)
        name = FAMILIES.plug_in(plugin)
    except InputError as error:
        raise InputError(told(values, key, f"{error}{_way_out(called, reference)}")) from error
    if called not in (None, name):
        raise InputError(told(values, key, f"{reference} calls itself {name}. Write that instead."))
    if known.setdefault(name, plugin) != plugin:
        both = f"{known[name].reference} and {reference}"
        raise InputError(told(values, key, f"two families call themselves {name!r}: {both}."))
    return name


def _way_out(called: str | None, reference: str) -> str:
    if called is None:
        return ""
    attribute = reference.rpartition(":")[2]
    return f" If it has moved, say where it is: plugins.families.{called}=FILE.py:{attribute}"


def _folders(values: Values, key: Key) -> Sequence[Path]:
    """Return where relative files are looked for, first to last."""
    beside, here = values.path.parent, Path.cwd()
    return (beside, here) if _is_in_file(values, key) else (here, beside)


def _is_in_file(values: Values, key: Key) -> bool:
    """Whether it was given by the experiment's file, and not by the command line."""
    return values.where(key).startswith(str(values.path))


def _refuse_code_of_folder(values: Values, key: Key, plugin: Plugin, reference: str) -> None:
    """Raise InputError for code that came along with the sweep that names it.

    The folder of a sweep is passed on, and going on with it must not run what somebody put there.
    """
    folder = SweepFolder(values.path.parent.resolve())
    is_begun = folder.events.exists() or folder.records.exists()
    if not (values.is_passed_on or is_begun):
        return
    is_relative = plugin.source is not None and not Path(reference.rpartition(":")[0]).is_absolute()
    lies_there = any(place.is_relative_to(folder.path) for place in plugin.places)
    if lies_there or (is_relative and _is_in_file(values, key)):
        raise InputError(
            f"{reference} came with a sweep's folder, and code is never loaded from one. Look at "
            "it, and name a copy of your own."
        )


def _with_own_spaces(values: Values, known: Mapping[str, Plugin]) -> Values:
    """Return the values with the search space that a family brings, where none is given."""
    for name in known:
        space = FAMILIES[name].space
        settings = _section(values, ("models", name))
        if space and "space" not in settings:
            values = _with(values, ("models", name, "space"), dict(space))
    return values


def _section(values: Values, key: Key) -> Mapping[str, Any]:
    found = values.at(key)
    return found if isinstance(found, dict) else {}


def _with(values: Values, key: Key, value: Any) -> Values:
    """Return the values with one changed that keeps the place where it was given."""
    content = copy.deepcopy(values.content)
    section: Any = content
    for name in key[:-1]:
        section = section.setdefault(name, {})
    if isinstance(section, dict):  # else it is refused with everything that is no section
        section[key[-1]] = value
    return replace(values, content=content)
