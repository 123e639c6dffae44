"""Grammars of lex and yacc: their rules are no functions, but C may stand around them."""

import re
from typing import NamedTuple

_MARK = re.compile(r"^%%[ \t\r]*(?:/\*.*|//.*)?$", re.MULTILINE)
_LITERAL_BLOCK = re.compile(r"^%\{[^\n]*\n.*?^%\}", re.MULTILINE | re.DOTALL)
_CODE_BLOCK = re.compile(r"^%(?:code|top|initial-action)\b", re.MULTILINE)
"""C without a mark at its end that could be told from its braces: read as rules are, not at all."""
_NOT_NEWLINE = re.compile(r"[^\n]")


class Grammar(NamedTuple):
    """The C of a grammar, all else blanked out, and where its rules are."""

    text: str
    rules_start: int
    rules_end: int


def read_grammar(text: str, blank: str) -> Grammar | None:
    """Return the parts of a grammar; None if ``text``, with ``blank`` for its code, is none.

    C are the blocks ``%{ ... %}`` before the first line ``%%``, and what follows the second.
    """
    first = next(
        (mark for mark in _MARK.finditer(text) if blank.startswith("%%", mark.start())), None
    )
    if first is None:
        return None
    second = _MARK.search(text, first.end())
    end = second.end() if second else len(text)
    pieces: list[str] = []
    done = 0
    for block in _LITERAL_BLOCK.finditer(text, 0, first.start()):
        pieces += (
            _blanked(text[done : block.start() + 2]),
            text[block.start() + 2 : block.end() - 2],
        )
        done = block.end() - 2
    pieces += (_blanked(text[done:end]), text[end:])
    rules = _CODE_BLOCK.search(text, 0, first.start()) or first
    return Grammar("".join(pieces), rules.start(), second.start() if second else end)


def _blanked(text: str) -> str:
    return _NOT_NEWLINE.sub(" ", text)
