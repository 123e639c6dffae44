"""Control flow of the C functions of one sample, between nodes of its syntax tree.

A node of the flow graph is a plain statement, the condition of an ``if``, loop or ``switch``, the
initialiser or update of a ``for``, a ``case`` or goto label, the filter of an ``__except``, a
preprocessor conditional (both of its branches count as possible), an empty block, or a function
definition (its entry, where its parameters are set). Short-circuit operators and calls are part of
their statement. A statement that holds a statement expression ``({ ... })`` comes before the
statements in it. A condition may come out either way, even if it is a constant.

Each function has a flow and labels of its own: none runs into the next, and the flow around a
nested function passes it by. ``exit`` and its like (``NORETURN_FUNCTIONS``) do not come back.
``goto *p`` may lead to every label of the function whose address is taken, ``asm goto`` to its
labels or on. Any statement inside ``__try`` may raise: it may lead to the filter of the
``__except``, which accepts what its own ``__try`` raised, or to the ``__finally``. A ``__finally``
also runs where the ``__try`` is left by its end, ``__leave``, ``return``, ``break``, ``continue``
or ``goto``, and then leads where that would have led.

Code that does not parse is read as far as it goes: the statements inside an ERROR node follow each
other, and a part that is missing is skipped. A call and a block with no semicolon between, such as
``for_each(item, list) { ... }``, are a loop inside a function, and a function outside.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sg_ray.features.syntax import ERROR_KIND, SyntaxTree, field_id, kind_id

NORETURN_FUNCTIONS = frozenset(
    b"abort exit _exit _Exit quick_exit longjmp siglongjmp pthread_exit thrd_exit "
    b"__builtin_abort __builtin_exit __builtin_longjmp __builtin_trap __builtin_unreachable".split()
)
"""Functions of C and POSIX, and built-in ones of GCC, that do not come back."""

MAX_TARGETS = 64
"""Edges from one node that come of computed gotos or statement expressions: the first in source
order are kept."""

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
_BINARY = kind_id("binary_expression")
_UNARY = kind_id("unary_expression")
_CONDITIONAL = kind_id("conditional_expression")
_COMMA = kind_id("comma_expression")
_POINTER = kind_id("pointer_expression")
_ASM = kind_id("gnu_asm_expression")
_IDENTIFIER = kind_id("identifier")
_FUNCTION_DECLARATOR = kind_id("function_declarator")

_AND = kind_id("&&", named=False)
_OR = kind_id("||", named=False)
_NOT = kind_id("!", named=False)
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

_COMPLETED = frozenset(
    [_ASM, *map(kind_id, ("assignment_expression", "init_declarator", "update_expression"))]
)
"""Expressions that do something when all their operands are done: they write."""

_UNEVALUATED = frozenset(map(kind_id, ("sizeof_expression", "alignof_expression")))

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

_CHOICE_KINDS = frozenset([_AND, _OR, _CONDITIONAL])

_MAX_FINALLY = 64
"""``__try`` blocks around each other that a jump looks at."""

_CONTROL_WORDS = frozenset(b"if while for switch".split())

_CONDITION = field_id("condition")
_CONSEQUENCE = field_id("consequence")
_ALTERNATIVE = field_id("alternative")
_INITIALIZER = field_id("initializer")
_UPDATE = field_id("update")
_BODY = field_id("body")
_VALUE = field_id("value")
_LABEL = field_id("label")
_LEFT = field_id("left")
_RIGHT = field_id("right")
_ARGUMENT = field_id("argument")
_FILTER = field_id("filter")
_DECLARATOR = field_id("declarator")

_OPERAND_FIELDS = frozenset([_CONDITION, _INITIALIZER, _UPDATE, _FILTER])
"""Parts of statements that are expressions."""

_EXIT = -1
"""Target of a statement after which the function ends."""

_NOWHERE = -1
"""The ``__try`` of what stands in none."""

Edge = tuple[int, int]


@dataclass(frozen=True)
class FlowGraph:
    """Control flow between tree nodes, and the finer flow within statements that make choices.

    A step runs from its beginning to its end without a choice. It is a whole statement, or an
    operand of one that makes choices (``&&``, ``||``, ``?:``, ``({ ... })``): such a statement
    begins with an empty step. Step n < N, the number of tree nodes, is node n; step N + n is the
    end of node n, where an assignment writes; later ones join paths. Steps also follow calls into
    nested functions, and lead to a handler from before what raises.
    """

    nodes: list[int]
    """Every node of the flow graph, ascending; includes what no path reaches."""
    edges: list[Edge]
    """(source, target) without repeats, sorted by target, then source."""
    roots: list[int]
    """Nodes at which execution may begin: functions, and statements outside of them."""
    steps: list[int]
    """Every step, in the order of the source."""
    step_edges: list[Edge]
    """(source, target) between steps, without repeats."""


def flow_graph(tree: SyntaxTree) -> FlowGraph:
    """Return the control flow of ``tree``, in time linear in its size."""
    return _Builder(tree).build()


class _Context(NamedTuple):
    """Where a statement stands: where its jumps lead, and what they leave on the way.

    A jump leaves each ``__try`` from the innermost, ``seh_try``, up to the one around its target.
    """

    function: int = 0
    on_return: int = _EXIT
    on_break: int = _EXIT
    on_continue: int = _EXIT
    switch: int = _EXIT
    """Step from which case labels are reached."""
    seh_try: int = _NOWHERE
    try_of_break: int = _NOWHERE
    try_of_continue: int = _NOWHERE

    def in_loop(self, on_break: int, on_continue: int) -> "_Context":
        return self._replace(
            on_break=on_break,
            on_continue=on_continue,
            try_of_break=self.seh_try,
            try_of_continue=self.seh_try,
        )

    def in_switch(self, on_break: int, switch: int) -> "_Context":
        return self._replace(on_break=on_break, switch=switch, try_of_break=self.seh_try)


class _Goto(NamedTuple):
    source: int
    label: bytes
    context: _Context


class _Try(NamedTuple):
    """A ``__try``: what it raises goes to ``handler``, ``__leave`` to ``end``."""

    outer: int
    handler: int
    end: int
    has_finally: bool


class _Builder:
    """One pass up for the entry of each statement, one pass down that links them.

    Both run over node numbers, not by recursion: nesting may be as deep as the source is long.
    """

    def __init__(self, tree: SyntaxTree) -> None:
        self._tree = tree
        self._kinds = tree.kinds
        self._parents = tree.parents
        self._fields = tree.fields
        self._text = tree.text_of
        self._num_nodes = len(tree.kinds)
        holders = [node for node, kind in enumerate(tree.kinds) if kind in _HOLDERS]
        self._nested = self._find_nested_functions(holders)
        self._calls_of_nested: dict[int, int] = {}
        self._choices = self._find_choices(holders)
        structured = sorted({*holders, *self._choices}) if self._choices else holders
        self._children = _children_of(tree.parents, structured)
        self._entries: dict[int, int] = {}
        self._pending: dict[int, tuple[int, _Context]] = {}
        self._pending_choices: dict[int, tuple[int, int, _Context]] = {}
        self._nodes: set[int] = set()
        self._roots: list[int] = []
        self._edges: set[Edge] = set()
        self._hidden: list[Edge] = []
        self._passed_by: set[Edge] = set()
        self._labels: dict[tuple[int, bytes], list[tuple[int, _Context]]] = {}
        self._gotos: list[_Goto] = []
        self._computed_gotos: set[int] = set()
        self._switch_exits: dict[int, int] = {}
        self._outer_functions: dict[int, int] = {}
        self._tries: dict[int, _Try] = {}
        self._finally_exits: list[tuple[int, int, int]] = []
        self._handlers: dict[int, int] = {}

    def build(self) -> FlowGraph:
        for node in reversed(self._children):
            self._entries[node] = self._find_entry(node)
        self._link(0, _EXIT, _Context())
        for node in self._children:
            if node in self._pending:
                follow, context = self._pending[node]
                _LINKERS[self._kinds[node]](self, node, follow, context)
            elif node in self._pending_choices:
                self._link_choice(node, *self._pending_choices[node])
        self._link_late()
        return self._graph()

    def _graph(self) -> FlowGraph:
        edges = {edge for edge in self._edges if edge[1] != _EXIT}
        step_edges = (edges - self._passed_by).union(self._hidden) if self._hidden else edges
        steps = self._nodes.union(source for source, _ in self._edges)
        steps.update(target for _, target in step_edges)
        if len(steps) > len(self._nodes):
            edges = _between(self._nodes, edges)
        return FlowGraph(
            nodes=sorted(self._nodes),
            edges=[(s, t) for t, s in sorted((t, s) for s, t in edges)],
            roots=self._roots,
            steps=sorted(steps, key=self._place),
            step_edges=list(step_edges),
        )

    def _place(self, step: int) -> float:
        """Return where ``step`` stands in the source, by node numbers."""
        turn, node = divmod(step, self._num_nodes)
        return self._tree.last[node] + turn / 4 if turn else node

    def _end(self, node: int) -> int:
        """Return the step at the end of ``node``."""
        return self._num_nodes + node

    def _edge(self, source: int, target: int) -> None:
        self._edges.add((source, target))

    def _visit(self, node: int, context: _Context) -> None:
        self._nodes.add(node)
        if context.seh_try != _NOWHERE and self._kinds[node] not in _NO_OPERATIONS:
            self._may_raise(node, context)

    def _may_raise(self, step: int, context: _Context) -> None:
        if context.seh_try != _NOWHERE:
            handler = self._tries[context.seh_try].handler
            self._handlers[step] = handler
            self._edge(step, handler)

    def _part(self, node: int, field: int) -> int | None:
        """Return the child that fills ``field``, if there is one."""
        fields = self._fields
        return next((child for child in self._children[node] if fields[child] == field), None)

    def _statements(self, node: int) -> list[int]:
        """Return the statements that ``node`` holds one after the other.

        They fill no field (conditions and labels do); a bare token in broken code is not one, nor
        is the ``goto`` of a computed goto.
        """
        fields, text = self._fields, self._text
        children = [child for child in self._children[node] if not fields[child]]
        if self._tree.computed_gotos:
            children = [child for child in children if not self._is_computed_goto(child + 1)]
        kind = self._kinds[node]
        if kind == ERROR_KIND or node == 0:
            return [child for child in children if child not in text]
        if kind == _CASE and children and self._is_range(children[0]):
            return children[1:]
        return children

    def _is_computed_goto(self, node: int) -> bool:
        """Return whether ``node`` is what a ``goto`` before it leads to."""
        return node in self._tree.computed_gotos and self._kinds[node] == _POINTER

    def _is_range(self, node: int) -> bool:
        """Return whether ``node`` is the ``... 9`` that the parser does not expect in a case."""
        return self._kinds[node] == ERROR_KIND and all(
            child in self._text for child in self._children[node]
        )

    def _entry(self, node: int) -> int:
        """Return the flow node at which executing the statement ``node`` begins."""
        return node if node in self._choices else self._entries.get(node, node)

    def _start(self, node: int) -> int:
        """Return the step at which evaluating the operand ``node`` begins."""
        return self._entries.get(node, node)

    def _find_entry(self, node: int) -> int:
        kind = self._kinds[node]
        if node in self._choices and kind != _BLOCK:
            operands = self._operands(node)
            return self._start(operands[0]) if operands else node
        if kind in _BLOCKS:
            statements = (s for s in self._statements(node) if not self._is_function(s))
            first = next(statements, None)
            return node if first is None else self._entry(first)
        if kind in (_DO, _TRY):
            body = self._part(node, _BODY) or self._part(node, _CONDITION)
            return node if body is None else self._entry(body)
        if kind == _FOR:
            return self._part(node, _INITIALIZER) or self._part(node, _CONDITION) or node
        if kind in (_IF, _WHILE, _SWITCH):
            return self._part(node, _CONDITION) or node
        return node

    # Statements

    def _link(self, node: int, follow: int, context: _Context) -> None:
        """Let ``follow`` come after ``node``; what is inside ``node`` is linked when met."""
        if node in self._children and node not in self._choices:
            self._pending[node] = (follow, context)
            return
        kind = self._kinds[node]
        if kind in _JUMPS or node in self._tree.computed_gotos:
            follow = self._target(node, follow, context)
        self._link_test(node, follow, follow, context)

    def _link_test(self, node: int, yes: int, no: int, context: _Context) -> None:
        """Let ``yes`` or ``no`` come after the condition ``node``."""
        self._visit(node, context)
        if node in self._choices and self._start(node) != node:
            self._edge(node, self._start(node))
            self._pending_choices[node] = (yes, no, context)
        else:
            self._edge(node, yes)
            self._edge(node, no)

    def _target(self, node: int, follow: int, context: _Context) -> int:
        """Return where the jump ``node`` leads first."""
        kind = self._kinds[node]
        if kind == _BREAK:
            return self._leave_to(context.on_break, context.seh_try, context.try_of_break)
        if kind == _CONTINUE:
            return self._leave_to(context.on_continue, context.seh_try, context.try_of_continue)
        if kind == _RETURN:
            return self._leave_to(context.on_return, context.seh_try, _NOWHERE)
        if kind == _LEAVE:
            is_inside = context.seh_try != _NOWHERE
            return self._tries[context.seh_try].end if is_inside else follow
        if kind == _ASM:
            self._note_asm_labels(node, context)
            return follow
        if kind == _GOTO and not self._is_error(node + 1):
            self._gotos.append(_Goto(node, self._text.get(node + 1, b""), context))
            return _EXIT
        self._computed_gotos.add(context.function)
        return self._any_label(context.function)

    def _is_error(self, node: int) -> bool:
        return self._kinds[node : node + 1] == [ERROR_KIND]

    def _any_label(self, function: int) -> int:
        """Return the step from which every label of ``function`` with an address is reached."""
        return 2 * self._num_nodes + function

    def _note_asm_labels(self, node: int, context: _Context) -> None:
        source = self._end(node) if node in self._choices else node
        for part in range(node + 1, self._tree.last[node] + 1):
            if self._fields[part] == _LABEL and self._kinds[part] == _IDENTIFIER:
                self._gotos.append(_Goto(source, self._text[part], context))

    def _leave_to(self, target: int, inner: int, outer: int) -> int:
        """Return where a jump from the ``__try`` ``inner`` to ``target`` in ``outer`` leads first.

        Every ``__finally`` that it passes is run on the way.
        """
        passed: list[int] = []
        while inner not in (outer, _NOWHERE) and len(passed) < _MAX_FINALLY:
            if self._tries[inner].has_finally:
                passed.append(inner)
            inner = self._tries[inner].outer
        for seh_try in reversed(passed):
            self._edge(self._end(seh_try), target)
            target = self._tries[seh_try].handler
        return target

    def _link_block(self, node: int, follow: int, context: _Context) -> None:
        statements = self._statements(node)
        if node == 0 and statements:
            self._roots += [self._entry(s) for s in statements]
        elif self._entry(node) == node:
            self._link_test(node, follow, follow, context)
        self._link_sequence(statements, follow, context)

    def _link_sequence(self, statements: list[int], follow: int, context: _Context) -> None:
        head: int | None = None
        for i in reversed(range(len(statements))):
            statement = statements[i]
            if statement == head:
                # Linked with its body. What stands before a function does not run into it.
                follow = _EXIT if self._parents[statement] == 0 else self._entry(statement)
                continue
            is_function = self._is_function(statement)
            head = statements[i - 1] if i > 0 and self._is_headed(statements, i) else None
            if self._parents[statement] == 0 and (is_function or head is not None):
                follow = follow if self._is_rest_of_function(statements, i + 1) else _EXIT
            if head is not None:
                self._link_macro_block(head, statement, follow, context)
            elif is_function:
                self._link(statement, follow, context)
                follow = _EXIT if self._parents[statement] == 0 else follow
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
        for statement in statements[i:]:
            if self._kinds[statement] == _FUNCTION:
                return False
            if self._kinds[statement] == ERROR_KIND and not self._children[statement]:
                return True
        return False

    def _is_headed(self, statements: list[int], i: int) -> bool:
        """Return whether the statement before is a macro to which this block belongs."""
        kinds = (self._kinds[statements[i - 1]], self._kinds[statements[i]])
        return kinds == (_CALL, _BLOCK) and statements[i] in self._tree.unseparated

    def _link_macro_block(self, call: int, body: int, follow: int, context: _Context) -> None:
        """Link ``call`` as the head of ``body``: of a loop, or of a function of the file."""
        if self._parents[call] == 0:
            self._link_test(call, self._entry(body), self._entry(body), context)
            self._link(body, follow, context)
        else:
            self._link_test(call, self._entry(body), follow, context)
            self._link(body, call, context.in_loop(follow, call))

    def _link_function(self, node: int, follow: int, context: _Context) -> None:
        if not self._is_function(node):
            self._link_macro_head(node, follow, context)
            return
        self._visit(node, _Context())
        self._roots.append(node)
        if node in self._nested:
            self._outer_functions[node] = context.function
            follow = self._end(node)
        on_return = self._end(node) if node in self._nested else _EXIT
        self._link_body(node, node, follow, _Context(node, on_return))

    def _is_function(self, node: int) -> bool:
        """Return whether ``node`` defines a function; a macro before a block may look like it."""
        if self._kinds[node] != _FUNCTION:
            return False
        name = self._name_of(node)
        return self._parents[node] == 0 if name is None else name not in _CONTROL_WORDS

    def _name_of(self, function: int) -> bytes | None:
        """Return the name in the function's declarator, if it has one."""
        for node in range(function + 1, self._tree.last[function] + 1):
            if self._kinds[node] == _FUNCTION_DECLARATOR:
                return self._text.get(node + 1, b"")
            if self._kinds[node] == _BLOCK:
                break
        return None

    def _link_macro_head(self, node: int, follow: int, context: _Context) -> None:
        """Link ``MACRO(item) { ... }`` or a stray ``else if``, which look like functions."""
        is_broken = any(self._kinds[child] == ERROR_KIND for child in self._children[node])
        is_loop = not is_broken and self._name_of(node) not in (b"if", b"switch")
        inside = (node, context.in_loop(follow, node)) if is_loop else (follow, context)
        self._link_test(node, self._link_branch(node, _BODY, *inside), follow, context)

    def _link_body(self, head: int, node: int, follow: int, context: _Context) -> None:
        """Link ``head`` to the body of ``node``, or on to ``follow`` if it has none."""
        self._edge(head, self._link_branch(node, _BODY, follow, context))

    def _link_if(self, node: int, follow: int, context: _Context) -> None:
        yes = self._link_branch(node, _CONSEQUENCE, follow, context)
        no = self._link_branch(node, _ALTERNATIVE, follow, context)
        self._link_test(self._entry(node), yes, no, context)

    def _link_branch(self, node: int, field: int, follow: int, context: _Context) -> int:
        """Link the part of ``node``, if it has one, and return where to go for it."""
        branch = self._part(node, field)
        if branch is None:
            return follow
        self._link(branch, follow, context)
        return self._entry(branch)

    def _link_while(self, node: int, follow: int, context: _Context) -> None:
        test = self._entry(node)
        self._link_loop(node, test, test, follow, context)

    def _link_do(self, node: int, follow: int, context: _Context) -> None:
        test = self._part(node, _CONDITION) or node
        self._link_loop(node, test, test, follow, context)

    def _link_loop(self, node: int, test: int, again: int, follow: int, context: _Context) -> None:
        """Link ``test`` to the body of ``node`` and to ``follow``, the body to ``again``."""
        body = self._link_branch(node, _BODY, again, context.in_loop(follow, again))
        self._link_test(test, body, follow, context)

    def _link_for(self, node: int, follow: int, context: _Context) -> None:
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

    def _link_switch(self, node: int, follow: int, context: _Context) -> None:
        test = self._entry(node)
        chosen = self._end(node) if test in self._choices else test
        if chosen == test:
            self._visit(test, context)
        else:
            self._link_test(test, chosen, chosen, context)
        # Until a default label is met, the value may match no case.
        self._switch_exits[chosen] = follow
        body = self._part(node, _BODY)
        if body is not None:
            self._link(body, follow, context.in_switch(follow, chosen))

    def _link_case(self, node: int, follow: int, context: _Context) -> None:
        if context.switch != _EXIT:
            self._edge(context.switch, node)
            if self._part(node, _VALUE) is None:
                self._switch_exits.pop(context.switch, None)
        self._link_after(node, follow, context)

    def _link_labeled(self, node: int, follow: int, context: _Context) -> None:
        label = self._part(node, _LABEL)
        if label is not None:
            key = (context.function, self._text.get(label, b""))
            self._labels.setdefault(key, []).append((node, context))
        self._link_after(node, follow, context)

    def _link_preproc(self, node: int, follow: int, context: _Context) -> None:
        self._edge(node, self._link_branch(node, _ALTERNATIVE, follow, context))
        self._link_after(node, follow, context)

    def _link_after(self, node: int, follow: int, context: _Context) -> None:
        """Link ``node`` to the statements it holds, and them to each other."""
        self._visit(node, context)
        statements = self._statements(node)
        starts = (self._entry(s) for s in statements if not self._is_function(s))
        self._edge(node, next(starts, follow))
        self._link_sequence(statements, follow, context)

    def _link_try(self, node: int, follow: int, context: _Context) -> None:
        clause = next((c for c in self._children[node] if self._kinds[c] in _CLAUSES), node)
        body, handler = self._part(node, _BODY), self._part(clause, _BODY)
        if body is None or handler is None or clause == node:
            if body is not None:
                self._link(body, follow, context)
        elif self._kinds[clause] == _EXCEPT:
            test = self._part(clause, _FILTER)
            first = self._entry(handler) if test is None else test
            self._tries[node] = _Try(context.seh_try, first, follow, False)
            self._link(body, follow, context._replace(seh_try=node))
            if test is not None:
                self._link(test, self._entry(handler), context)
            self._link(handler, follow, context)
        else:
            done, end, first = self._end(clause), self._end(node), self._entry(handler)
            self._tries[node] = _Try(context.seh_try, first, done, True)
            self._edge(done, first)
            self._link(body, done, context._replace(seh_try=node))
            self._link(handler, end, context)
            self._finally_exits.append((done, end, follow))
            if context.seh_try != _NOWHERE:
                self._edge(end, self._tries[context.seh_try].handler)

    def _link_clause(self, node: int, follow: int, context: _Context) -> None:
        """Link a clause without its ``__try``, in broken code."""
        self._visit(node, context)
        self._link_body(node, node, follow, context)

    # Expressions that make choices

    def _find_nested_functions(self, holders: list[int]) -> dict[int, bytes]:
        """Return the names of the functions inside functions."""
        nested: dict[int, bytes] = {}
        around: list[int] = []
        for node in holders:
            if self._is_function(node):
                while around and self._tree.last[around[-1]] < node:
                    around.pop()
                if around:
                    nested[node] = self._name_of(node) or b""
                around.append(node)
        return nested

    def _find_choices(self, holders: list[int]) -> dict[int, int]:
        """Return the expressions in which a choice is made, with the operator for && and ||."""
        choices: dict[int, int] = {}
        kinds, parents = self._kinds, self._parents
        for node, kind in enumerate(kinds):
            if kind in _CHOICE_KINDS:
                is_operator = kind != _CONDITIONAL
                choice = parents[node] if is_operator else node
                if self._mark_upwards(choice, choices) and is_operator:
                    choices[choice] = kind
        for node in holders:
            if kinds[node] == _BLOCK and kinds[parents[node]] not in _HOLDERS:
                self._mark_upwards(parents[node], choices)
            elif kinds[node] == _BLOCK and self._fields[node] in _OPERAND_FIELDS:
                choices[node] = 0
        if not NORETURN_FUNCTIONS.isdisjoint(self._tree.texts):
            for node, kind in enumerate(kinds):
                if kind == _CALL and self._is_noreturn(node):
                    self._mark_upwards(node, choices)
        if self._nested:
            self._find_calls_of_nested(choices)
        return choices

    def _mark_upwards(self, node: int, choices: dict[int, int]) -> bool:
        """Add ``node`` and the expressions around it, unless they are not evaluated."""
        path = []
        while node not in choices:
            kind = self._kinds[node]
            if kind in _HOLDERS or kind in _UNEVALUATED:
                return False
            path.append(node)
            node = self._parents[node]
            if self._kinds[node] in _HOLDERS:
                break
        choices.update(dict.fromkeys(path, 0))
        return True

    def _is_noreturn(self, call: int) -> bool:
        return self._text.get(call + 1) in NORETURN_FUNCTIONS

    def _find_calls_of_nested(self, choices: dict[int, int]) -> None:
        functions: dict[bytes, list[int]] = {}
        for function, name in self._nested.items():
            functions.setdefault(name, []).append(function)
        for node, name in self._text.items():
            if self._kinds[node] != _IDENTIFIER or name not in functions:
                continue
            called = [f for f in functions[name] if self._is_visible(f, node)]
            call = node
            while call > 0 and self._kinds[call] != _CALL and self._kinds[call] not in _HOLDERS:
                call = self._parents[call]
            if called and self._kinds[call] == _CALL and self._mark_upwards(call, choices):
                self._calls_of_nested[call] = called[-1]

    def _is_visible(self, function: int, node: int) -> bool:
        """Return whether ``node`` is in the block that holds the nested ``function``."""
        return function < node <= self._tree.last[self._parents[function]]

    def _operands(self, node: int) -> list[int]:
        """Return the operands of ``node`` in the order of their evaluation."""
        if self._choices[node] or self._kinds[node] == _CONDITIONAL:
            fields = (_LEFT, _RIGHT, _CONDITION, _CONSEQUENCE, _ALTERNATIVE)
            return [child for child in self._children[node] if self._fields[child] in fields]
        text, kinds = self._text, self._kinds
        return [c for c in self._children[node] if c not in text or kinds[c] == _IDENTIFIER]

    def _link_choice(self, node: int, yes: int, no: int, context: _Context) -> None:
        if self._kinds[node] == _BLOCK:
            self._link_sequence(self._statements(node), self._join(node, yes, no), context)
            return
        operands = self._operands(node)
        operator = self._choices[node]
        if not operands:
            self._link_operand(node, yes, no, context, is_leaf=True)
        elif operator and len(operands) == 2:
            left, right = operands
            right_or = (self._start(right), no) if operator == _AND else (yes, self._start(right))
            self._link_operand(left, *right_or, context)
            self._link_operand(right, yes, no, context)
        elif self._kinds[node] == _CONDITIONAL and len(operands) in (2, 3):
            test, *middle, last = operands
            on_yes = self._start(middle[0]) if middle else yes
            self._link_operand(test, on_yes, self._start(last), context)
            for operand in (*middle, last):
                self._link_operand(operand, yes, no, context)
        elif self._kinds[node] == _UNARY and self._kinds[node + 1] == _NOT:
            self._link_operand(operands[-1], no, yes, context)
        else:
            self._link_operands(node, operands, yes, no, context)

    def _link_operands(
        self, node: int, operands: list[int], yes: int, no: int, context: _Context
    ) -> None:
        """Link operands that are all evaluated, one after the other."""
        kind = self._kinds[node]
        if kind == _CALL and self._is_noreturn(node):
            yes = no = _EXIT
        elif kind in _COMPLETED or node in self._calls_of_nested:
            self._note_call(node, (yes, no))
            self._may_raise(self._end(node), context)
            yes = no = self._join(node, yes, no, always=True)
        elif kind != _COMMA:
            # How the last operand came out does not say how this expression does.
            yes = no = self._join(node, yes, no)
        for i in range(len(operands) - 1):
            follow = self._start(operands[i + 1])
            self._link_operand(operands[i], follow, follow, context)
        self._link_operand(operands[-1], yes, no, context)

    def _link_operand(
        self, node: int, yes: int, no: int, context: _Context, is_leaf: bool = False
    ) -> None:
        if node in self._choices and not is_leaf:
            self._pending_choices[node] = (yes, no, context)
            return
        if self._kinds[node] == _BLOCK:
            self._link(node, self._join(node, yes, no), context)
            return
        self._edge(node, yes)
        self._edge(node, no)
        self._may_raise(node, context)

    def _join(self, node: int, yes: int, no: int, *, always: bool = False) -> int:
        """Return the step at the end of ``node``, which leads to both, or the only one."""
        if yes == no and not always:
            return yes
        self._edge(self._end(node), yes)
        self._edge(self._end(node), no)
        return self._end(node)

    def _note_call(self, call: int, follows: Iterable[int]) -> None:
        """Let the steps go through a nested function that is called, or may be called back."""
        function = self._calls_of_nested.get(call)
        if function is None:
            return
        self._hidden.append((self._end(call), function))
        self._hidden += [(self._end(function), f) for f in follows if f != _EXIT]
        if self._text.get(call + 1) == self._nested[function]:
            self._passed_by.update((self._end(call), f) for f in follows)

    # What is known only when all statements have been met

    def _link_late(self) -> None:
        for chosen, follow in self._switch_exits.items():
            self._edge(chosen, follow)
        for goto in self._gotos:
            self._link_goto(goto)
        for function in self._computed_gotos:
            for name in self._names_with_address():
                for label, _ in self._labels.get((function, name), ()):
                    self._edge(self._any_label(function), label)
        if self._finally_exits:
            reached = {target for _, target in self._edges}
            for done, end, follow in self._finally_exits:
                if done in reached:
                    self._edge(end, follow)
        if self._handlers:
            # A statement may raise before it has done what it does.
            before = [(s, self._handlers[t]) for s, t in self._edges if t in self._handlers]
            self._hidden += before

    def _link_goto(self, goto: _Goto) -> None:
        function = goto.context.function
        while (function, goto.label) not in self._labels and function in self._outer_functions:
            function = self._outer_functions[function]
        targets = self._labels.get((function, goto.label))
        if targets is None:
            self._edge(goto.source, _EXIT)
            return
        for label, context in targets:
            around = self._tries_around(context.seh_try)
            outer = goto.context.seh_try
            while outer not in around:
                outer = self._tries[outer].outer
            self._edge(goto.source, self._leave_to(label, goto.context.seh_try, outer))

    def _tries_around(self, seh_try: int) -> set[int]:
        around = {_NOWHERE}
        while seh_try != _NOWHERE and len(around) < _MAX_FINALLY:
            around.add(seh_try)
            seh_try = self._tries[seh_try].outer
        return around

    def _names_with_address(self) -> Iterator[bytes]:
        """Return the labels after ``&&``, which the grammar takes for two address operators."""
        kinds, parents = self._kinds, self._parents
        for node, name in self._text.items():
            parent = parents[node]
            if (
                kinds[node] == _IDENTIFIER
                and kinds[parent] == kinds[parents[parent]] == _POINTER
                and kinds[parent + 1] == kinds[parents[parent] + 1] == _AMPERSAND
            ):
                yield name


_Linker = Callable[[_Builder, int, int, _Context], None]

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


def _children_of(parents: list[int], nodes: list[int]) -> dict[int, list[int]]:
    children: dict[int, list[int]] = {node: [] for node in nodes}
    for node, parent in enumerate(parents):
        if parent in children:
            children[parent].append(node)
    return children


def _between(nodes: set[int], edges: set[Edge]) -> set[Edge]:
    """Return the edges between ``nodes`` that paths over other steps make."""
    onward: dict[int, list[int]] = {}
    for source, target in edges:
        if source not in nodes:
            onward.setdefault(source, []).append(target)
    reached: dict[int, list[int]] = {}
    for step in onward:
        _reach(step, nodes, onward, reached)
    found: set[Edge] = set()
    for source, target in edges:
        if source in nodes:
            targets = [target] if target in nodes else reached.get(target, [])
            found.update((source, t) for t in targets)
    return found


def _reach(
    step: int, nodes: set[int], onward: dict[int, list[int]], reached: dict[int, list[int]]
) -> None:
    """Add to ``reached`` the first nodes on the paths from ``step``, at most MAX_TARGETS."""
    stack = [step]
    while stack:
        current = stack[-1]
        if current in reached and reached[current] is not _UNKNOWN:
            stack.pop()
            continue
        is_first_visit = current not in reached
        reached[current] = _UNKNOWN
        missing = [t for t in onward.get(current, ()) if t not in nodes and t not in reached]
        if is_first_visit and missing:
            stack += missing
            continue
        found: set[int] = set()
        for target in onward.get(current, ()):
            found.update([target] if target in nodes else reached[target])
        reached[current] = sorted(found)[:MAX_TARGETS]
        stack.pop()


_UNKNOWN: list[int] = []
"""Stands for the nodes that a step leads to while they are being found."""
