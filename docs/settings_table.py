"""Writes the tables of settings.md: the settings' own types, limits, defaults and docstrings.

``python docs/settings_table.py``; ``make docs`` runs it first, and a test holds that the page is
what it writes.
"""

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from sg_ray.config.experiment import Experiment
from sg_ray.models.families import BUILT_IN, get_family

PAGE = Path(__file__).parent / "settings.md"
BEGIN = "<!-- From here on made by docs/settings_table.py. -->\n"
FAMILY_SETTINGS = "models.FAMILY"
METRIC_SETTINGS = "plugins.metrics.NAME"
TYPES = {"integer": "whole number", "number": "number", "string": "text", "object": "section"}

YAML_WORDS = {"None": "null", "True": "true", "False": "false"}


@dataclass(frozen=True)
class Row:
    """One setting: its key in its section, the values it takes, its default, what it does."""

    key: str
    values: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Table:
    """The settings of one section; ``prefix`` is "" for the experiment itself."""

    prefix: str
    about: str
    rows: tuple[Row, ...]


def tables() -> Iterator[Table]:
    """Yield every section of an experiment, then the settings of each family."""
    yield from _tables(Experiment, "")
    for name, family in ((name, get_family(name)) for name in BUILT_IN):
        yield from _tables(family.Config, f"models.{name}.config")


def _tables(model: type[BaseModel], prefix: str) -> Iterator[Table]:
    """Yield the table of ``model``, then those of the sections within it, at any depth."""
    rows: list[Row] = []
    sections: list[tuple[type[BaseModel], str]] = []
    for name, section in _fields(model):
        if section is None:
            rows.append(_row_of(model, name))
        elif prefix and section in TOP_SECTIONS:
            keys = f"the keys of `{TOP_SECTIONS[section]}`"
            rows.append(Row(name, f"{keys}, or `null`", "`null`", _meanings(model).get(name, "")))
        else:
            key = f"{prefix}.{name}".lstrip(".")
            key = {"models": FAMILY_SETTINGS, "plugins.metrics": METRIC_SETTINGS}.get(key, key)
            sections.append((section, key))
    yield Table(prefix, inspect.cleandoc(model.__doc__ or ""), tuple(rows))
    for section, key in sections:
        yield from _tables(section, key)


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel] | None]]:
    for name, field in model.model_fields.items():
        yield name, _section(field.annotation)


def _row_of(model: type[BaseModel], name: str) -> Row:
    schema, field = _schema(model), model.model_fields[name]
    values = _values(schema["properties"][name], schema.get("$defs", {}))
    return Row(name, values, _default(field), field.description or _meanings(model).get(name, ""))


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a setting is, alone, beside null or for each family."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return None if _is_space(candidate) else candidate
    return None


def _is_space(model: type[BaseModel]) -> bool:
    return "log_uniform" in model.model_fields


TOP_SECTIONS = {section: name for name, section in _fields(Experiment) if section is not None}


@cache
def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings below the fields, of ``model`` and of what it inherits from."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if not issubclass(kind, BaseModel) or kind is BaseModel:
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        assert isinstance(tree, ast.ClassDef)
        for line, below in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                found[line.target.id] = _text(below) or found.get(line.target.id, "")
    return found


def _text(node: ast.stmt) -> str:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return inspect.cleandoc(str(node.value.value)) if is_text else ""  # type: ignore[attr-defined]


def _values(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """Return in words which values a JSON schema lets through."""
    if "$ref" in schema:
        return _values(parts[schema["$ref"].rpartition("/")[2]], parts)
    if "anyOf" in schema:
        return ", or ".join(_values(one, parts) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        choices = schema.get("enum", [schema.get("const")])
        return ", ".join(f"`{choice}`" for choice in choices)
    kind = schema.get("type")
    if kind == "boolean":
        return "`true`, `false`"
    if kind == "null":
        return "`null`"
    if kind == "array":
        return f"list of: {_values(schema.get('items', {}), parts)}"
    if schema.get("format") == "path":
        return "path"
    return f"{TYPES.get(kind or '', 'any value')}{_limits(schema)}"


def _limits(schema: Mapping[str, Any]) -> str:
    words = {
        "minimum": " from {}",
        "exclusiveMinimum": " above {}",
        "maximum": " to {}",
        "exclusiveMaximum": " to below {}",
        "multipleOf": ", a multiple of {}",
    }
    return "".join(
        text.format(_number(schema[key])) for key, text in words.items() if key in schema
    )


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _default(field: Any) -> str:
    """Return the default as it would be written; "" for a setting that must be given."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return ""
    if isinstance(value, float):
        return f"`{value:g}`"
    if isinstance(value, Mapping):
        return "`{}`"
    plain = list(value) if isinstance(value, tuple) else value
    written = plain if isinstance(plain, str) else json.dumps(plain, default=str)
    return f"`{written.strip(chr(34)).replace(chr(34), '')}`"


def _markdown(table: Table) -> str:
    title = f"`{table.prefix}`" if table.prefix else "The experiment"
    lines = [f"### {title}", "", _inline(table.about), ""]
    if table.rows:
        lines += ["| key | values | default | meaning |", "|---|---|---|---|"]
        lines += [_row(row) for row in table.rows] + [""]
    return "\n".join(lines)


def _row(row: Row) -> str:
    cells = (f"`{row.key}`", row.values, row.default, " ".join(_inline(row.meaning).split()))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _inline(docstring: str) -> str:
    """Return a docstring as Markdown, in the words of YAML."""
    text = docstring.replace("``", "`")
    return re.sub(r"\b(None|True|False)\b", lambda word: f"`{YAML_WORDS[word[0]]}`", text)


def page(old: str) -> str:
    """Return the page with its tables made anew; what stands before them is kept."""
    kept, _, _ = old.partition(BEGIN)
    return kept + BEGIN + "\n" + "\n".join(map(_markdown, tables()))


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
