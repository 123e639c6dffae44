"""The weaknesses of the synthetic set, each as a safe and an unsafe arrangement of statements.

Two kinds of template, both with the same tokens in either arrangement:

- **order**: the same statements, but a check, a free or an assignment comes too late;
- **flow**: the same statements in the same order, but the check guards one variable and the
  dangerous operation uses its sibling (the two trade places in the statements that follow).

Statement order is a path in the control-flow graph and a variable's identity is a def-use edge;
a bag of words sees neither. No rule such as "the check comes early" holds for all templates:
where a variable is redefined, an early check is the mistake.
"""

from dataclasses import dataclass
from typing import Literal

Role = Literal["index", "number", "object", "text"]
Kind = Literal["order", "flow"]


@dataclass(frozen=True)
class Template:
    """One weakness in two arrangements of the same tokens.

    ``parameters`` and ``local`` (a declaration, may be empty) are the same in both. Placeholders:

    - ``{a}``: the variable in question, and ``{b}`` its sibling, both named after ``role``
    - ``{o}``: a struct pointer that is never NULL; ``{s}``: the name of a struct
    - ``{n}``: another integer parameter; ``{k}``: a small number; ``{K}``: a limit
    - ``{e}``: the error a check returns
    """

    weakness: str
    kind: Kind
    role: Role
    parameters: tuple[str, ...]
    safe: tuple[str, ...]
    unsafe: tuple[str, ...]
    local: str = ""


def _order(
    weakness: str,
    role: Role,
    parameters: tuple[str, ...],
    first: str,
    second: str,
    *rest: str,
    before: tuple[str, ...] = (),
    local: str = "",
) -> Template:
    """``first`` must run before ``second``; in the unsafe function it runs after it."""
    safe = (*before, first, second, *rest)
    unsafe = (*before, second, first, *rest)
    return Template(weakness, "order", role, parameters, safe, unsafe, local)


def _flow(
    weakness: str,
    role: Role,
    parameters: tuple[str, ...],
    guard: str,
    operation: str,
    bystander: str,
) -> Template:
    """``guard`` protects ``{a}``; ``operation`` on ``{x}`` is dangerous without it.

    ``{x}`` is ``{a}`` if safe and ``{b}`` if not. ``bystander`` uses the other one, ``{y}``, in a
    way that is always harmless, so that both functions name both variables equally often.
    """

    def arrange(x: str, y: str) -> tuple[str, ...]:
        return (guard, operation.replace("{x}", x), bystander.replace("{y}", y))

    safe, unsafe = arrange("{a}", "{b}"), arrange("{b}", "{a}")
    return Template(weakness, "flow", role, parameters, safe, unsafe)


_OUT_OF_BOUNDS_WRITE = (
    _order(
        "cwe787",
        "index",
        ("struct {s} *{o}", "int {a}", "int {n}"),
        "if ({a} >= {K}) return -{e};",
        "{o}->slots[{a}] = {n};",
    ),
    _order(
        "cwe787",
        "index",
        ("struct {s} *{o}", "int {a}", "int {n}"),
        "{a} += {n};",
        "if ({a} >= {K}) return -{e};",
        "{o}->slots[{a}] = {k};",
    ),
    _flow(
        "cwe787",
        "index",
        ("struct {s} *{o}", "int {a}", "int {b}"),
        "if ({a} >= {K}) return -{e};",
        "{o}->slots[{x}] = {k};",
        "ret += {y};",
    ),
)

_OUT_OF_BOUNDS_READ = (
    _order(
        "cwe125",
        "index",
        ("const int *data", "int {a}", "int {n}"),
        "if ({a} >= {n}) return -{e};",
        "ret = data[{a}];",
    ),
    _order(
        "cwe125",
        "index",
        ("const int *data", "int {a}", "int {n}"),
        "{a} += {n};",
        "if ({a} >= {K}) return -{e};",
        "ret = data[{a}];",
    ),
    _flow(
        "cwe125",
        "index",
        ("const int *data", "int {a}", "int {b}"),
        "if ({a} >= {K}) return -{e};",
        "ret = data[{x}];",
        "ret += {y};",
    ),
)

_UNCHECKED_COPY = (
    _order(
        "cwe120",
        "text",
        ("char *out", "const char *{a}"),
        "if (strlen({a}) >= {K}) return -{e};",
        "strcpy(out, {a});",
    ),
    _order(
        "cwe120",
        "text",
        ("char *out", "const char *{a}", "const char *input"),
        "{a} = input;",
        "if (strlen({a}) >= {K}) return -{e};",
        "strcpy(out, {a});",
    ),
    _flow(
        "cwe120",
        "text",
        ("char *out", "const char *{a}", "const char *{b}"),
        "if (strlen({a}) >= {K}) return -{e};",
        "strcpy(out, {x});",
        "puts({y});",
    ),
)

_NULL_DEREFERENCE = (
    _order(
        "cwe476",
        "object",
        ("struct {s} *{a}", "int {n}"),
        "if (!{a}) return -{e};",
        "ret = {a}->len + {n};",
    ),
    _order(
        "cwe476",
        "object",
        ("struct {s} *{a}", "int {n}"),
        "{a} = find({n});",
        "if (!{a}) return -{e};",
        "ret = {a}->len;",
    ),
    _flow(
        "cwe476",
        "object",
        ("struct {s} *{a}", "struct {s} *{b}"),
        "if (!{a}) return -{e};",
        "ret = {x}->len;",
        "track({y});",
    ),
)

_USE_AFTER_FREE = (
    _order(
        "cwe416",
        "object",
        ("struct {s} *{a}", "int {n}"),
        "ret = {a}->len + {n};",
        "free({a});",
    ),
    _order(
        "cwe416",
        "object",
        ("struct {s} *{a}", "struct {s} *{o}"),
        "free({a});",
        "{a} = {o};",
        "ret = {a}->len;",
    ),
)

_DOUBLE_FREE = (
    _order(
        "cwe415",
        "object",
        ("struct {s} *{a}", "int {n}"),
        "{a} = NULL;",
        "free({a});",
        before=("free({a});",),
    ),
)

_LEAK_ON_ERROR = (
    _order(
        "cwe401",
        "number",
        ("int {a}", "int {n}"),
        "if ({a} > {n}) return -{e};",
        "data = malloc({a});",
        "free(data);",
        local="char *data;",
    ),
)

_INTEGER_OVERFLOW = (
    _order(
        "cwe190",
        "number",
        ("struct {s} *{o}", "int {a}", "int {n}"),
        "if ({a} > INT_MAX / {n}) return -{e};",
        "{o}->size = {a} * {n};",
    ),
    _order(
        "cwe190",
        "number",
        ("struct {s} *{o}", "int {a}", "int {n}"),
        "{a} ^= {n};",
        "if ({a} > INT_MAX / {k}) return -{e};",
        "{o}->size = {a} * {k};",
    ),
)

_DIVISION_BY_ZERO = (
    _order(
        "cwe369",
        "number",
        ("int {n}", "int {a}"),
        "if ({a} == 0) return -{e};",
        "ret = {n} / {a};",
    ),
)

_UNINITIALISED_USE = (
    _order(
        "cwe457",
        "number",
        ("struct {s} *{o}", "const char *input"),
        "{a} = strlen(input);",
        "{o}->len = {a};",
        local="int {a};",
    ),
)

_FORMAT_STRING = (
    _order(
        "cwe134",
        "text",
        ("const char *{a}", "const char *input"),
        "printf({a});",
        "{a} = input;",
        local='{a} = "ready";',
    ),
)

_COMMAND_INJECTION = (
    _order(
        "cwe78",
        "text",
        ("const char *{a}", "int {n}"),
        "if (!is_clean({a})) return -{e};",
        "ret = system({a}) + {n};",
    ),
    _order(
        "cwe78",
        "text",
        ("const char *{a}", "const char *input"),
        "{a} = input;",
        "if (!is_clean({a})) return -{e};",
        "ret = system({a});",
    ),
)

_ACCESS_OUTSIDE_LOCK = (
    _order(
        "cwe362",
        "object",
        ("struct {s} *{a}", "int {n}"),
        "lock({a});",
        "{a}->total += {n};",
        "unlock({a});",
    ),
)

TEMPLATES: tuple[Template, ...] = (
    *_OUT_OF_BOUNDS_WRITE,
    *_OUT_OF_BOUNDS_READ,
    *_UNCHECKED_COPY,
    *_NULL_DEREFERENCE,
    *_USE_AFTER_FREE,
    *_DOUBLE_FREE,
    *_LEAK_ON_ERROR,
    *_INTEGER_OVERFLOW,
    *_DIVISION_BY_ZERO,
    *_UNINITIALISED_USE,
    *_FORMAT_STRING,
    *_COMMAND_INJECTION,
    *_ACCESS_OUTSIDE_LOCK,
)
