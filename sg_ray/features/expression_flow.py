"""Flow between the operands of expressions that make choices."""

from collections.abc import Callable, Mapping

from sg_ray.features.choices import AND, CONDITIONAL, Choices
from sg_ray.features.flow_context import Context
from sg_ray.features.flow_graph import EXIT, Steps
from sg_ray.features.functions import Functions
from sg_ray.features.syntax import SyntaxTree, field_id, kind_id
from sg_ray.features.try_blocks import TryBlocks

_BLOCK = kind_id("compound_statement")
_UNARY = kind_id("unary_expression")
_COMMA = kind_id("comma_expression")
_IDENTIFIER = kind_id("identifier")
_NOT = kind_id("!", named=False)

_COMPLETED = frozenset(
    map(
        kind_id,
        ("assignment_expression", "init_declarator", "update_expression", "gnu_asm_expression"),
    )
)
"""Expressions that do something when all their operands are done: they write."""

_CHOSEN_FIELDS = frozenset(
    map(field_id, ("left", "right", "condition", "consequence", "alternative"))
)


class ExpressionFlow:
    """Links the operands of an expression to each other, and to what follows it.

    What follows may depend on how the expression comes out: one step if true, one if false.
    """

    def __init__(
        self,
        tree: SyntaxTree,
        functions: Functions,
        choices: Choices,
        steps: Steps,
        tries: TryBlocks,
        children: Mapping[int, list[int]],
        entries: Mapping[int, int],
        link_statement: Callable[[int, int, Context], None],
    ) -> None:
        """``entries`` tells where an expression begins, as far as it has been found."""
        self._tree = tree
        self._functions = functions
        self._choices = choices
        self._steps = steps
        self._tries = tries
        self._children = children
        self._entries = entries
        self._link_statement = link_statement
        self.pending: dict[int, tuple[int, int, Context]] = {}
        """Expressions that are linked to what follows, but not yet inside."""

    def start(self, node: int) -> int:
        """Return the step at which evaluating ``node`` begins."""
        return self._entries.get(node, node)

    def first_step(self, node: int) -> int:
        """Return the step at which evaluating begins, once it is known of the operands."""
        operands = self._operands(node)
        return self.start(operands[0]) if operands else node

    def link(self, node: int) -> None:
        """Link what is inside the pending expression ``node``."""
        yes, no, context = self.pending[node]
        operands = self._operands(node)
        operator = self._choices.operators[node]
        kinds = self._tree.kinds
        if not operands:  # the limit of nodes cut them off
            self._link_step(node, yes, no, context)
        elif operator and len(operands) == 2:
            left, right = operands
            start = self.start(right)
            self._link_operand(left, *((start, no) if operator == AND else (yes, start)), context)
            self._link_operand(right, yes, no, context)
        elif kinds[node] == CONDITIONAL and len(operands) in (2, 3):
            test, *chosen = operands
            on_yes = self.start(chosen[0]) if len(chosen) == 2 else yes
            self._link_operand(test, on_yes, self.start(chosen[-1]), context)
            for operand in chosen:
                self._link_operand(operand, yes, no, context)
        elif kinds[node] == _UNARY and kinds[node + 1] == _NOT:
            self._link_operand(operands[-1], no, yes, context)
        else:
            self._link_all(operands, *self._completion(node, yes, no, context), context)

    def join(self, node: int, yes: int, no: int) -> int:
        """Return the step after ``node``, if its operands do not say how it comes out."""
        return yes if yes == no else self._steps.join(node, yes, no)

    def _operands(self, node: int) -> list[int]:
        """Return the operands of ``node`` in the order of their evaluation."""
        kinds, fields, texts = self._tree.kinds, self._tree.fields, self._tree.texts
        if self._choices.operators[node] or kinds[node] == CONDITIONAL:
            return [child for child in self._children[node] if fields[child] in _CHOSEN_FIELDS]
        return [c for c in self._children[node] if texts[c] is None or kinds[c] == _IDENTIFIER]

    def _completion(self, node: int, yes: int, no: int, context: Context) -> tuple[int, int]:
        """Return where the last operand of ``node`` leads if all of them are evaluated."""
        kind = self._tree.kinds[node]
        if self._choices.is_noreturn(node):
            return EXIT, EXIT
        if kind == _COMMA:
            return yes, no
        if kind in _COMPLETED or node in self._choices.nested_calls:
            self._tries.may_raise(self._steps.end(node), context.seh_try)
            self._go_through_nested(node, yes, no)
            end = self._steps.join(node, yes, no)
        else:
            end = self.join(node, yes, no)
        return end, end

    def _link_all(self, operands: list[int], yes: int, no: int, context: Context) -> None:
        """Link operands that are evaluated one after the other."""
        for i in range(len(operands) - 1):
            follow = self.start(operands[i + 1])
            self._link_operand(operands[i], follow, follow, context)
        self._link_operand(operands[-1], yes, no, context)

    def _link_operand(self, node: int, yes: int, no: int, context: Context) -> None:
        if node in self._choices:
            self.pending[node] = (yes, no, context)
        elif self._tree.kinds[node] == _BLOCK:
            self._link_statement(node, self.join(node, yes, no), context)
        else:
            self._link_step(node, yes, no, context)

    def _link_step(self, node: int, yes: int, no: int, context: Context) -> None:
        self._steps.edge(node, yes)
        self._steps.edge(node, no)
        self._tries.may_raise(node, context.seh_try)

    def _go_through_nested(self, call: int, *follows: int) -> None:
        """Let values pass through a nested function that is called, or may be called back."""
        function = self._choices.nested_calls.get(call)
        if function is None:
            return
        end = self._steps.end(call)
        self._steps.data_edge(end, function)
        is_called = self._tree.text_at(call + 1) == self._functions.nested[function]
        for follow in follows:
            self._steps.data_edge(self._steps.end(function), follow)
            if is_called:
                self._steps.pass_by(end, follow)
