"""Control flow of one C function, between nodes of its syntax tree.

A node of the flow graph is a plain statement, the condition of an ``if``, loop or ``switch``, the
initialiser or update of a ``for``, a ``case`` or goto label, a preprocessor conditional (both of
its branches count as possible), an empty block, or a function definition (its entry, where its
parameters are set). Short-circuit operators and calls are part of their statement.

Code that does not parse is read as far as it goes: the statements inside an ERROR node follow each
other, and a part that is missing is skipped. A call and a block with no semicolon between, such as
``for_each(item, list) { ... }``, are a loop.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sg_ray.features.syntax import ERROR_KIND, SyntaxTree, field_id, kind_id

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
_CALL = kind_id("call_expression")

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

_CONDITION = field_id("condition")
_CONSEQUENCE = field_id("consequence")
_ALTERNATIVE = field_id("alternative")
_INITIALIZER = field_id("initializer")
_UPDATE = field_id("update")
_BODY = field_id("body")
_VALUE = field_id("value")
_LABEL = field_id("label")

_EXIT = -1
"""Target of a statement after which the function ends."""


@dataclass(frozen=True)
class FlowGraph:
    """Control flow between tree nodes."""

    nodes: list[int]
    """Every node of the flow graph, ascending; includes what no path reaches."""
    edges: list[tuple[int, int]]
    """(source, target) without repeats, sorted by target, then source."""


def flow_graph(tree: SyntaxTree) -> FlowGraph:
    """Return the control flow of ``tree``, in time linear in its size."""
    return _Builder(tree).build()


@dataclass(frozen=True)
class _Jumps:
    """Where ``break`` and ``continue`` lead, and the ``switch`` that case labels belong to."""

    on_break: int = _EXIT
    on_continue: int = _EXIT
    switch: int = _EXIT


class _Builder:
    """One pass up for the entry of each statement, one pass down that links them.

    Both run over node numbers, not by recursion: nesting may be as deep as the source is long.
    """

    def __init__(self, tree: SyntaxTree) -> None:
        self._kinds = tree.kinds
        self._parents = tree.parents
        self._fields = tree.fields
        self._unseparated = tree.unseparated
        self._text = dict(zip(tree.leaves, tree.texts, strict=True))
        self._children = _structured_children(tree)
        self._entries: dict[int, int] = {}
        self._pending: dict[int, tuple[int, _Jumps]] = {}
        self._nodes: set[int] = set()
        self._edges: set[tuple[int, int]] = set()
        self._labels: dict[bytes, int] = {}
        self._gotos: list[tuple[int, bytes]] = []
        self._switch_exits: dict[int, int] = {}

    def build(self) -> FlowGraph:
        structured = sorted(self._children)
        for node in reversed(structured):
            self._entries[node] = self._find_entry(node)
        self._link(0, _EXIT, _Jumps())
        for node in structured:
            if node in self._pending:
                follow, jumps = self._pending[node]
                _LINKERS[self._kinds[node]](self, node, follow, jumps)
        for node, follow in self._switch_exits.items():
            self._edge(node, follow)
        for node, label in self._gotos:
            self._edge(node, self._labels.get(label, _EXIT))
        return FlowGraph(sorted(self._nodes), [(s, t) for t, s in sorted(self._edges)])

    def _edge(self, source: int, target: int) -> None:
        self._nodes.add(source)
        if target != _EXIT:
            self._edges.add((target, source))

    def _part(self, node: int, field: int) -> int | None:
        """Return the child that fills ``field``, if there is one."""
        fields = self._fields
        return next((child for child in self._children[node] if fields[child] == field), None)

    def _statements(self, node: int) -> list[int]:
        """Return the statements that ``node`` holds one after the other.

        They fill no field (conditions and labels do); a bare token in broken code is not one.
        """
        fields, text = self._fields, self._text
        children = [child for child in self._children[node] if not fields[child]]
        if self._kinds[node] == ERROR_KIND or node == 0:
            return [child for child in children if child not in text]
        return children

    def _entry(self, node: int) -> int:
        """Return the flow node at which executing ``node`` begins."""
        return self._entries.get(node, node)

    def _find_entry(self, node: int) -> int:
        kind = self._kinds[node]
        if kind in _BLOCKS:
            statements = self._statements(node)
            return self._entry(statements[0]) if statements else node
        if kind == _DO:
            body = self._part(node, _BODY)
            return node if body is None else self._entry(body)
        if kind == _FOR:
            return self._part(node, _INITIALIZER) or self._part(node, _CONDITION) or node
        if kind in (_IF, _WHILE, _SWITCH):
            return self._part(node, _CONDITION) or node
        return node

    def _link(self, node: int, follow: int, jumps: _Jumps) -> None:
        """Let ``follow`` come after ``node``; what is inside ``node`` is linked when met."""
        kind = self._kinds[node]
        if node in self._children:
            self._pending[node] = (follow, jumps)
        elif kind == _BREAK:
            self._edge(node, jumps.on_break)
        elif kind == _CONTINUE:
            self._edge(node, jumps.on_continue)
        elif kind == _RETURN:
            self._edge(node, _EXIT)
        elif kind == _GOTO:
            self._edge(node, _EXIT)
            self._gotos.append((node, self._text.get(node + 1, b"")))
        else:
            self._edge(node, follow)

    def _link_block(self, node: int, follow: int, jumps: _Jumps) -> None:
        statements = self._statements(node)
        if not statements:
            self._edge(node, follow)
        self._link_sequence(statements, follow, jumps)

    def _link_sequence(self, statements: list[int], follow: int, jumps: _Jumps) -> None:
        for i in reversed(range(len(statements))):
            statement = statements[i]
            if i > 0 and self._is_macro_loop(statements[i - 1], statement):
                self._link_macro_loop(statements[i - 1], statement, follow, jumps)
                continue
            self._link(statement, follow, jumps)
            # What stands before a function of the file does not run into it.
            is_top_function = self._kinds[statement] == _FUNCTION and self._parents[statement] == 0
            follow = _EXIT if is_top_function else self._entry(statement)

    def _is_macro_loop(self, head: int, body: int) -> bool:
        kinds = (self._kinds[head], self._kinds[body])
        return kinds == (_CALL, _BLOCK) and body in self._unseparated

    def _link_macro_loop(self, call: int, body: int, follow: int, jumps: _Jumps) -> None:
        """Link ``call`` as the head of a loop over ``body``: the caller links it to ``follow``."""
        self._edge(call, self._entry(body))
        self._link(body, call, _Jumps(follow, call, jumps.switch))

    def _link_function(self, node: int, follow: int, _: _Jumps) -> None:
        self._link_body(node, node, follow, _Jumps())

    def _link_body(self, head: int, node: int, follow: int, jumps: _Jumps) -> None:
        """Link ``head`` to the body of ``node``, or on to ``follow`` if it has none."""
        body = self._part(node, _BODY)
        self._edge(head, follow if body is None else self._entry(body))
        if body is not None:
            self._link(body, follow, jumps)

    def _link_if(self, node: int, follow: int, jumps: _Jumps) -> None:
        test = self._entry(node)
        for field in (_CONSEQUENCE, _ALTERNATIVE):
            branch = self._part(node, field)
            self._edge(test, follow if branch is None else self._entry(branch))
            if branch is not None:
                self._link(branch, follow, jumps)

    def _link_while(self, node: int, follow: int, jumps: _Jumps) -> None:
        test = self._entry(node)
        self._edge(test, follow)
        self._link_body(test, node, test, _Jumps(follow, test, jumps.switch))

    def _link_do(self, node: int, follow: int, jumps: _Jumps) -> None:
        test = self._part(node, _CONDITION) or node
        self._edge(test, follow)
        self._link_body(test, node, test, _Jumps(follow, test, jumps.switch))

    def _link_for(self, node: int, follow: int, jumps: _Jumps) -> None:
        initializer = self._part(node, _INITIALIZER)
        condition = self._part(node, _CONDITION)
        update = self._part(node, _UPDATE)
        head = condition or node
        again = update or head
        if initializer is not None:
            self._edge(initializer, head)
        if condition is not None:
            self._edge(condition, follow)
        if update is not None:
            self._edge(update, head)
        self._link_body(head, node, again, _Jumps(follow, again, jumps.switch))

    def _link_switch(self, node: int, follow: int, jumps: _Jumps) -> None:
        test = self._entry(node)
        self._nodes.add(test)
        # Until a default label is met, the value may match no case.
        self._switch_exits[test] = follow
        body = self._part(node, _BODY)
        if body is not None:
            self._link(body, follow, _Jumps(follow, jumps.on_continue, test))

    def _link_case(self, node: int, follow: int, jumps: _Jumps) -> None:
        if jumps.switch != _EXIT:
            self._edge(jumps.switch, node)
            if self._part(node, _VALUE) is None:
                self._switch_exits.pop(jumps.switch, None)
        self._link_after(node, follow, jumps)

    def _link_labeled(self, node: int, follow: int, jumps: _Jumps) -> None:
        label = self._part(node, _LABEL)
        if label is not None:
            self._labels[self._text.get(label, b"")] = node
        self._link_after(node, follow, jumps)

    def _link_preproc(self, node: int, follow: int, jumps: _Jumps) -> None:
        alternative = self._part(node, _ALTERNATIVE)
        self._edge(node, follow if alternative is None else self._entry(alternative))
        if alternative is not None:
            self._link(alternative, follow, jumps)
        self._link_after(node, follow, jumps)

    def _link_after(self, node: int, follow: int, jumps: _Jumps) -> None:
        """Link ``node`` to the statements it holds, and them to each other."""
        statements = self._statements(node)
        self._edge(node, self._entry(statements[0]) if statements else follow)
        self._link_sequence(statements, follow, jumps)


_LINKERS: Mapping[int, Callable[[_Builder, int, int, _Jumps], None]] = {
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
}
"""How to link each kind of node that has statements inside."""


def _structured_children(tree: SyntaxTree) -> dict[int, list[int]]:
    """Return the children of every node that may hold statements."""
    children: dict[int, list[int]] = {
        node: [] for node, kind in enumerate(tree.kinds) if kind in _LINKERS
    }
    for node, parent in enumerate(tree.parents):
        if parent in children:
            children[parent].append(node)
    return children
