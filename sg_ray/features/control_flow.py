"""Control flow of the C functions of one sample, between nodes of its syntax tree.

A node of the flow graph is a plain statement, the condition of an ``if``, loop or ``switch``, the
initialiser or update of a ``for``, a ``case`` or goto label, the filter of an ``__except``, a
preprocessor conditional (both of its branches count as possible), an empty block, or a function
definition (its entry, where its parameters are set). Short-circuit operators and calls are part of
their statement. A statement that holds a statement expression ``({ ... })`` comes before the
statements in it. A condition may come out either way, even if it is a constant.

Each function has a flow and labels of its own: none runs into the next, and the flow around a
nested function passes it by. ``exit`` and its like (see ``functions``) do not come back.
``goto *p`` may lead to every label of the function whose address is taken, ``asm goto`` to its
labels or on. Any statement inside ``__try`` may raise: it may lead to the filter of the
``__except``, which accepts what its own ``__try`` raised, or to the ``__finally``. A ``__finally``
also runs where the ``__try`` is left by its end, ``__leave``, ``return``, ``break``, ``continue``
or ``goto``, and then leads where that would have led.

Code that does not parse is read as far as it goes: the statements inside an ERROR node follow each
other, and a part that is missing is skipped. A call and a block with no semicolon between, such as
``for_each(item, list) { ... }``, are a loop inside a function, and a function outside.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from sg_ray.features.choices import Choices
from sg_ray.features.expression_flow import ExpressionFlow
from sg_ray.features.flow_context import Context
from sg_ray.features.flow_graph import EXIT, FlowGraph, Steps
from sg_ray.features.functions import Functions
from sg_ray.features.syntax import ERROR_KIND, SyntaxTree, field_id, kind_id, kind_set
from sg_ray.features.try_blocks import NOWHERE, TryBlocks

_IF = kind_id("if_statement")
_WHILE = kind_id("while_statement")
_DO = kind_id("do_statement")
_FOR = kind_id("for_statement")
_SWITCH = kind_id("switch_statement")
_CASE = kind_id("case_statement")
_LABELED = kind_id("labeled_statement")
_FUNCTION = kind_id("function_definition")
_BREAK = kind_id("break_statement")
_CONTINUE = kind_id("continue_statement")
_RETURN = kind_id("return_statement")
_GOTO = kind_id("goto_statement")
_BLOCK = kind_id("compound_statement")
_TRY = kind_id("seh_try_statement")
_EXCEPT = kind_id("seh_except_clause")
_FINALLY = kind_id("seh_finally_clause")
_LEAVE = kind_id("seh_leave_statement")

_CALL = kind_id("call_expression")
_POINTER = kind_id("pointer_expression")
_ASM = kind_id("gnu_asm_expression")
_IDENTIFIER = kind_id("identifier")

_AMPERSAND = kind_id("&", named=False)

_BLOCKS = frozenset(
    [
        ERROR_KIND,
        *map(kind_id, ("translation_unit", "compound_statement", "else_clause", "preproc_else")),
        *map(kind_id, ("attributed_statement", "linkage_specification", "declaration_list")),
    ]
)
"""Nodes that do nothing but hold statements."""

_PREPROC_BRANCHES = frozenset(
    map(kind_id, ("preproc_if", "preproc_ifdef", "preproc_elif", "preproc_elifdef"))
)

_NO_OPERATIONS = frozenset([_BREAK, _CONTINUE, _GOTO, _LEAVE, _CASE, _LABELED, _BLOCK])
"""Flow nodes that cannot raise an exception."""

_FILE_LEVEL = frozenset(
    [
        _FUNCTION,
        ERROR_KIND,
        _CALL,
        *map(kind_id, ("declaration", "type_definition", "struct_specifier", "union_specifier")),
        *map(kind_id, ("enum_specifier", "preproc_include", "preproc_def", "preproc_call")),
        *map(kind_id, ("preproc_function_def", "linkage_specification")),
        *_PREPROC_BRANCHES,
    ]
)
"""What may stand between the functions of a file. Anything else is the rest of a function that
seems to end too early."""

_CLAUSES = frozenset([_EXCEPT, _FINALLY])

_JUMPS = frozenset([_BREAK, _CONTINUE, _RETURN, _GOTO, _LEAVE, _ASM])
"""Statements that may lead elsewhere than to the next one."""

_MAX_LABELS_OF_ONE_NAME = 8

_MAX_REST = 256
"""Statements after a function of the file among which a stray brace is looked for."""

_CONDITION = field_id("condition")
_CONSEQUENCE = field_id("consequence")
_ALTERNATIVE = field_id("alternative")
_INITIALIZER = field_id("initializer")
_UPDATE = field_id("update")
_BODY = field_id("body")
_VALUE = field_id("value")
_LABEL = field_id("label")
_FILTER = field_id("filter")


def flow_graph(tree: SyntaxTree) -> FlowGraph:
    """Return the control flow of ``tree``, in time linear in its size."""
    return _Builder(tree).build()


class _Goto(NamedTuple):
    source: int
    label: bytes
    context: Context


class _Builder:
    """One pass up for the entry of each statement, one pass down that links them.

    Both run over node numbers, not by recursion: nesting may be as deep as the source is long.
    """

    def __init__(self, tree: SyntaxTree) -> None:
        self._tree = tree
        self._kinds = tree.kinds
        self._parents = tree.parents
        self._fields = tree.fields
        self._texts = tree.texts
        holders = tree.nodes_of(_HOLDER_SET)
        self._functions = Functions(tree)
        # No statement is a function or has a macro before it.
        self._is_plain = self._functions.are_all_of_file and not tree.unseparated
        choices = Choices(tree, self._functions, holders, _HOLDERS)
        self._choices = choices.operators
        structured = sorted({*holders, *self._choices}) if self._choices else holders
        self._children = {node: tree.children(node) for node in structured}
        self._entries: dict[int, int] = {}
        self._steps = Steps(tree)
        self._tries = TryBlocks(self._steps)
        self._expressions = ExpressionFlow(
            tree,
            self._functions,
            choices,
            self._steps,
            self._tries,
            self._children,
            self._entries,
            self._link,
        )
        self._pending: dict[int, tuple[int, Context]] = {}
        self._roots: list[int] = []
        self._labels: dict[tuple[int, bytes], list[tuple[int, Context]]] = {}
        self._gotos: list[_Goto] = []
        self._computed_gotos: set[int] = set()
        self._switch_exits: dict[int, int] = {}
        self._outer_functions: dict[int, int] = {}

    def build(self) -> FlowGraph:
        for node in reversed(self._children):
            self._entries[node] = self._find_entry(node)
        self._link(0, EXIT, Context())
        for node in self._children:
            if node in self._pending:
                follow, context = self._pending[node]
                _LINKERS[self._kinds[node]](self, node, follow, context)
            elif node in self._expressions.pending:
                self._link_expression(node)
        self._link_late()
        return self._steps.graph(self._roots)

    def _visit(self, node: int, context: Context) -> None:
        self._steps.nodes.add(node)
        if context.seh_try != NOWHERE and self._kinds[node] not in _NO_OPERATIONS:
            self._tries.may_raise(node, context.seh_try)

    def _part(self, node: int, field: int) -> int | None:
        """Return the child that fills ``field``, if there is one."""
        fields = self._fields
        for child in self._children[node]:
            if fields[child] == field:
                return child
        return None

    def _statements(self, node: int) -> list[int]:
        """Return the statements that ``node`` holds one after the other.

        They fill no field (conditions and labels do); a bare token in broken code is not one, nor
        is the ``goto`` of a computed goto.
        """
        fields, texts = self._fields, self._texts
        children = [child for child in self._children[node] if not fields[child]]
        if self._tree.computed_gotos:
            children = [child for child in children if not self._is_computed_goto(child + 1)]
        kind = self._kinds[node]
        if kind == ERROR_KIND or node == 0:
            return [child for child in children if texts[child] is None]
        if kind == _CASE and children and self._is_range(children[0]):
            return children[1:]
        return children

    def _is_computed_goto(self, node: int) -> bool:
        """Return whether ``node`` is what a ``goto`` before it leads to."""
        return node in self._tree.computed_gotos and self._kinds[node] == _POINTER

    def _is_range(self, node: int) -> bool:
        """Return whether ``node`` is the ``... 9`` that the parser does not expect in a case."""
        return self._kinds[node] == ERROR_KIND and all(
            self._texts[child] is not None for child in self._children[node]
        )

    def _entry(self, node: int) -> int:
        """Return the flow node at which executing the statement ``node`` begins."""
        return node if node in self._choices else self._entries.get(node, node)

    def _find_entry(self, node: int) -> int:
        kind = self._kinds[node]
        if node in self._choices and kind != _BLOCK:
            return self._expressions.first_step(node)
        if kind in _BLOCKS:
            return self._first_entry(self._statements(node), node)
        if kind in (_DO, _TRY):
            body = self._part(node, _BODY) or self._part(node, _CONDITION)
            return node if body is None else self._entry(body)
        if kind == _FOR:
            return self._part(node, _INITIALIZER) or self._part(node, _CONDITION) or node
        if kind in (_IF, _WHILE, _SWITCH):
            return self._part(node, _CONDITION) or node
        return node

    def _first_entry(self, statements: list[int], follow: int) -> int:
        """Return where executing ``statements`` begins; ``follow`` if there are none."""
        for statement in statements:
            if self._functions.are_all_of_file or not self._functions.is_function(statement):
                return self._entry(statement)
        return follow

    # Statements

    def _link(self, node: int, follow: int, context: Context) -> None:
        """Let ``follow`` come after ``node``; what is inside ``node`` is linked when met."""
        if node in self._children and node not in self._choices:
            self._pending[node] = (follow, context)
            return
        kind = self._kinds[node]
        if kind in _JUMPS or node in self._tree.computed_gotos:
            follow = self._target(node, follow, context)
        self._link_test(node, follow, follow, context)

    def _link_test(self, node: int, yes: int, no: int, context: Context) -> None:
        """Let ``yes`` or ``no`` come after the condition ``node``."""
        self._visit(node, context)
        if node in self._choices and self._expressions.start(node) != node:
            self._steps.edge(node, self._expressions.start(node))
            self._expressions.pending[node] = (yes, no, context)
            return
        self._steps.edge(node, yes)
        if no != yes:
            self._steps.edge(node, no)

    def _link_expression(self, node: int) -> None:
        if self._kinds[node] != _BLOCK:
            self._expressions.link(node)
            return
        yes, no, context = self._expressions.pending[node]
        follow = self._expressions.join(node, yes, no)
        self._link_sequence(self._statements(node), follow, context)

    def _target(self, node: int, follow: int, context: Context) -> int:
        """Return where the jump ``node`` leads first."""
        kind = self._kinds[node]
        leave_to, seh_try = self._tries.leave_to, context.seh_try
        if kind == _BREAK:
            return leave_to(context.on_break, seh_try, context.try_of_break)
        if kind == _CONTINUE:
            return leave_to(context.on_continue, seh_try, context.try_of_continue)
        if kind == _RETURN:
            return leave_to(context.on_return, seh_try, NOWHERE)
        if kind == _LEAVE:
            is_inside = context.seh_try != NOWHERE
            return self._tries.end_of(context.seh_try) if is_inside else follow
        if kind == _ASM:
            self._note_asm_labels(node, context)
            return follow
        if kind == _GOTO and not self._is_error(node + 1):
            self._gotos.append(_Goto(node, self._tree.text_at(node + 1) or b"", context))
            return EXIT
        self._computed_gotos.add(context.function)
        return self._steps.any_label(context.function)

    def _is_error(self, node: int) -> bool:
        return self._kinds[node : node + 1] == [ERROR_KIND]

    def _note_asm_labels(self, node: int, context: Context) -> None:
        source = self._steps.end(node) if node in self._choices else node
        for part in range(node + 1, self._tree.last[node] + 1):
            if self._fields[part] == _LABEL and self._kinds[part] == _IDENTIFIER:
                self._gotos.append(_Goto(source, self._texts[part] or b"", context))

    def _link_block(self, node: int, follow: int, context: Context) -> None:
        statements = self._statements(node)
        if node == 0 and statements:
            self._roots += [self._entry(s) for s in statements]
        elif self._entry(node) == node:
            self._link_test(node, follow, follow, context)
        self._link_sequence(statements, follow, context)

    def _link_sequence(self, statements: list[int], follow: int, context: Context) -> None:
        if self._is_plain and statements and self._parents[statements[0]] != 0:
            self._link_plain(statements, follow, context)
            return
        head: int | None = None
        for i in reversed(range(len(statements))):
            statement = statements[i]
            if statement == head:
                # Linked with its body. What stands before a function does not run into it.
                follow = EXIT if self._parents[statement] == 0 else self._entry(statement)
                continue
            is_function = self._functions.is_function(statement)
            head = statements[i - 1] if i > 0 and self._is_headed(statements, i) else None
            if self._parents[statement] == 0 and (is_function or head is not None):
                follow = follow if self._is_rest_of_function(statements, i + 1) else EXIT
            if head is not None:
                self._link_macro_block(head, statement, follow, context)
            elif is_function:
                self._link(statement, follow, context)
                follow = EXIT if self._parents[statement] == 0 else follow
            else:
                self._link(statement, follow, context)
                follow = self._entry(statement)

    def _link_plain(self, statements: list[int], follow: int, context: Context) -> None:
        """Link statements of which none is a function, or has a macro before it."""
        children, kinds = self._children, self._kinds
        nodes, edges = self._steps.nodes, self._steps.edges
        is_quiet = context.seh_try == NOWHERE and not self._tree.computed_gotos
        for statement in reversed(statements):
            if is_quiet and statement not in children and kinds[statement] not in _JUMPS:
                # As _link does, without its calls: most statements are of this sort.
                nodes.add(statement)
                edges.add((statement, follow))
                follow = statement
            else:
                self._link(statement, follow, context)
                follow = self._entry(statement)

    def _is_rest_of_function(self, statements: list[int], i: int) -> bool:
        """Return whether a function of the file seems to end before its last statements.

        They are no declarations, or a brace without beginning follows them.
        """
        if i == len(statements) or self._parents[statements[i]] != 0:
            return False
        if self._kinds[statements[i]] not in _FILE_LEVEL:
            return True
        for statement in statements[i : i + _MAX_REST]:
            if self._kinds[statement] == _FUNCTION:
                return False
            if self._kinds[statement] == ERROR_KIND and not self._children[statement]:
                return True
        return False

    def _is_headed(self, statements: list[int], i: int) -> bool:
        """Return whether the statement before is a macro to which this block belongs."""
        kinds = (self._kinds[statements[i - 1]], self._kinds[statements[i]])
        return kinds == (_CALL, _BLOCK) and statements[i] in self._tree.unseparated

    def _link_macro_block(self, call: int, body: int, follow: int, context: Context) -> None:
        """Link ``call`` as the head of ``body``: of a loop, or of a function of the file."""
        if self._parents[call] == 0:
            self._link_test(call, self._entry(body), self._entry(body), context)
            self._link(body, follow, context)
        else:
            self._link_test(call, self._entry(body), follow, context)
            self._link(body, call, context.in_loop(follow, call))

    def _link_function(self, node: int, follow: int, context: Context) -> None:
        if not self._functions.is_function(node):
            self._link_macro_head(node, follow, context)
            return
        self._visit(node, Context())
        self._roots.append(node)
        if node in self._functions.nested:
            self._outer_functions[node] = context.function
            follow = self._steps.end(node)
        on_return = self._steps.end(node) if node in self._functions.nested else EXIT
        self._link_body(node, node, follow, Context(node, on_return))

    def _link_macro_head(self, node: int, follow: int, context: Context) -> None:
        """Link ``MACRO(item) { ... }`` or a stray ``else if``, which look like functions."""
        is_broken = any(self._kinds[child] == ERROR_KIND for child in self._children[node])
        is_loop = not is_broken and self._functions.name_of(node) not in (b"if", b"switch")
        inside = (node, context.in_loop(follow, node)) if is_loop else (follow, context)
        self._link_test(node, self._link_branch(node, _BODY, *inside), follow, context)

    def _link_body(self, head: int, node: int, follow: int, context: Context) -> None:
        """Link ``head`` to the body of ``node``, or on to ``follow`` if it has none."""
        self._steps.edge(head, self._link_branch(node, _BODY, follow, context))

    def _link_if(self, node: int, follow: int, context: Context) -> None:
        yes = self._link_branch(node, _CONSEQUENCE, follow, context)
        no = self._link_branch(node, _ALTERNATIVE, follow, context)
        self._link_test(self._entry(node), yes, no, context)

    def _link_branch(self, node: int, field: int, follow: int, context: Context) -> int:
        """Link the part of ``node``, if it has one, and return where to go for it."""
        branch = self._part(node, field)
        if branch is None:
            return follow
        self._link(branch, follow, context)
        return self._entry(branch)

    def _link_while(self, node: int, follow: int, context: Context) -> None:
        test = self._entry(node)
        self._link_loop(node, test, test, follow, context)

    def _link_do(self, node: int, follow: int, context: Context) -> None:
        test = self._part(node, _CONDITION) or node
        self._link_loop(node, test, test, follow, context)

    def _link_loop(self, node: int, test: int, again: int, follow: int, context: Context) -> None:
        """Link ``test`` to the body of ``node`` and to ``follow``, the body to ``again``."""
        body = self._link_branch(node, _BODY, again, context.in_loop(follow, again))
        self._link_test(test, body, follow, context)

    def _link_for(self, node: int, follow: int, context: Context) -> None:
        initializer = self._part(node, _INITIALIZER)
        condition = self._part(node, _CONDITION)
        update = self._part(node, _UPDATE)
        head = condition or node
        again = update or head
        if initializer is not None:
            self._link(initializer, head, context)
        if update is not None:
            self._link(update, head, context)
        if condition is not None:
            self._link_loop(node, condition, again, follow, context)
        else:
            self._visit(node, context)
            self._link_body(node, node, again, context.in_loop(follow, again))

    def _link_switch(self, node: int, follow: int, context: Context) -> None:
        test = self._entry(node)
        chosen = self._steps.end(node) if test in self._choices else test
        if chosen == test:
            self._visit(test, context)
        else:
            self._link_test(test, chosen, chosen, context)
        # Until a default label is met, the value may match no case.
        self._switch_exits[chosen] = follow
        body = self._part(node, _BODY)
        if body is not None:
            self._link(body, follow, context.in_switch(follow, chosen))

    def _link_case(self, node: int, follow: int, context: Context) -> None:
        if context.switch != EXIT:
            self._steps.edge(context.switch, node)
            if self._part(node, _VALUE) is None:
                self._switch_exits.pop(context.switch, None)
        self._link_after(node, follow, context)

    def _link_labeled(self, node: int, follow: int, context: Context) -> None:
        label = self._part(node, _LABEL)
        if label is not None:
            key = (context.function, self._texts[label] or b"")
            same = self._labels.setdefault(key, [])
            # Preprocessor branches may hold a label each.
            if len(same) < _MAX_LABELS_OF_ONE_NAME:
                same.append((node, context))
        self._link_after(node, follow, context)

    def _link_preproc(self, node: int, follow: int, context: Context) -> None:
        self._steps.edge(node, self._link_branch(node, _ALTERNATIVE, follow, context))
        self._link_after(node, follow, context)

    def _link_after(self, node: int, follow: int, context: Context) -> None:
        """Link ``node`` to the statements it holds, and them to each other."""
        self._visit(node, context)
        statements = self._statements(node)
        self._steps.edge(node, self._first_entry(statements, follow))
        self._link_sequence(statements, follow, context)

    def _link_try(self, node: int, follow: int, context: Context) -> None:
        clause = next((c for c in self._children[node] if self._kinds[c] in _CLAUSES), node)
        body, handler = self._part(node, _BODY), self._part(clause, _BODY)
        if body is None or handler is None or clause == node:
            # A part is missing in broken code.
            self._link_branch(node, _BODY, follow, context)
        elif self._kinds[clause] == _EXCEPT:
            test = self._part(clause, _FILTER)
            first = self._entry(handler) if test is None else test
            self._tries.add_except(node, context.seh_try, first, follow)
            self._link(body, follow, context.in_try(node))
            if test is not None:
                self._link(test, self._entry(handler), context)
            self._link(handler, follow, context)
        else:
            done = self._steps.end(clause)
            self._tries.add_finally(node, context.seh_try, self._entry(handler), done, follow)
            self._link(body, done, context.in_try(node))
            self._link(handler, self._steps.end(node), context)

    def _link_clause(self, node: int, follow: int, context: Context) -> None:
        """Link a clause without its ``__try``, in broken code."""
        self._visit(node, context)
        self._link_body(node, node, follow, context)

    # What is known only when all statements have been met

    def _link_late(self) -> None:
        for chosen, follow in self._switch_exits.items():
            self._steps.edge(chosen, follow)
        for goto in self._gotos:
            self._link_goto(goto)
        for function in self._computed_gotos:
            for name in self._names_with_address():
                for label, _ in self._labels.get((function, name), ()):
                    self._steps.edge(self._steps.any_label(function), label)
        self._tries.link_late()

    def _link_goto(self, goto: _Goto) -> None:
        function = goto.context.function
        while (function, goto.label) not in self._labels and function in self._outer_functions:
            function = self._outer_functions[function]
        targets = self._labels.get((function, goto.label))
        if targets is None:
            self._steps.edge(goto.source, EXIT)
            return
        for label, context in targets:
            inner = goto.context.seh_try
            outer = self._tries.common(inner, context.seh_try)
            self._steps.edge(goto.source, self._tries.leave_to(label, inner, outer))

    def _names_with_address(self) -> Iterator[bytes]:
        """Return the labels after ``&&``, which the grammar takes for two address operators."""
        kinds, parents = self._kinds, self._parents
        for node, name in enumerate(self._texts):
            parent = parents[node]
            if (
                name is not None
                and kinds[node] == _IDENTIFIER
                and kinds[parent] == kinds[parents[parent]] == _POINTER
                and kinds[parent + 1] == kinds[parents[parent] + 1] == _AMPERSAND
            ):
                yield name


_Linker = Callable[[_Builder, int, int, Context], None]

_LINKERS: Mapping[int, _Linker] = {
    **dict.fromkeys(_BLOCKS, _Builder._link_block),
    **dict.fromkeys(_PREPROC_BRANCHES, _Builder._link_preproc),
    _IF: _Builder._link_if,
    _WHILE: _Builder._link_while,
    _DO: _Builder._link_do,
    _FOR: _Builder._link_for,
    _SWITCH: _Builder._link_switch,
    _CASE: _Builder._link_case,
    _LABELED: _Builder._link_labeled,
    _FUNCTION: _Builder._link_function,
    _TRY: _Builder._link_try,
    **dict.fromkeys(_CLAUSES, _Builder._link_clause),
}
"""How to link each kind of node that has statements inside."""

_HOLDERS = frozenset(_LINKERS)
_HOLDER_SET = kind_set(_HOLDERS)
