"""What stands before a brace: the head of a function, of a type, of data, or a statement.

Heads are read as written, with their macros: no macro is known, and none needs to be.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import pairwise
from typing import NamedTuple


class HeadKind(Enum):
    """What the block after a head is."""

    FUNCTION = auto()
    MACRO = auto()
    """A function, if its block holds statements: ``TEST(a, b) {``, ``PROLOGUE {``."""
    SCOPE = auto()
    """Functions may be defined within: a namespace, a class, ``extern "C"``."""
    DATA = auto()
    """An initialiser, an enumeration."""
    ARGUMENT = auto()
    """An argument of a macro or function: ``DEFINE(x, {``."""
    PART = auto()
    """A part of the head itself: ``Class() : member{1} {``."""
    STATEMENT = auto()
    """Text of a function whose head is not here."""


@dataclass(frozen=True)
class Head:
    """What was read before a brace."""

    kind: HeadKind
    start: int = 0
    """Where it begins in the text that was read."""
    is_typed: bool = False
    """Whether a type stands before a function's name, so that it is no call of a macro."""
    is_balanced: bool = True
    """Whether its parentheses match."""
    depth: int = 0
    """How many parentheses are open at its end."""


class _Item(NamedTuple):
    """A word or sign of a head; ``()`` and ``[]`` stand for all that is between them."""

    text: str
    start: int


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CONTROL = _words("if else for while do switch case default return goto break continue sizeof")
_MAYBE_CONTROL = _words("try catch throw delete __try __except __finally __asm asm")
"""Words that C allows as names; in front they begin a statement of C++."""
_TYPES = _words("struct union class enum __interface")
_ACCESS = _words("public private protected signals slots Q_SIGNALS Q_SLOTS __published")
_SPECIFIERS = _words(
    "__attribute__ __attribute __declspec alignas _Alignas __asm__ asm __asm decltype typeof "
    "__typeof__ __typeof _Pragma __pragma explicit noexcept throw"
)
"""Words whose parentheses are not a function's parameters."""
_QUALIFIERS = _words("const volatile override final noexcept mutable try throw restrict")
_TYPE_WORDS = _words(
    "static inline extern const volatile unsigned signed int char short long float double void "
    "bool struct union enum class register auto template typename virtual constexpr friend"
)

_TOKEN = re.compile(r'"[^"]*"?|\'[^\']*\'|\w+|::|->|[-+*/%^&|~!=<>]=|&&|\|\||<<|>>|\S')
BLOCK_SIGN = "\x01"
"""Stands for each character of a block that is a part of a head."""
_MAX_DECLARATIONS = 200
"""Of the parameters of one function in the style from before 1989, each with its semicolon."""
_LINE_OF_MACRO = re.compile(
    r"\s*(?P<name>\w++)[ \t]*(?P<call>\((?:[^()]|\([^()]*\))*+\))?[ \t]*\r?\n"
)
_BRACKETING = re.compile(r"(?:\b|_)(?:BEGIN|END)(?:\b|_)")
"""What macros are named that begin or end a part of a file."""
_METHOD = re.compile(r"^[-+][ \t]*\([^;{}=]*\Z", re.MULTILINE)
"""The head of a method in Objective-C."""
_POINTER = re.compile(r"\(\s*\*")
_MAX_LINES_OF_MACROS = 100
_BLANK_LINE = re.compile(r"\n[ \t\r]*(?=\n)")


def read_head(before: str) -> Head:
    """Read the head at the end of ``before``: blanked code since the last brace that counts."""
    start = before.rfind(";") + 1
    if method := _METHOD.search(before, start):
        return Head(HeadKind.FUNCTION, method.start(), is_typed=True)
    items, depth = _items(before, start)
    items = _without_labels(items)
    kind = _kind([item.text for item in items], is_balanced=depth == 0)
    if kind in (HeadKind.STATEMENT, HeadKind.MACRO) and len(items) <= 1 and start:
        old_start = _old_style_start(before)
        if old_start is not None:
            return Head(HeadKind.FUNCTION, old_start)
    return Head(
        kind,
        start=items[0].start if items else start,
        is_typed=_is_typed([item.text for item in items]),
        is_balanced=depth == 0,
        depth=max(depth, 0),
    )


def below_blank_line(before: str) -> Head | None:
    """Read only what stands below the last blank line of ``before``; None if it is no function.

    What stands above may be calls of macros, or no code at all.
    """
    *_, match = [None, *_BLANK_LINE.finditer(before)]
    if match is None:
        return None
    head = read_head(before[match.end() :])
    if head.kind != HeadKind.FUNCTION or not head.is_balanced:
        return None
    return replace(head, start=match.end() + head.start)


def trimmed(before: str, head: Head) -> Head:
    """Leave out lines above a function that are whole calls of macros without a semicolon."""
    end, ends = head.start, []
    while match := _LINE_OF_MACRO.match(before, end):
        if match["name"] in _TYPE_WORDS | _SPECIFIERS:
            break
        end, is_call = match.end(), match["call"] is not None
        ends.append((end, is_call or bool(_BRACKETING.search(match["name"]))))
    for end, is_call in reversed(ends[-_MAX_LINES_OF_MACROS:]):
        rest = read_head(before[end:])
        is_apart = before[end:].lstrip(" \t\r").startswith("\n")
        if rest.kind != HeadKind.FUNCTION or not rest.is_balanced:
            continue
        if is_apart or (is_call and rest.is_typed):
            return replace(rest, start=end + rest.start)
    return head


def _items(text: str, start: int) -> tuple[list[_Item], int]:
    """Return the items of ``text`` from ``start`` on, and how many parentheses are open then.

    The number is negative where more are closed than were opened.
    """
    items: list[_Item] = []
    depth, opened, num_stray, is_operator = 0, 0, 0, False
    for match in _TOKEN.finditer(text, start):
        token = match[0]
        if token in ("(", "["):
            if depth == 0:
                opened = match.start()
            depth, is_operator = depth + 1, False
        elif token in (")", "]"):
            if depth == 0:
                num_stray += 1
                continue
            depth -= 1
            if depth == 0:
                items.append(_Item("()" if token == ")" else "[]", opened))
        elif depth == 0:
            if is_operator and not _is_name(token):
                continue  # the sign that an operator is named by
            items.append(_Item(token, match.start()))
            is_operator = token == "operator"
    if depth:
        items.append(_Item("(", opened))
    return _without_angles(items), depth or -num_stray


def _without_angles(items: Sequence[_Item]) -> list[_Item]:
    """Leave out the arguments of templates, ``<...>``."""
    kept: list[_Item] = []
    opened: list[int] = []
    for item in items:
        if item.text == "<":
            opened.append(len(kept))
        kept.append(item)
        for _ in range(item.text.count(">") if item.text in (">", ">>") else 0):
            if opened:
                del kept[opened.pop() :]
    return kept


def _kind(texts: Sequence[str], *, is_balanced: bool) -> HeadKind:
    if len(texts) > 1 and texts[-2] == "extern" and texts[-1][0] == '"':
        return HeadKind.SCOPE  # calls of macros may stand before it
    if len(texts) > 1 and texts[0] == "extern" and texts[1][0] == '"':
        texts = texts[2:]
    if not texts or texts[0] in _CONTROL | _MAYBE_CONTROL:
        return HeadKind.STATEMENT
    if "namespace" in texts[:3] or texts == ["export"]:
        return HeadKind.SCOPE
    if "(" in texts:
        return HeadKind.ARGUMENT
    if _ends_in_lambda(texts):
        return HeadKind.FUNCTION
    if "=" in texts or texts[0] == ",":
        return HeadKind.DATA
    texts = _without_specifiers(texts)
    type_place = next((place for place, text in enumerate(texts) if text in _TYPES), None)
    if type_place is not None and _names_type(texts[type_place + 1 :]):
        return HeadKind.DATA if texts[type_place] == "enum" else HeadKind.SCOPE
    if "()" in texts:
        return _kind_of_call(texts)
    return HeadKind.MACRO if is_balanced and ":" not in texts else HeadKind.STATEMENT


def _kind_of_call(texts: Sequence[str]) -> HeadKind:
    """Tell what a head is that holds parentheses."""
    place = texts.index("()")
    name = texts[place - 1] if place else ""
    if name in _CONTROL or not name or texts[0] == ":":
        return HeadKind.STATEMENT
    if texts[-1] == "requires" or _ends_in_requirement(texts):
        return HeadKind.PART
    after = texts[place + 1 :]
    if ":" in after:
        return HeadKind.PART if _is_name(texts[-1]) else HeadKind.FUNCTION
    if "," in texts:
        return HeadKind.DATA
    return HeadKind.MACRO if list(texts) == [name, "()"] else HeadKind.FUNCTION


def _ends_in_requirement(texts: Sequence[str]) -> bool:
    """Return whether ``requires requires (T t)`` is open: its block is no function's."""
    return list(texts[-2:]) == ["requires", "()"] and (
        len(texts) > 2 and texts[-3] in ("requires", "&&", "||")
    )


def _is_name(text: str) -> bool:
    return text[0].isalnum() or text[0] == "_"


def _is_typed(texts: Sequence[str]) -> bool:
    """Return whether more than one word stands before the first parentheses, as in ``int f()``."""
    texts = _without_specifiers(texts)
    if "()" not in texts or texts[0] in _CONTROL or not _is_name(texts[0]):
        return False
    before = texts[: texts.index("()")]
    parts = [text for n, text in enumerate(before) if n and before[n - 1] in ("::", "~")]
    return sum(map(_is_name, before)) - len(parts) > 1


def _names_type(rest: Sequence[str]) -> bool:
    """Return whether what follows ``struct`` or the like is a type's own head, not a result."""
    if "()" not in rest:
        return True
    place = rest.index("()")
    if ":" in rest[:place]:
        return True
    after = rest[place + 1 : place + 2]
    return place == 1 and bool(after) and _is_name(after[0]) and after[0] not in _QUALIFIERS


def _ends_in_lambda(texts: Sequence[str]) -> bool:
    for place in range(len(texts) - 1, -1, -1):
        if texts[place] == "[]":
            before = texts[place - 1] if place else ""
            return before in ("=", "(", ",", "return", "&&", "||", "")
        if texts[place] in ("=", ",", ";"):
            return False
    return False


def _without_labels(items: Sequence[_Item]) -> list[_Item]:
    """Leave out ``public:`` and the like in front."""
    start = 0
    while start < len(items) and items[start].text in _ACCESS:
        colon = next(
            (n for n, item in enumerate(items[start : start + 3]) if item.text == ":"), None
        )
        if colon is None:
            break
        start += colon + 1
    return list(items[start:])


def _without_specifiers(texts: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for text in texts:
        if text == "[]":
            continue
        if text == "()" and kept and kept[-1] in _SPECIFIERS:
            kept.pop()
            continue
        kept.append(text)
    return kept


def _old_style_start(before: str) -> int | None:
    """Return where ``f(a, b) int a; char *b;`` begins at the end of ``before``, if it does."""
    end = len(before)
    for _ in range(_MAX_DECLARATIONS):
        start = before.rfind(";", 0, end) + 1
        declaration = before[start:end]
        items, depth = _items(declaration, 0)
        if depth == 0 and _is_old_style(declaration, items):
            return start + items[0].start
        if start == 0:
            return None
        end = start - 1
    return None


def _is_old_style(declaration: str, items: Sequence[_Item]) -> bool:
    """Return whether a declaration is ``f(a, b) int a``: more than a pointer ``int (*a)()``."""
    if not items or any(item.text == "=" or item.text in _CONTROL for item in items):
        return False
    return any(
        group.text == "()"
        and _is_name(following.text)
        and following.text not in _SPECIFIERS
        and not _POINTER.match(declaration, group.start)
        for group, following in pairwise(items)
    )
