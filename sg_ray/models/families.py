"""Every model family, by name. A new one is one file and one row here, or comes from outside."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sg_ray.code_version import code_version
from sg_ray.errors import InputError
from sg_ray.files import content_hash
from sg_ray.models.family import (
    EstimatorFamily,
    Family,
    FamilyConfig,
    NeuralConfig,
    NeuralFamily,
)
from sg_ray.plugins import Plugin, entry_point, offered

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""A family's name is a folder's, a key in settings and a column's."""

ENTRY_POINTS = "sg_ray.families"
"""The group in which an installed package offers families: ``name = "module:Class"``."""

BUILT_IN: Mapping[str, Plugin] = {
    "lexical": Plugin("sg_ray.models.lexical", "Lexical"),
    "transformer": Plugin("sg_ray.models.transformer", "Transformer"),
    "gnn": Plugin("sg_ray.models.gnn", "Gnn"),
    "fusion": Plugin("sg_ray.models.fusion", "Fusion"),
}


class FamilyTable(Mapping[str, Family[Any]]):
    """The families that this process knows; each is imported when it is first asked for.

    Built in are four. What installed packages offer is found by its name; what a user names by
    module or file is put in by ``plug_in``, and forgotten with the process.
    """

    def __init__(self) -> None:
        self._plugged: dict[str, Plugin] = {}
        self._loaded: dict[Plugin, Family[Any]] = {}

    def __getitem__(self, name: str) -> Family[Any]:
        plugin = self.plugin(name)
        if plugin not in self._loaded:
            self._loaded[plugin] = _class_of(plugin)()
        return self._loaded[plugin]

    def __contains__(self, name: object) -> bool:
        return name in BUILT_IN or name in self._plugged or name in offered(ENTRY_POINTS)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*BUILT_IN, *offered(ENTRY_POINTS), *self._plugged]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def plugin(self, name: str) -> Plugin:
        """Return where a family comes from. Raises KeyError for a name that is not known."""
        from_package = entry_point(ENTRY_POINTS, name)
        if name in BUILT_IN:
            if from_package is not None:
                raise _taken(from_package, name)
            return BUILT_IN[name]
        found = self._plugged.get(name, from_package)
        if found is None:
            raise KeyError(name)
        return found

    def plug_in(self, plugin: Plugin) -> str:
        """Make a family from outside known in this process; return the name it gives itself.

        One that was plugged in under that name is replaced: an edited file is read anew. Raises
        InputError if it cannot be loaded, is no family, or has a name that is taken.
        """
        name = _class_of(plugin).name
        from_package = entry_point(ENTRY_POINTS, name)
        if name in BUILT_IN or from_package not in (None, plugin):
            raise _taken(plugin, name)
        self._plugged[name] = plugin
        return name

    def plugged_in(self, names: Iterable[str]) -> tuple[Plugin, ...]:
        """Return those of ``names``, and of what they build on, that come from outside."""
        wanted = {n: None for name in names for n in (name, *self[name].branches)}
        return tuple(self.plugin(name) for name in wanted if name not in BUILT_IN)


FAMILIES = FamilyTable()


def get_family(name: str) -> Family[Any]:
    """Return the family called ``name``; raises InputError that lists the known names."""
    try:
        return FAMILIES[name]
    except KeyError:
        raise InputError(
            f"families: unknown family {name!r}. Known: {', '.join(FAMILIES)}. One of your own is "
            "named by its module or file: my_package.bilstm:BiLstm or ./bilstm.py:BiLstm."
        ) from None


def plug_in(reference: str) -> str:
    """Make a family of your own known in this process; return its name.

    ``reference`` is MODULE:CLASS or FILE.py:CLASS. Experiments and commands do so for what they
    name; this is for a notebook, or before MLflow loads a model of such a family.
    """
    return FAMILIES.plug_in(Plugin.of(reference))


def builds_on(name: str) -> tuple[str, ...]:
    """Return the families that one builds on; none if its code is not here, as in a report."""
    family = FAMILIES.get(name)
    return () if family is None else family.branches


def family_code_version(name: str) -> str:
    """Return the version of the code that decides a family's numbers.

    That is the package's; for a family from outside, or one that builds on such, ``+`` and a hash
    of the user's code follow.
    """
    own = [FAMILIES.plugin(n) for n in (name, *get_family(name).branches) if n not in BUILT_IN]
    return f"{code_version()}+{content_hash([p.version for p in own])}" if own else code_version()


def _class_of(plugin: Plugin) -> type[Family[Any]]:
    """Return the class, once it is sure to be a whole family."""
    found = plugin.load()
    if not (isinstance(found, type) and issubclass(found, NeuralFamily | EstimatorFamily)):
        raise InputError(
            f"{plugin.reference}: is no family. Name a class that derives from NeuralFamily or "
            "EstimatorFamily of sg_ray.models.family."
        )
    wanted = NeuralConfig if issubclass(found, NeuralFamily) else FamilyConfig
    lacks = sorted(found.__abstractmethods__)
    lacks += (
        []
        if _is_class(getattr(found, "Config", None), wanted)
        else [f"Config, a class that derives from {wanted.__name__}"]
    )
    lacks += (
        []
        if _NAME.fullmatch(str(getattr(found, "name", "")))
        else ["name, of lower-case letters, digits and _"]
    )
    if lacks:
        raise InputError(f"{plugin.reference}: lacks {'; '.join(lacks)}.")
    return found


def _is_class(found: object, kind: type) -> bool:
    return isinstance(found, type) and issubclass(found, kind)


def _taken(plugin: Plugin, name: str) -> InputError:
    return InputError(
        f"{plugin.reference}: there is another family called {name!r}. Give its class another name."
    )
