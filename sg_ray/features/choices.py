"""Expressions that make choices: which of their operands are evaluated depends on values."""

from sg_ray.features.functions import NORETURN_FUNCTIONS, Functions
from sg_ray.features.syntax import SyntaxTree, field_id, kind_id, kind_set

AND = kind_id("&&", named=False)
OR = kind_id("||", named=False)
CONDITIONAL = kind_id("conditional_expression")

_BLOCK = kind_id("compound_statement")
_CALL = kind_id("call_expression")
_UNEVALUATED = frozenset(map(kind_id, ("sizeof_expression", "alignof_expression")))
_CHOICE_KINDS = kind_set([AND, OR, CONDITIONAL])

_OPERAND_FIELDS = frozenset(map(field_id, ("condition", "initializer", "update", "filter")))
"""Parts of statements that are expressions."""


class Choices:
    """The expressions of a tree that hold a choice at any depth.

    A choice is a short-circuit operator, ``?:``, a statement expression ``({ ... })``, and a call
    of a nested function or of one that does not come back.
    """

    def __init__(
        self, tree: SyntaxTree, functions: Functions, holders: list[int], kinds: frozenset[int]
    ) -> None:
        """``holders`` are the nodes that may hold statements, ``kinds`` their kinds."""
        self._tree = tree
        self._holder_kinds = kinds
        self.operators: dict[int, int] = {}
        """Each expression, and the operator of ``&&`` and ``||``; 0 for others."""
        self.nested_calls: dict[int, int] = {}
        """Calls of nested functions, or with one as an argument, and that function."""
        self._find_operators()
        self._find_statement_expressions(holders)
        self._find_noreturn_calls()
        for node, function in functions.mentions_of_nested() if functions.nested else ():
            call = self._call_around(node)
            if call is not None and self._mark_upwards(call):
                self.nested_calls[call] = function

    def __contains__(self, node: int) -> bool:
        return node in self.operators

    def is_noreturn(self, node: int) -> bool:
        """Return whether ``node`` is a call that does not come back."""
        is_call = self._tree.kinds[node] == _CALL
        return is_call and self._tree.text_at(node + 1) in NORETURN_FUNCTIONS

    def _find_operators(self) -> None:
        kinds, parents = self._tree.kinds, self._tree.parents
        for node in self._tree.nodes_of(_CHOICE_KINDS):
            if kinds[node] == CONDITIONAL:
                self._mark_upwards(node)
            elif self._mark_upwards(parents[node]):
                self.operators[parents[node]] = kinds[node]

    def _find_statement_expressions(self, holders: list[int]) -> None:
        kinds, parents, fields = self._tree.kinds, self._tree.parents, self._tree.fields
        for node in holders:
            if kinds[node] != _BLOCK:
                continue
            if kinds[parents[node]] not in self._holder_kinds:
                self._mark_upwards(parents[node])
            elif fields[node] in _OPERAND_FIELDS:
                self.operators[node] = 0

    def _find_noreturn_calls(self) -> None:
        if NORETURN_FUNCTIONS.isdisjoint(self._tree.texts):
            return
        for node in range(len(self._tree.kinds)):
            if self.is_noreturn(node):
                self._mark_upwards(node)

    def _call_around(self, node: int) -> int | None:
        kinds = self._tree.kinds
        while kinds[node] != _CALL and kinds[node] not in self._holder_kinds:
            node = self._tree.parents[node]
        return node if kinds[node] == _CALL else None

    def _mark_upwards(self, node: int) -> bool:
        """Add ``node`` and the expressions around it, unless they are not evaluated."""
        path = []
        while node not in self.operators:
            kind = self._tree.kinds[node]
            if kind in self._holder_kinds or kind in _UNEVALUATED:
                return False
            path.append(node)
            node = self._tree.parents[node]
            if self._tree.kinds[node] in self._holder_kinds:
                break
        self.operators.update(dict.fromkeys(path, 0))
        return True
