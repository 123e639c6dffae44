"""C source to a small syntax tree: named nodes and operator tokens, numbered in source order."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tree_sitter_c
from numpy.typing import NDArray
from tree_sitter import Language, Parser

LANGUAGE = Language(tree_sitter_c.language())

ERROR_KIND = 65535
"""The kind that tree-sitter gives to text that does not fit the grammar."""

_ERROR_NAME = "ERROR"
_NUM_KINDS = ERROR_KIND + 1

_DROP, _SEMICOLON, _GOTO, _LEAF, _INTERIOR, _ELIDE = range(6)
"""What to do with a node. The last two may hold others."""

_TYPEOF = re.compile(
    rb"\b(?:__typeof__|__typeof|typeof_unqual|typeof)\s*"
    rb"\((?:[^(){};\"']|\((?:[^(){};\"']|\([^(){};\"']*\))*\))*\)"
)
"""A type by an expression, which may hold calls of calls."""
_AUTO = re.compile(rb"\bauto(?=\s++(?:\*++\s*+)?\w+\s*+=)")
"""``auto x = 1``, of which the grammar takes the name for a type."""
_POINTER_RESULT = re.compile(
    rb"(?<!\*)\*++(?=\s*\w+\s*\(\s*\w+\s*(?:,\s*\w+\s*)*\)(?:\s*[A-Za-z_][^;{}=]*;){1,64}\s*\{)"
)
"""What an old-style function returns: ``char *f(p) char *p; {`` reads as a product."""
_BLOCK_AFTER_SEMICOLON = re.compile(rb";\s*+\{")
"""Part of such a function, and quick to look for."""
_MICROSOFT_ASM = re.compile(
    rb"(?:^|(?<=[;{})])|(?<=\belse))(?P<before>[ \t]*+)_?_?asm(?P<gap>\s*+)"
    rb"(?:\{[^{}]*\}|(?<=[ \t])(?!_*(?:volatile|goto|inline)\b)\w[^\n;{}\"/]*+)(?:[ \t]*;)?",
    re.MULTILINE,
)
"""Assembly in a block, or on the rest of the line."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LEAF_KINDS = _words(
    "identifier field_identifier statement_identifier type_identifier primitive_type "
    "number_literal string_literal char_literal system_lib_string true false null "
    "preproc_arg preproc_directive storage_class_specifier type_qualifier"
)
"""Named kinds taken as one token, with whatever is inside them."""

_ELIDED_KINDS = _words(
    "parenthesized_expression parenthesized_declarator abstract_parenthesized_declarator "
    "expression_statement"
)
"""Named kinds that say nothing their child does not: the child takes their place."""

_KEPT_TOKENS = _words(
    "! ~ - + * / % || && | ^ & == != > >= <= < << >> = *= /= %= += -= <<= >>= &= ^= |= -- ++ . -> "
    "signed unsigned long short"
)
"""Anonymous tokens kept as nodes: operators, and the words that make up a sized type."""


def kind_id(name: str, named: bool = True) -> int:
    """Return the grammar's number of the node kind ``name``."""
    number = LANGUAGE.id_for_node_kind(name, named)
    if number is None:
        raise ValueError(f"the C grammar has no node kind {name!r}")
    return number


def field_id(name: str) -> int:
    """Return the grammar's number of the field ``name``."""
    number = LANGUAGE.field_id_for_name(name)
    if number is None:
        raise ValueError(f"the C grammar has no field {name!r}")
    return number


def kind_set(kinds: Iterable[int]) -> NDArray[np.bool_]:
    """Return a set of kinds as a table over all kinds, which looks up many at once."""
    table = np.zeros(_NUM_KINDS, dtype=np.bool_)
    table[list(kinds)] = True
    return table


@dataclass(frozen=True)
class SyntaxTree:
    """The kept nodes of one function in source order (a parent before its children).

    All lists have one entry per node.
    """

    kinds: list[int]
    """The grammar's kind of each node, or ERROR_KIND."""
    parents: list[int]
    """Number of each node's parent; -1 for node 0."""
    fields: list[int]
    """The grammar's field that each node fills in its parent; 0 for none."""
    texts: list[bytes | None]
    """Source text of each leaf; None for a node that is no token."""
    last: list[int]
    """The last node of each node's subtree."""
    unseparated: frozenset[int] = frozenset()
    """Nodes before which the parser missed a semicolon: blocks after ``for_each(item, list)``."""
    computed_gotos: frozenset[int] = frozenset()
    """Nodes before which stands a ``goto`` that the grammar does not know: ``goto *table[x]``."""

    @cached_property
    def kind_array(self) -> NDArray[np.uint16]:
        """``kinds`` as an array."""
        return np.array(self.kinds, dtype=np.uint16)

    def nodes_of(self, kinds: NDArray[np.bool_]) -> list[int]:
        """Return the nodes whose kinds are in ``kinds`` (see ``kind_set``)."""
        found: list[int] = np.flatnonzero(kinds[self.kind_array]).tolist()
        return found

    def children(self, node: int) -> list[int]:
        """Return the children of ``node``."""
        found, child, last = [], node + 1, self.last
        end = last[node]
        while child <= end:
            found.append(child)
            child = last[child] + 1
        return found

    def text_at(self, node: int) -> bytes | None:
        """Return the text of ``node``; None if it is no leaf, or was cut off."""
        return self.texts[node] if node < len(self.texts) else None


class SyntaxParser:
    """Parses C functions. Not to be shared between threads."""

    def __init__(self, *, tokens_only: bool = False) -> None:
        """With ``tokens_only`` the tree is flat: every token of the source except comments."""
        self._parser = Parser(LANGUAGE)
        self._tokens_only = tokens_only
        self._actions = _token_actions() if tokens_only else _tree_actions()

    def parse(self, source: bytes, max_nodes: int) -> SyntaxTree:
        """Return the first ``max_nodes`` nodes of ``source``, at least one whatever it holds.

        Text that does not parse appears below nodes of ERROR_KIND.
        """
        tree = self._read(source, max_nodes)
        if not tree.kinds:
            return SyntaxTree([kind_id("translation_unit")], [-1], [0], [None], [0])
        return tree

    def _read(self, source: bytes, max_nodes: int) -> SyntaxTree:
        # One tight loop instead of small functions: a call per node would double its time.
        actions = self._actions
        parsed = source if self._tokens_only else _as_the_grammar_knows(source)
        cursor = self._parser.parse(parsed).walk()
        kinds: list[int] = []
        parents: list[int] = []
        fields: list[int] = []
        texts: list[bytes | None] = []
        last: list[int] = []
        unseparated: set[int] = set()
        computed_gotos: set[int] = set()
        # Where the cursor is: the number of the next node, its parent, and the field inherited
        # from an elided node; the latter two of each level above as well.
        index, parent, inherited = 0, -1, 0
        above: list[tuple[int, int]] = []
        while True:
            node = cursor.node
            assert node is not None
            kind = node.kind_id
            action = actions[kind]
            if action >= _INTERIOR:
                field = cursor.field_id or inherited
                if cursor.goto_first_child():
                    above.append((parent, inherited))
                    if action == _ELIDE:
                        inherited = field
                        continue
                    if index == max_nodes:
                        break
                    kinds.append(kind)
                    parents.append(parent)
                    fields.append(field)
                    texts.append(None)
                    last.append(index)
                    parent, inherited = index, 0
                    index += 1
                    continue
                action = _LEAF
            if action == _LEAF:
                text = source[node.start_byte : node.end_byte]
                if text:  # else the parser missed it and made it up
                    if index == max_nodes:
                        break
                    kinds.append(kind)
                    parents.append(parent)
                    fields.append(cursor.field_id or inherited)
                    texts.append(text)
                    last.append(index)
                    index += 1
            elif action == _SEMICOLON:
                if node.is_missing:
                    unseparated.add(index)
            elif action == _GOTO and kinds[-1:] == [ERROR_KIND]:
                computed_gotos.add(index)
            while not cursor.goto_next_sibling():
                if not cursor.goto_parent():
                    break
                if parent >= 0:
                    last[parent] = index - 1
                parent, inherited = above.pop()
            else:
                continue
            break
        for cut_off in {parent, *(parent for parent, _ in above)} - {-1}:
            last[cut_off] = index - 1
        marks = frozenset(unseparated), frozenset(computed_gotos - {index})  # it was cut off
        return SyntaxTree(kinds, parents, fields, texts, last, *marks)


def _as_the_grammar_knows(source: bytes) -> bytes:
    """Return ``source`` with what the grammar does not know as something like it, as long."""
    if b"typeof" in source:  # taken for a call, which makes another statement of the declaration
        source = _TYPEOF.sub(lambda match: b"typeof".ljust(len(match[0]), b"_"), source)
    if b"auto" in source:
        source = _AUTO.sub(b"int_", source)
    if b"asm" in source:
        source = _MICROSOFT_ASM.sub(_as_gnu_asm, source)
    source = source.replace(b"_Thread_local", b"__extension__")
    if _BLOCK_AFTER_SEMICOLON.search(source):
        source = _POINTER_RESULT.sub(lambda match: b" " * len(match[0]), source)
    return source


def _as_gnu_asm(match: re.Match[bytes]) -> bytes:
    """Return ``asm("____");`` as long as the match, its quotes around what is no code to us."""
    start, end = match.span()
    opening, closing = match.end("gap") - start, end - start - 3
    if match.string[match.end("gap")] != ord("{"):
        opening -= 1
    if opening - len(match["before"]) < 4 or closing <= opening:  # no room
        return b";".ljust(end - start)
    head = match["before"] + b"asm"
    return head.ljust(opening - 1) + b'("' + b"_" * (closing - opening - 1) + b'");'


def kind_names() -> list[str]:
    """Return the names of all node kinds: ERROR first, the rest sorted."""
    return [_ERROR_NAME, *sorted({_name(kind) for kind in _visible_kinds()})]


def kind_numbers(names: Sequence[str]) -> NDArray[np.int16]:
    """Return a table from the grammar's kind to its place in ``names``; 0 if it is not there.

    Grammar versions number their kinds differently; names keep a fitted numbering valid.
    """
    places = {name: place for place, name in enumerate(names)}
    table = np.zeros(_NUM_KINDS, dtype=np.int16)
    for kind in _visible_kinds():
        table[kind] = places.get(_name(kind), 0)
    return table


def _name(kind: int) -> str:
    return LANGUAGE.node_kind_for_id(kind) or ""


def _visible_kinds() -> list[int]:
    return [k for k in range(LANGUAGE.node_kind_count) if LANGUAGE.node_kind_is_visible(k)]


def _tree_actions() -> bytes:
    actions = bytearray(_NUM_KINDS)
    actions[ERROR_KIND] = _INTERIOR
    for kind in _visible_kinds():
        name = _name(kind)
        if LANGUAGE.node_kind_is_named(kind):
            actions[kind] = _named_action(name)
        elif name in _KEPT_TOKENS:
            actions[kind] = _LEAF
    actions[kind_id(";", named=False)] = _SEMICOLON
    actions[kind_id("goto", named=False)] = _GOTO
    return bytes(actions)


def _named_action(name: str) -> int:
    if name == "comment":
        return _DROP
    if name in _LEAF_KINDS:
        return _LEAF
    return _ELIDE if name in _ELIDED_KINDS else _INTERIOR


def _token_actions() -> bytes:
    actions = bytearray([_ELIDE]) * _NUM_KINDS
    for name, named in (("comment", True), ("\n", False)):
        actions[kind_id(name, named)] = _DROP
    for kind in _visible_kinds():
        if _name(kind) in _LEAF_KINDS:
            actions[kind] = _LEAF
    return bytes(actions)
