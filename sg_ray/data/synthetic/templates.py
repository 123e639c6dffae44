"""The weaknesses of the synthetic set, each as a safe and an unsafe arrangement of statements.

Two kinds of template, both with the same tokens in either arrangement:

- **order**: the same statements, but a check, a free or an assignment comes too late;
- **flow**: the same statements in the same order, but the check guards one variable and the
  dangerous operation uses its sibling (the two variables trade places in the later statements).

A statement order is a path in the control-flow graph, a variable's identity is a def-use edge, and
neither can be seen in a bag of words.

Placeholders: ``{a}`` and ``{b}`` are siblings, two names of the same role in random order;
``{o}`` is a struct pointer, ``{s}`` a struct type, ``{n}`` a spare integer parameter, ``{k}`` a
small constant, ``{K}`` a limit.
"""

from dataclasses import dataclass
from typing import Literal

Role = Literal["index", "number", "object", "text"]


@dataclass(frozen=True)
class Template:
    """One weakness in two arrangements of the same tokens.

    ``parameters`` and ``local`` (a declaration, may be empty) are the same in both; ``role`` says
    from which names ``{a}`` and ``{b}`` are drawn.
    """

    weakness: str
    role: Role
    parameters: str
    safe: tuple[str, ...]
    unsafe: tuple[str, ...]
    local: str = ""


def _order(
    weakness: str, role: Role, parameters: str, first: str, second: str, local: str = ""
) -> Template:
    """``first`` must run before ``second``; the unsafe function has them the other way round."""
    return Template(weakness, role, parameters, (first, second), (second, first), local)


def _redefine(
    weakness: str, role: Role, parameters: str, first: str, second: str, use: str, local: str = ""
) -> Template:
    """``use`` meets a variable whose redefinition and check came in the wrong order if unsafe."""
    return Template(weakness, role, parameters, (first, second, use), (second, first, use), local)


def _flow(
    weakness: str,
    role: Role,
    parameters: str,
    guard: str,
    sink: str,
    bystander: str,
    local: str = "",
) -> Template:
    """``guard`` protects ``{a}``. ``{x}`` of ``sink`` is ``{a}`` if safe, ``{b}`` if not.

    ``bystander`` uses the other one, ``{y}``, harmlessly: both functions have the same tokens.
    """

    def arrange(x: str, y: str) -> tuple[str, ...]:
        return (guard, sink.replace("{x}", x), bystander.replace("{y}", y))

    return Template(weakness, role, parameters, arrange("{a}", "{b}"), arrange("{b}", "{a}"), local)


TEMPLATES = (
    # Out-of-bounds write
    _order(
        "cwe787",
        "index",
        "struct {s} *{o}, int {a}, int {n}",
        "if ({a} >= {K}) return -{e};",
        "{o}->slots[{a}] = {n};",
    ),
    _redefine(
        "cwe787",
        "index",
        "struct {s} *{o}, int {a}, int {n}",
        "{a} += {n};",
        "if ({a} >= {K}) return -{e};",
        "{o}->slots[{a}] = {k};",
    ),
    _flow(
        "cwe787",
        "index",
        "struct {s} *{o}, int {a}, int {b}",
        "if ({a} >= {K}) return -{e};",
        "{o}->slots[{x}] = {k};",
        "ret += {y};",
    ),
    # Out-of-bounds read
    _order(
        "cwe125",
        "index",
        "const int *data, int {a}, int {n}",
        "if ({a} >= {n}) return -{e};",
        "ret = data[{a}];",
    ),
    _redefine(
        "cwe125",
        "index",
        "const int *data, int {a}, int {n}",
        "{a} += {n};",
        "if ({a} >= {K}) return -{e};",
        "ret = data[{a}];",
    ),
    _flow(
        "cwe125",
        "index",
        "const int *data, int {a}, int {b}",
        "if ({a} >= {K}) return -{e};",
        "ret = data[{x}];",
        "ret += {y};",
    ),
    # Copy without a length check
    _order(
        "cwe120",
        "text",
        "char *out, const char *{a}",
        "if (strlen({a}) >= {K}) return -{e};",
        "strcpy(out, {a});",
    ),
    _redefine(
        "cwe120",
        "text",
        "char *out, const char *{a}, const char *input",
        "{a} = input;",
        "if (strlen({a}) >= {K}) return -{e};",
        "strcpy(out, {a});",
    ),
    _flow(
        "cwe120",
        "text",
        "char *out, const char *{a}, const char *{b}",
        "if (strlen({a}) >= {K}) return -{e};",
        "strcpy(out, {x});",
        "puts({y});",
    ),
    # NULL dereference
    _order(
        "cwe476",
        "object",
        "struct {s} *{a}, int {n}",
        "if (!{a}) return -{e};",
        "ret = {a}->len;",
    ),
    _redefine(
        "cwe476",
        "object",
        "struct {s} *{a}, int {n}",
        "{a} = {a}->next;",
        "if (!{a}) return -{e};",
        "ret = {a}->len;",
    ),
    _flow(
        "cwe476",
        "object",
        "struct {s} *{a}, struct {s} *{b}",
        "if (!{a}) return -{e};",
        "ret = {x}->len;",
        "track({y});",
    ),
    # Use after free
    _order(
        "cwe416",
        "object",
        "struct {s} *{a}, int {n}",
        "ret = {a}->len;",
        "free({a});",
    ),
    _redefine(
        "cwe416",
        "object",
        "struct {s} *{a}, struct {s} *{o}",
        "free({a});",
        "{a} = {o};",
        "ret = {a}->len;",
    ),
    # Double free
    Template(
        "cwe415",
        "object",
        "struct {s} *{a}, int {n}",
        ("free({a});", "{a} = NULL;", "free({a});"),
        ("free({a});", "free({a});", "{a} = NULL;"),
    ),
    # Memory leak on an error path
    _order(
        "cwe401",
        "number",
        "struct {s} *{o}, int {a}",
        "if ({a} > {K}) return -{e};",
        "{o}->data = malloc({a});",
    ),
    # Integer overflow in a size
    _order(
        "cwe190",
        "number",
        "struct {s} *{o}, int {a}, int {n}",
        "if ({a} > INT_MAX / {n}) return -{e};",
        "{o}->size = {a} * {n};",
    ),
    _redefine(
        "cwe190",
        "number",
        "struct {s} *{o}, int {a}, int {n}",
        "{a} += {n};",
        "if ({a} > INT_MAX / {k}) return -{e};",
        "{o}->size = {a} * {k};",
    ),
    # Division by zero
    _order(
        "cwe369",
        "number",
        "int {n}, int {a}",
        "if ({a} == 0) return -{e};",
        "ret = {n} / {a};",
    ),
    # Use of an uninitialised variable
    _order(
        "cwe457",
        "number",
        "struct {s} *{o}, const char *text",
        "{a} = strlen(text);",
        "{o}->len = {a};",
        local="int {a};",
    ),
    # Format string from outside
    _order(
        "cwe134",
        "text",
        "const char *{a}, const char *input",
        "printf({a});",
        "{a} = input;",
        local='{a} = "ready";',
    ),
    # Command injection
    _order(
        "cwe78",
        "text",
        "const char *{a}, int {n}",
        "if (!is_clean({a})) return -{e};",
        "ret = system({a});",
    ),
    _redefine(
        "cwe78",
        "text",
        "const char *{a}, const char *input",
        "{a} = input;",
        "if (!is_clean({a})) return -{e};",
        "ret = system({a});",
    ),
    # Access outside the lock
    _order(
        "cwe362",
        "object",
        "struct {s} *{a}, int {n}",
        "lock(&{a}->mutex);",
        "{a}->total += {n};",
    ),
)
