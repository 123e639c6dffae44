"""YAML 1.2 in and out: the core schema and nothing beyond it, with the line of every key.

So ``1e-3`` is a number, ``017`` is seventeen, and ``yes``, ``1:30``, ``1_000`` and dates are text.
"""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.representer import SafeRepresenter
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.tag import Tag

from sg_ray.errors import InputError

Key = tuple[str, ...]

MAX_DEPTH = 30
MAX_VALUES = 100_000
"""Aliases count each time: a few lines of them can stand for more than any memory holds."""
MAX_DIGITS = 300

_TAGS = "tag:yaml.org,2002:"
_CORE_SCHEMA = {
    "null": re.compile(r"~|null|Null|NULL|"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    "float": re.compile(
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    ),
    "str": re.compile(r".*", re.DOTALL),
}
"""YAML 1.2.2, section 10.3.2. The reader's own table knows dates and underscores as well."""


@dataclass(frozen=True)
class Written:
    """Where a value was written, and how: ``text`` of a plain scalar, "" where nothing stands."""

    place: str
    text: str | None = None


@dataclass(frozen=True)
class Document:
    """What a text holds, and where the value of each key was written."""

    content: Any
    origins: dict[Key, Written] = field(default_factory=dict)


class _CoreResolver(VersionedResolver):
    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is not ScalarNode or not implicit[0]:
            return super().resolve(kind, value, (False, True))
        kinds = (kind for kind, pattern in _CORE_SCHEMA.items() if pattern.fullmatch(value))
        return Tag(suffix=_TAGS + next(kinds))


_BOOLEANS_OF_1_1 = frozenset({"y", "n", "yes", "no", "on", "off"})


class _Representer(SafeRepresenter):
    def represent_float(self, data: Any) -> ScalarNode:
        """Write ``1.0e-05``, which readers of YAML 1.1 take for a number as well."""
        text = repr(data)
        if "e" in text and "." not in text:
            return self.represent_scalar(f"{_TAGS}float", text.replace("e", ".0e"))
        return super().represent_float(data)

    def represent_str(self, data: str) -> ScalarNode:
        """Write ``'off'``, which readers of YAML 1.1 else take for false."""
        style = "'" if data.lower() in _BOOLEANS_OF_1_1 else None
        return self.represent_scalar(f"{_TAGS}str", data, style=style)


_Representer.add_representer(float, _Representer.represent_float)
_Representer.add_representer(str, _Representer.represent_str)


def read_yaml(text: str, place: Callable[[int], str]) -> Document:
    """Return what ``text`` holds; ``place`` names a line of it, counted from 1.

    Raises InputError for text that is not YAML, a key that is given twice or is no text, a tag
    that is not of the core schema, and for more than MAX_VALUES values.
    """
    reader = _Reader(place)
    root = reader.compose(text)
    return Document(None if root is None else reader.value(root, ()), reader.origins)


def read_value(text: str, place: str) -> tuple[Any, Written]:
    """Return the value that a command line gives, and how it was written.

    Raises InputError as ``read_yaml`` does, for a comment, which would cut off what follows, and
    for text of which YAML keeps only a part.
    """
    reader = _Reader(lambda _: place)
    root = reader.compose(text)
    rest = text if root is None else text[root.end_mark.index :]
    if "#" in rest:
        raise InputError(f"{place}: # begins a comment in YAML, so that the rest would be lost.")
    if root is None:
        return None, Written(place, "")
    value = reader.value(root, ())
    plain, is_tagged = _plain_text(root), text.lstrip().startswith("!")
    if isinstance(value, str) and plain is not None and plain != text and not is_tagged:
        raise InputError(
            f"{place}: YAML reads {value!r}: blanks around it, line breaks and such are lost."
        )
    return value, Written(place, plain if isinstance(root, ScalarNode) else text)


def write_yaml(content: Any) -> str:
    """Return ``content``, of mappings, lists and plain values, as ASCII text in YAML 1.2."""
    yaml = _yaml()
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.allow_unicode = False
    yaml.width = 2**31
    stream = io.StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Resolver = _CoreResolver
    yaml.max_depth = MAX_DEPTH
    return yaml


class _Reader:
    """Makes plain values of one text, and notes where each key's value was written."""

    def __init__(self, place: Callable[[int], str]) -> None:
        self._place = place
        self._num_values = 0
        self.origins: dict[Key, Written] = {}

    def compose(self, text: str) -> Node | None:
        """Return the tree of the only document; None if there is nothing."""
        try:
            root: Node | None = _yaml().compose(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = self._place(1 if mark is None else mark.line + 1)
            problem = str(error.problem).partition(", if necessary")[0]
            raise InputError(f"{where}: not valid YAML: {problem}.") from error
        except ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise InputError(
                f"{self._place(line)}: not valid YAML: a control character or half of one "
                f"(U+{ord(text[error.position]):04X}). Take it out, or write it as an escape in "
                'double quotes, such as "\\t".'
            ) from error
        except YAMLError as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{self._place(1)}: not valid YAML: {reason}.") from error
        return root

    def value(self, node: Node, key: Key) -> Any:
        self._num_values += 1
        if self._num_values > MAX_VALUES or len(key) > MAX_DEPTH:
            self._refuse(node, f"holds more than {MAX_VALUES:,} values, or itself")
        kind = str(node.tag).removeprefix(_TAGS)
        if isinstance(node, MappingNode) and kind == "map":
            return dict(self._items(node, key))
        if isinstance(node, SequenceNode) and kind == "seq":
            return [self.value(item, (*key, str(at))) for at, item in enumerate(node.value)]
        if isinstance(node, ScalarNode) and kind in _SCALARS:
            return self._scalar(node, kind)
        self._refuse(node, f"{node.tag} is not a kind of value that settings have")

    def _items(self, node: MappingNode, section: Key) -> Iterator[tuple[str, Any]]:
        lines: dict[str, int] = {}
        for name_node, value_node in node.value:
            name, line = self._name(name_node, section), name_node.start_mark.line + 1
            key = (*section, name)
            if name in lines:
                self._refuse(
                    name_node, f"{'.'.join(key)} is given twice (first on line {lines[name]})"
                )
            lines[name] = line
            self.origins[key] = Written(self._place(line), _plain_text(value_node))
            yield name, self.value(value_node, key)

    def _name(self, node: Node, section: Key) -> str:
        if not isinstance(node, ScalarNode) or str(node.tag) != f"{_TAGS}str":
            shown = node.value if isinstance(node, ScalarNode) else "a list or mapping"
            self._refuse(node, f"{'.'.join((*section, str(shown)))}: a key is a word, not {shown}")
        if node.value == "<<":
            self._refuse(node, "<< does not merge in YAML 1.2: write the settings out")
        return str(node.value)

    def _scalar(self, node: ScalarNode, kind: str) -> Any:
        if kind in ("int", "float") and len(node.value) > MAX_DIGITS:
            self._refuse(node, f"a number of {len(node.value):,} characters")
        if not _CORE_SCHEMA[kind].fullmatch(node.value):  # its tag says what it is not
            self._refuse(node, f"{node.value[:50]!r} is no {kind}")
        return _SCALARS[kind](node.value)

    def _refuse(self, node: Node, reason: str) -> Any:
        raise InputError(f"{self._place(node.start_mark.line + 1)}: {reason}.")


def _plain_text(node: Node) -> str | None:
    return str(node.value) if isinstance(node, ScalarNode) and node.style is None else None


def _int(text: str) -> int:
    return int(text) if text.lstrip("+-").isdigit() else int(text, base=0)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: dict[str, Callable[[str], Any]] = {
    "null": lambda _: None,
    "bool": lambda text: text.lower() == "true",
    "int": _int,
    "float": _float,
    "str": str,
}
