"""C and C++ source with all that is not code blanked out, every character in its place.

Comments and preprocessor lines become spaces, and so does the inside of literals: what is left can
be searched by plain patterns, and a position found there is a position in the source.
"""

import bisect
import re
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from operator import itemgetter


class Mark(IntEnum):
    """What structures a file: braces, and the conditionals around them."""

    OPEN = 0
    CLOSE = 1
    IF = 2
    ELSE = 3
    """``#else``, ``#elif`` and their kin: the end of a branch and the start of the next."""
    ENDIF = 4


_SPLICE = r"\\(?:\r?\n|.)"
_LITERAL = rf'"[^"\\\n]*+(?:{_SPLICE}[^"\\\n]*+)*+"?'
_CHARACTER = rf"'[^'\\\n]*+(?:{_SPLICE}[^'\\\n]*+)*+'"
_LINE_COMMENT = rf"//[^\n\\]*+(?:{_SPLICE}[^\n\\]*+)*+"
_BLOCK_COMMENT = r"/\*.*?(?:\*/|\Z)"

_RAW_START = re.compile(r'"([^()\\\s"]{0,16})\(')
_RAW_PREFIX = re.compile(r"(?<!\w)(?:u8|[uUL])?R\Z")
_NUMBER_START = re.compile(r"(?<!\w)\d\w*\Z")

# The first element is a plain set, by which the regular expression engine skips the rest fast.
_TOKEN = re.compile(
    r"[{}\"'/#<%?](?:"
    r"(?<=[{}])|(?<=<)%|(?<=%)>|(?<=\?)\?[<>]"
    rf'|(?<=")(?:{_LITERAL[1:]})'
    rf"|(?<=')(?:{_CHARACTER[1:]})"
    rf"|(?<=/)(?:{_LINE_COMMENT[1:]}|{_BLOCK_COMMENT[1:]})"
    r"|(?<=\#)|(?<=%):|(?<=\?)\?="
    r")",
    re.DOTALL,
)
_REST_OF_DIRECTIVE = re.compile(
    rf"(?:[^\n\\/\"']++|{_SPLICE}|{_LINE_COMMENT}|{_BLOCK_COMMENT}"
    rf"|{_LITERAL}|'(?:\\.|[^'\\\n])'|[/'])*+",
    re.DOTALL,
)
_SPLICED = re.compile(r"\\\r?\n")
_DIRECTIVE = re.compile(r"(?:#|%:|\?\?=)\s*(\w+)[ \t]*(.*)", re.DOTALL)
_BRACES = {
    **dict.fromkeys(("{", "<%", "??<"), Mark.OPEN),
    **dict.fromkeys(("}", "%>", "??>"), Mark.CLOSE),
}
_BEGINS_BLOCK = re.compile(r"(?:\A\s*|\)\s*|\b(?:else|do)\s*)\{")
"""A block of statements, not of a structure or namespace."""
_BRACE_OF = {Mark.OPEN: "{", Mark.CLOSE: "}"}
_SPELT_DIFFERENTLY = frozenset("<%?")
"""What digraphs and trigraphs begin with."""
_CONDITIONALS = {
    **dict.fromkeys(("if", "ifdef", "ifndef"), Mark.IF),
    **dict.fromkeys(("else", "elif", "elifdef", "elifndef"), Mark.ELSE),
    "endif": Mark.ENDIF,
}
_MACRO = re.compile(r"(?:#|%:)\s*define\s+(\w+)(\([^()]*\))?(.*)", re.DOTALL)
_LONGEST_MACRO = 2_000
_WORD = re.compile(r"\b\w+")
_BEHIND_ARGUMENTS = re.compile(r"[ \t]*\([^(){}]*\)(\s)")
_HIDDEN = {"{": Mark.OPEN, "({": Mark.OPEN, "}": Mark.CLOSE}
"""Macros with a brace that they do not match. One with parameters that closes may be anything."""
_LONGEST_RAW_LITERAL = 16_384
_LONGEST_INDENT = 200
"""Columns; a brace further right is not where a function ends, however little is before it."""


@dataclass
class Code:
    """A source file, blanked, and its marks in order."""

    text: str
    blank: str = ""
    kinds: list[Mark] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    """Where each mark begins in ``text`` and ``blank``."""
    open_comment: int | None = None
    """Where a comment begins that has no end."""
    conditions: dict[int, str] = field(default_factory=dict)
    """The directive of each IF and ELSE by the number of its mark, such as ``ifdef DEBUG``."""
    macros: dict[str, str] = field(default_factory=dict)
    """What is left of each macro's braces: "{" of ``#define BEGIN {``, "({" if it has parameters;
    nothing if it is defined in several ways."""

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(match.end() for match in re.finditer("\n", self.text))]

    def line(self, position: int) -> int:
        """Return the line of a position, from 1."""
        return bisect.bisect_right(self._line_starts, position)

    def line_start(self, position: int) -> int:
        """Return where the line of ``position`` begins."""
        return self._line_starts[self.line(position) - 1]

    def indent(self, position: int) -> int:
        """Return the column of the first character that is not blank in the line of a position."""
        start = self.line_start(position)
        line = self.text[start : min(position + 1, start + _LONGEST_INDENT)].expandtabs()
        return len(line) - len(line.lstrip())

    def leads_line(self, position: int) -> bool:
        """Return whether only blanks stand before ``position`` in its line."""
        start = self.line_start(position)
        return position - start < _LONGEST_INDENT and not self.text[start:position].strip()


def blanked(text: str) -> Code:
    """Blank ``text`` and find its marks, in time that grows with its length alone."""
    code = Code(text)
    pieces: list[str] = []
    done = position = 0
    while match := _TOKEN.search(text, position):
        start, position = match.span()
        first = text[start]
        brace = _BRACES.get(match[0])
        if brace is not None:
            code.kinds.append(brace)
            code.positions.append(start)
            if first in _SPELT_DIFFERENTLY:
                pieces += (
                    text[done:start],
                    _BRACE_OF[brace].ljust(len(match[0])),
                )
                done = position
            continue
        if first == "'" and _separates_digits(text, start):
            position = start + 1
            continue
        if first == "#" or first in _SPELT_DIFFERENTLY:
            if not _begins_line(text, start):
                continue
            match = _REST_OF_DIRECTIVE.match(text, position)
            assert match is not None
            position = match.end()
            _note_conditional(code, start, text[start:position])
            _note_macro(code, text[start:position])
        elif first == '"':
            position = _end_of_raw_literal(text, start) or position
        elif position == len(text) and match[0].startswith("/*") and match[0][-2:] != "*/":
            code.open_comment = start
        pieces.append(text[done:start])
        pieces.append(_in_place_of(text[start:position]))
        done = position
    pieces.append(text[done:])
    code.blank = "".join(pieces)
    if any(brace in _HIDDEN for brace in code.macros.values()):
        _show_hidden(code)
    return code


def _in_place_of(token: str) -> str:
    if token[0] in "\"'" and len(token) > 1:
        return token[0] + " " * (len(token) - 2) + token[0]
    return " " * len(token)


def _separates_digits(text: str, quote: int) -> bool:
    """Return whether a quote is that of ``1'000'000``."""
    return text[quote - 1 : quote].isalnum() and bool(
        _NUMBER_START.search(text[max(0, quote - 32) : quote])
    )


def _begins_line(text: str, hash_sign: int) -> bool:
    """Return whether nothing but blanks and comments stands before a ``#`` in its line."""
    before = text[max(0, hash_sign - _LONGEST_INDENT) : hash_sign]
    before = before[before.rfind("\n") + 1 :]
    return not before[before.rfind("*/") + 2 if "*/" in before else 0 :].strip("\ufeff \t\f\v\r")


def _end_of_raw_literal(text: str, quote: int) -> int | None:
    if not _RAW_PREFIX.search(text[max(0, quote - 4) : quote]):
        return None
    match = _RAW_START.match(text, quote)
    if match is None:
        return None
    last = f'){match[1]}"'
    end = text.find(last, match.end(), match.end() + _LONGEST_RAW_LITERAL)
    return None if end < 0 else end + len(last)


def _note_conditional(code: Code, start: int, directive: str) -> None:
    match = _DIRECTIVE.match(
        _SPLICED.sub(" ", directive[:_LONGEST_INDENT]) + directive[_LONGEST_INDENT:]
    )
    kind = _CONDITIONALS.get(match[1]) if match else None
    if match is None or kind is None:
        return
    condition = _SPLICED.sub(" ", f"{match[1]} {match[2]}")
    code.conditions[len(code.kinds)] = " ".join(condition.split())
    code.kinds.append(kind)
    code.positions.append(start)


def _note_macro(code: Code, directive: str) -> None:
    match = _MACRO.match(directive) if len(directive) < _LONGEST_MACRO else None
    if match is None:
        return
    name, parameters, body = match.groups()
    braces = "(" if parameters else ""
    if "{" in body or "}" in body:
        code_of_body = blanked(body)
        braces += "".join(_BRACE_OF[kind] for kind in code_of_body.kinds if kind in _BRACE_OF)
        while "{}" in braces:
            braces = braces.replace("{}", "")
        if braces.endswith("{") and not _BEGINS_BLOCK.search(code_of_body.blank):
            braces = ""
    code.macros[name] = braces if code.macros.get(name, braces) == braces else ""


def _show_hidden(code: Code) -> None:
    """Put the braces of macros where they are used: on the name, or behind its arguments."""
    hidden = {name: braces for name, braces in code.macros.items() if braces in _HIDDEN}
    marks = [
        (position, kind, code.conditions.get(number))
        for number, (position, kind) in enumerate(zip(code.positions, code.kinds, strict=True))
    ]
    pieces: list[str] = []
    done = 0
    for word in _WORD.finditer(code.blank):
        braces = hidden.get(word[0])
        if braces is None or word.start() < done:  # an argument of another one
            continue
        found = word if braces != "({" else _BEHIND_ARGUMENTS.match(code.blank, word.end())
        if found is not None:
            start, end = found.span(found.lastindex or 0)
            pieces += (code.blank[done:start], _BRACE_OF[_HIDDEN[braces]].ljust(end - start))
            marks.append((start, _HIDDEN[braces], None))
            done = end
    code.blank = "".join((*pieces, code.blank[done:]))
    marks.sort(key=itemgetter(0))
    code.positions = [position for position, _, _ in marks]
    code.kinds = [kind for _, kind, _ in marks]
    code.conditions = {
        number: condition for number, (_, _, condition) in enumerate(marks) if condition is not None
    }
