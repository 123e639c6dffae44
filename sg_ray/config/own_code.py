"""Families and metrics of the user's own in settings: named by their code where one would name one.

``families: [transformer, ./bilstm.py:BiLstm]`` becomes ``families: [transformer, bilstm]`` and
``plugins.families.bilstm: /home/me/bilstm.py:BiLstm``, which is how a sweep notes it for a resume.
Of metrics it also notes what is to be done with each: a report ranks without their code.
"""

import contextlib
import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from sg_ray.config.explain import told
from sg_ray.config.values import Values
from sg_ray.config.yaml_text import Key, Written
from sg_ray.errors import InputError
from sg_ray.models.families import ENTRY_POINTS, FAMILIES, FamilyTable
from sg_ray.plugins import Plugin, is_reference, offered
from sg_ray.setting_types import StrictModel, Text
from sg_ray.statistics.own_metrics import OWN_METRICS, Direction, MetricTable, offered_metric
from sg_ray.sweep_folder import SweepFolder

_FAMILIES = ("plugins", "families")
_METRICS = ("plugins", "metrics")


class MetricSettings(StrictModel):
    """Where a metric of the user's own comes from, and which values of it are good."""

    code: Text
    """``MODULE:NAME`` of an installed package, or ``FILE.py:NAME``."""
    direction: Direction | None = None
    """What a search does with it, as its code says."""


class PluginSettings(StrictModel):
    """Where code that an experiment has from outside of sg-ray comes from, by its name."""

    families: Mapping[str, Text] = Field(default_factory=dict)
    """``MODULE:CLASS`` of an installed package, or ``FILE.py:CLASS``. Written by sg-ray for each
    family that ``families`` names by its code; to be changed where a file has moved."""
    metrics: Mapping[str, MetricSettings] = Field(default_factory=dict)
    """The same of each of ``metrics``, as ``code``, with its ``direction`` (minimise, maximise)."""

    @property
    def directions(self) -> dict[str, Direction]:
        """What is to be done with each metric."""
        return {name: one.direction for name, one in self.metrics.items() if one.direction}


def with_own_code(values: Values) -> Values:
    """Return the values with each family and metric that is named by its code called by its name.

    A file is looked for beside the experiment, if its file names it, and in the working folder.
    Raises InputError, with the place, for code that is not there, that cannot be loaded, or whose
    name is another's.
    """
    return _with_own_metrics(_with_own_families(values))


def _with_own_families(values: Values) -> Values:
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
    if values.is_passed_on:
        return values  # what was begun is whole: a space that it does not name is none
    return _with_own_spaces(values, {**known, **_offered(values)})


def _offered(values: Values) -> dict[str, Plugin]:
    """Return those of the families that installed packages offer under the name that is given.

    One that cannot be loaded is left to those who say where its name was given.
    """
    given = values.content.get("families")
    names = [item for item in given if isinstance(item, str)] if isinstance(given, list) else []
    found = {}
    for name in names:
        with contextlib.suppress(InputError):
            if name in offered(ENTRY_POINTS) and FAMILIES[name].space:
                found[name] = FAMILIES.plugin(name)
    return found


def _with_own_metrics(values: Values) -> Values:
    known: dict[str, Plugin] = {}
    for name, settings in _section(values, _METRICS).items():
        if not isinstance(settings, dict) or not isinstance(settings.get("code"), str):
            continue  # refused with everything that has the wrong form
        key = (*_METRICS, str(name))
        _plug_in(
            values, (*key, "code"), settings["code"], known, called=str(name), table=OWN_METRICS
        )
        found, noted = OWN_METRICS.direction(str(name)), settings.get("direction")
        if noted not in (None, found):
            reason = f"its code is to {found} now. Make it a metric of another name"
            raise InputError(told(values, (*key, "direction"), f"{noted}, but {reason}."))
    given = values.content.get("metrics")
    if isinstance(given, list):
        names = [_metric_named(values, item, known) for item in given]
        values = _with(values, ("metrics",), names)
    noted = {
        name: {"code": plugin.reference, "direction": OWN_METRICS.direction(name)}
        for name, plugin in known.items()
    }
    return _with(values, _METRICS, noted) if noted else values


def _metric_named(values: Values, item: object, known: dict[str, Plugin]) -> object:
    """Return the name of a metric that is given by its code, or that a package offers."""
    if not isinstance(item, str) or item in known:
        return item
    try:
        reference = item if is_reference(item) else offered_metric(item).reference
    except InputError as error:
        raise InputError(told(values, ("metrics",), str(error))) from error
    return _plug_in(values, ("metrics",), reference, known, table=OWN_METRICS)


def _named(values: Values, reference: str, known: dict[str, Plugin]) -> str:
    return _plug_in(values, ("families",), reference, known)


def _plug_in(
    values: Values,
    key: Key,
    reference: str,
    known: dict[str, Plugin],
    *,
    called: str | None = None,
    table: FamilyTable | MetricTable = FAMILIES,
) -> str:
    """Make a family or metric known; return its name, which is ``called`` if that is given."""
    try:
        plugin = Plugin.of(reference, _folders(values, key))
        _refuse_code_of_folder(values, key, plugin, reference)
        name = table.plug_in(plugin)
    except InputError as error:
        way_out = "" if called is None else _way_out(key, reference)
        raise InputError(told(values, key, f"{error}{way_out}")) from error
    if called not in (None, name):
        raise InputError(told(values, key, f"{reference} calls itself {name}. Write that instead."))
    if known.setdefault(name, plugin) != plugin:
        both, kind = f"{known[name].reference} and {reference}", _kind(table)
        raise InputError(told(values, key, f"two {kind} call themselves {name!r}: {both}."))
    return name


def _kind(table: FamilyTable | MetricTable) -> str:
    return "metrics" if table is OWN_METRICS else "families"


def _way_out(key: Key, reference: str) -> str:
    attribute = reference.rpartition(":")[2]
    return f" If it has moved, say where it is: {'.'.join(key)}=FILE.py:{attribute}"


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
    for name, plugin in known.items():
        space, key = FAMILIES[name].space, ("models", name, "space")
        if space and "space" not in _section(values, key[:-1]):
            place = Written(f"the search space that {plugin.reference} brings")
            values = _with(values, key, dict(space))
            values = replace(values, origins={**values.origins, key: place})
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
        if not isinstance(section, dict):
            return values  # it is refused with everything that is no section
    section[key[-1]] = value
    return replace(values, content=content)
