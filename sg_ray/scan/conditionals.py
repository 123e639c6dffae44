"""Conditional compilation: which branches belong together, and ways to choose among them.

Braces that balance under one choice of branches need not balance under another, and never do if
all branches are read at once. So a block is followed under several choices.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sg_ray.scan.blanking import Code, Mark

_NEGATIVE = re.compile(r"ifndef\b|elifndef\b|(?:el)?if\s*!")
_NEVER = re.compile(
    r"(?:el)?if\s*\(?\s*(?:0[xX]?0*[uUlL]*|false|FALSE)\s*\)?\s*(?:&&.*|//.*|/\*.*)?$"
)


@dataclass(frozen=True)
class Branches:
    """How the conditionals of a file hang together, by the numbers of their marks."""

    conditions: dict[int, str]
    chains: dict[int, list[int]]
    """For each IF: itself, then each ELSE of it, then its ENDIF or the number of all marks."""
    owner: dict[int, int]
    """The IF that each ELSE and ENDIF belongs to."""
    uneven: frozenset[int]
    """Each IF between whose branches the braces differ."""

    def next_branch(self, mark: int) -> int:
        """Return the mark at which the branch ends that an IF or ELSE begins."""
        chain = self.chains[self.owner.get(mark, mark)]
        return chain[chain.index(mark) + 1]

    def end(self, mark: int) -> int:
        """Return the last mark of the conditional that an ELSE belongs to."""
        owner = self.owner.get(mark)
        return mark if owner is None else self.chains[owner][-1]

    def is_never(self, mark: int) -> bool:
        """Return whether nobody compiles the branch that an IF or ELSE begins: ``#if 0``."""
        return bool(_NEVER.match(self.conditions[mark]))


Choice = Callable[[Branches, int], int]
"""Of an IF: the mark that begins the branch to read, or the last mark of the conditional."""


def first_branch(branches: Branches, mark: int) -> int:
    """Choose the first branch that somebody compiles."""
    chain = branches.chains[mark]
    return next((part for part in chain[:-1] if not branches.is_never(part)), chain[-1])


def last_branch(branches: Branches, mark: int) -> int:
    """Choose the ``#else``; where there is none, nothing."""
    chain = branches.chains[mark]
    *_, last, end = chain
    return last if last in branches.conditions and branches.conditions[last] == "else" else end


def all_defined(branches: Branches, mark: int) -> int:
    """Choose as if every macro were defined: not what ``#ifndef`` or ``#if !`` begins."""
    return _first_where(branches, mark, is_negative=False)


def none_defined(branches: Branches, mark: int) -> int:
    """Choose as if no macro were defined."""
    return _first_where(branches, mark, is_negative=True)


CHOICES: Sequence[Choice] = (first_branch, all_defined, none_defined, last_branch)


def _first_where(branches: Branches, mark: int, *, is_negative: bool) -> int:
    chain = branches.chains[mark]
    for part in chain[:-1]:
        condition = branches.conditions[part]
        if condition == "else":
            return part
        if not branches.is_never(part) and bool(_NEGATIVE.match(condition)) == is_negative:
            return part
    return chain[-1]


@dataclass
class _Open:
    """A conditional on the way through the marks."""

    chain: list[int]
    depth_before: int
    shapes: list[tuple[int, int]] = field(default_factory=list)
    """Of each branch that has ended: by how much it raised the depth, and its lowest point."""
    lowest: int = 0
    has_else: bool = False


def linked(code: Code) -> Branches:
    """Return how the conditionals of ``code`` hang together; strays are left out."""
    chains: dict[int, list[int]] = {}
    owner: dict[int, int] = {}
    uneven: set[int] = set()
    waiting: list[_Open] = []
    depth = 0

    def end_branch(conditional: _Open) -> None:
        nonlocal depth
        change = depth - conditional.depth_before
        conditional.shapes.append((change, conditional.lowest))
        depth, conditional.lowest = conditional.depth_before, 0

    def end_conditional(mark: int) -> None:
        nonlocal depth
        conditional = waiting.pop()
        end_branch(conditional)
        owner[mark] = conditional.chain[0]
        if not conditional.has_else:
            conditional.shapes.append((0, 0))
        conditional.chain.append(mark)
        if len(set(conditional.shapes)) > 1:
            uneven.add(conditional.chain[0])
        depth += conditional.shapes[0][0]
        if waiting:
            lowest = conditional.depth_before + min(low for _, low in conditional.shapes)
            waiting[-1].lowest = min(waiting[-1].lowest, lowest - waiting[-1].depth_before)

    for mark, kind in enumerate(code.kinds):
        if kind == Mark.OPEN:
            depth += 1
        elif kind == Mark.CLOSE:
            depth -= 1
            if waiting:
                waiting[-1].lowest = min(waiting[-1].lowest, depth - waiting[-1].depth_before)
        elif kind == Mark.IF:
            waiting.append(_Open([mark], depth))
            chains[mark] = waiting[-1].chain
        elif waiting and kind == Mark.ELSE:
            end_branch(waiting[-1])
            waiting[-1].chain.append(mark)
            waiting[-1].has_else |= code.conditions[mark] == "else"
            owner[mark] = waiting[-1].chain[0]
        elif waiting:
            end_conditional(mark)
    while waiting:
        end_conditional(len(code.kinds))
    return Branches(code.conditions, chains, owner, frozenset(uneven))
