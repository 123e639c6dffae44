"""Which identifier reads or writes which variable, at which step of the flow.

A variable is a declaration and the scope it holds in; names never declared inside the function
(globals, macros) are one variable each, and names of called or declared functions, labels and
assembly operands are none. A name in ``sizeof``, ``typeof``, an attribute or the choice of
``_Generic`` is not evaluated, so not read, except for the size of a variable-length array.

- A declaration without initialiser writes (the undefined value), a parameter is written on entry:
  at its declaration, or in the name list of an old-style function where it has none.
- ``static`` and ``extern`` variables have a value already: their declaration may be what is read,
  but hides nothing.
- ``x += 1`` and ``x++`` read, then write; the right side is read before the left is written.
- ``&x`` reads and may write, so earlier writes stay visible.
- A write through a pointer, index or member reads its base variable. There is no alias analysis.
- An assembly statement reads its inputs and ``+`` operands, then writes its outputs. Names in the
  text of assembly are not looked at, nor are those in ``__asm { ... }``.
- An enumerator hides variables of its name and is never written.
"""

from enum import Enum
from operator import itemgetter

from sg_ray.features.flow_graph import FlowGraph
from sg_ray.features.syntax import ERROR_KIND, SyntaxTree, field_id, kind_id, kind_set

_IDENTIFIER = kind_id("identifier")
_LABEL_NAME = kind_id("statement_identifier")
_CALL = kind_id("call_expression")
_ARGUMENTS = kind_id("argument_list")
_ASSIGNMENT = kind_id("assignment_expression")
_UPDATE = kind_id("update_expression")
_ADDRESS_OR_DEREFERENCE = kind_id("pointer_expression")
_GENERIC = kind_id("generic_expression")
_GOTO = kind_id("goto_statement")
_FUNCTION_DEFINITION = kind_id("function_definition")
_FUNCTION_DECLARATOR = kind_id("function_declarator")
_INIT_DECLARATOR = kind_id("init_declarator")
_ARRAY_SIZE = kind_id("abstract_array_declarator")
_DECLARATION = kind_id("declaration")
_PARAMETER = kind_id("parameter_declaration")
_PARAMETERS = kind_id("parameter_list")
_STORAGE_CLASS = kind_id("storage_class_specifier")
_ENUMERATOR = kind_id("enumerator")
_ASM_OUTPUT = kind_id("gnu_asm_output_operand")
_ASM_LABELS = kind_id("gnu_asm_goto_list")
_ASSIGN = kind_id("=", named=False)
_AMPERSAND = kind_id("&", named=False)

_DECLARATORS = frozenset(
    [
        *map(kind_id, ("pointer_declarator", "array_declarator", "attributed_declarator")),
        _FUNCTION_DECLARATOR,
        _INIT_DECLARATOR,
    ]
)
_TYPES = frozenset(
    [_DECLARATION, _PARAMETER, *map(kind_id, ("type_descriptor", "type_definition"))]
)
_SCOPES = frozenset(map(kind_id, ("function_definition", "compound_statement", "for_statement")))

_WRITING = frozenset([_ASSIGNMENT, _ASM_OUTPUT, _UPDATE, _ADDRESS_OR_DEREFERENCE])
_PRODUCT = frozenset([_ADDRESS_OR_DEREFERENCE, kind_id("binary_expression"), ERROR_KIND])

_UNEVALUATED = frozenset(
    map(
        kind_id,
        ("sizeof_expression", "alignof_expression", "attribute_specifier", "macro_type_specifier"),
    )
)
_SPECIAL = kind_set(_SCOPES | _UNEVALUATED | {_IDENTIFIER, _LABEL_NAME, _GENERIC, _ARRAY_SIZE})
"""Nodes that say something about the names in them."""

_TELLING = _WRITING | {_ENUMERATOR, _PARAMETERS, _CALL, _ASM_LABELS}
"""Parents under which an identifier may be more than read."""

_FUNCTION = field_id("function")
_DECLARATOR = field_id("declarator")
_LEFT = field_id("left")
_VALUE = field_id("value")
_SYMBOL = field_id("symbol")

_TELLING_FIELDS = frozenset([_DECLARATOR, _SYMBOL])
"""Fields in which it may be."""


class Action(Enum):
    """What is done to a variable."""

    READ = 0
    WRITE = 1
    MAY_WRITE = 2


READ, WRITE, MAY_WRITE = Action

Access = tuple[float, int, int, int, Action]
"""One event at an identifier: time, step, node, variable, action.

``step`` is the step of the flow it is part of, ``time`` orders the events of one step: a read
happens at its place in the source, a write when the assignment around it is complete. A plain
tuple, as there are dozens in every function.
"""


def read_accesses(tree: SyntaxTree, flow: FlowGraph) -> list[Access]:
    """Return all accesses, those of one step in order of time."""
    return _AccessReader(tree, flow).read()


class _Scopes:
    """From names to variables, while walking the tree in source order."""

    def __init__(self, num_nodes: int) -> None:
        self.end = num_nodes
        """The last node of the innermost scope, or one more than all nodes."""
        self._open: list[tuple[int, list[tuple[bytes, int | None]]]] = []
        """The end around each open scope, and what the names declared in it meant before."""
        self._declared: dict[bytes, int] = {}
        self._undeclared: dict[bytes, int] = {}
        self._num_variables = 0

    def enter(self, last: int) -> None:
        """Open a scope that ends with node ``last``."""
        self._open.append((self.end, []))
        self.end = last

    def leave_before(self, node: int) -> None:
        """Close the scopes that end before ``node``."""
        while self.end < node:
            self.end, hidden = self._open.pop()
            for name, variable in reversed(hidden):
                if variable is None:
                    del self._declared[name]
                else:
                    self._declared[name] = variable

    def declare(self, name: bytes) -> int:
        """Return a new variable, which hides outer ones of the same name."""
        variable = self._num_variables
        self._num_variables += 1
        if self._open:
            self._open[-1][1].append((name, self._declared.get(name)))
        self._declared[name] = variable
        return variable

    def is_declared(self, name: bytes) -> bool:
        """Return whether a declaration of ``name`` holds here."""
        return name in self._declared

    def find(self, name: bytes) -> int:
        """Return the variable that ``name`` means here."""
        variable = self._declared.get(name)
        if variable is None:
            variable = self._undeclared.get(name)
        if variable is None:
            variable = self._undeclared[name] = self._num_variables
            self._num_variables += 1
        return variable


class _AccessReader:
    """Finds what each identifier of a tree does to which variable."""

    def __init__(self, tree: SyntaxTree, flow: FlowGraph) -> None:
        self._tree = tree
        self._last = tree.last
        self._steps = frozenset(flow.steps)
        self._scopes = _Scopes(len(tree.kinds))
        self._unevaluated_until = -1
        self._accesses: list[Access] = []

    def read(self) -> list[Access]:
        tree, scopes = self._tree, self._scopes
        kinds, parents, fields, texts = tree.kinds, tree.parents, tree.fields, tree.texts
        may_be_macro_heads = bool(tree.unseparated)
        for node in tree.nodes_of(_SPECIAL):
            kind = kinds[node]
            if kind == _IDENTIFIER:
                if node <= self._unevaluated_until:
                    continue
                if scopes.end < node:
                    scopes.leave_before(node)
                name = texts[node] or b""
                if (
                    kinds[parents[node]] in _TELLING
                    or fields[node] in _TELLING_FIELDS
                    or may_be_macro_heads
                ):
                    self._read_identifier(node, name)
                else:
                    self._read(node, scopes.find(name))
            elif kind in _SCOPES:
                scopes.leave_before(node)
                scopes.enter(self._last[node])
            elif kind in _UNEVALUATED:
                self._skip(node)
            elif kind == _GENERIC:
                self._skip(node + 1)
            elif kind == _ARRAY_SIZE:
                self._unevaluated_until = -1
            elif self._is_computed_goto(node):
                scopes.leave_before(node)
                self._read(node, scopes.find(texts[node] or b""))
        return sorted(self._accesses, key=itemgetter(0))

    def _skip(self, node: int) -> None:
        self._unevaluated_until = max(self._unevaluated_until, self._last[node])

    def _is_computed_goto(self, label: int) -> bool:
        """Return whether ``label`` is the ``p`` of ``goto *p``, which the grammar does not know."""
        goto = self._tree.parents[label]
        kinds = self._tree.kinds
        return kinds[goto] == _GOTO and kinds[goto + 1] == ERROR_KIND

    def _read_identifier(self, node: int, name: bytes) -> None:
        tree = self._tree
        parent, field = tree.parents[node], tree.fields[node]
        parent_kind = tree.kinds[parent]
        if field == _DECLARATOR:
            self._read_declarator(node, name)
        elif parent_kind == _ENUMERATOR and field != _VALUE:
            self._scopes.declare(name)  # a constant has no value to write
        elif self._is_parameter_name(node, parent_kind):
            if not self._is_in_prototype(parent):
                self._add(node, node, self._scopes.declare(name), WRITE)
        elif not self._is_no_variable(node, name, parent, parent_kind):
            self._read_operand(node, parent, parent_kind, self._scopes.find(name))

    def _is_no_variable(self, node: int, name: bytes, parent: int, parent_kind: int) -> bool:
        field = self._tree.fields[node]
        if parent_kind == _CALL:
            return field == _FUNCTION and not self._scopes.is_declared(name)
        if parent_kind == _ADDRESS_OR_DEREFERENCE:
            return self._is_label_address(parent)
        return parent_kind == _ASM_LABELS or (field == _SYMBOL and field != 0)

    def _is_label_address(self, operation: int) -> bool:
        """Return whether ``operation`` is the inner half of ``&&label``."""
        kinds, outer = self._tree.kinds, self._tree.parents[operation]
        return (
            kinds[outer] == _ADDRESS_OR_DEREFERENCE
            and kinds[operation + 1] == kinds[outer + 1] == _AMPERSAND
        )

    def _read_operand(self, node: int, parent: int, parent_kind: int, variable: int) -> None:
        tree = self._tree
        field = tree.fields[node]
        if parent_kind not in _WRITING:
            self._read(node, variable)
            return
        is_assigned = parent_kind == _ASSIGNMENT and field == _LEFT
        is_output = parent_kind == _ASM_OUTPUT and field == _VALUE
        is_overwritten = (is_assigned and tree.kinds[node + 1 : node + 2] == [_ASSIGN]) or (
            is_output and b"+" not in (tree.texts[node - 1] or b"")
        )
        if not is_overwritten:
            self._read(node, variable)
        if is_assigned:
            self._complete(parent, node, variable, WRITE)
        elif is_output:
            self._complete(tree.parents[tree.parents[parent]], node, variable, WRITE)
        elif parent_kind == _UPDATE:
            self._add(node, node + 0.5, variable, WRITE)
        elif parent_kind == _ADDRESS_OR_DEREFERENCE and tree.kinds[node - 1] == _AMPERSAND:
            self._add(node, node + 0.5, variable, MAY_WRITE)

    def _read_declarator(self, node: int, name: bytes) -> None:
        kinds, parents = self._tree.kinds, self._tree.parents
        top = parents[node]
        if kinds[top] == _FUNCTION_DECLARATOR:
            return
        initialised = None
        while kinds[top] in _DECLARATORS:
            if kinds[top] == _INIT_DECLARATOR:
                initialised = top
            top = parents[top]
        is_parameter = kinds[top] == _PARAMETER and not self._is_in_prototype(parents[top])
        # The only parameter of a function without a type: f(x) { ... } looks like f x { ... }.
        is_parameter |= kinds[top] == _FUNCTION_DEFINITION and parents[top] == 0
        if not is_parameter and kinds[top] != _DECLARATION:
            return
        action = MAY_WRITE if self._has_value_already(top) else WRITE
        variable = self._scopes.declare(name)
        if initialised is None:
            self._add(node, node, variable, action)
        else:
            self._complete(initialised, node, variable, action)

    def _has_value_already(self, declaration: int) -> bool:
        """Return whether ``static`` or ``extern`` stands before the name, in any order of words."""
        kinds, fields, text = self._tree.kinds, self._tree.fields, self._tree.texts
        part = declaration + 1
        while part <= self._last[declaration] and fields[part] != _DECLARATOR:
            if kinds[part] == _STORAGE_CLASS and text[part] in (b"static", b"extern"):
                return True
            part = self._last[part] + 1
        return False

    def _is_in_prototype(self, parameters: int) -> bool:
        """Return whether ``parameters`` are those of a type: their names mean nothing."""
        kinds, top = self._tree.kinds, self._tree.parents[parameters]
        while kinds[top] in _DECLARATORS:
            top = self._tree.parents[top]
        return kinds[top] in _TYPES

    def _is_parameter_name(self, node: int, parent_kind: int) -> bool:
        """Return whether ``node`` is in the name list of an old-style function.

        A function without a type looks like a call before a block, with ``T *x`` as a product.
        """
        if parent_kind == _PARAMETERS:
            return True
        if not self._tree.unseparated:
            return False
        argument, parents, kinds = node, self._tree.parents, self._tree.kinds
        while kinds[parents[argument]] in _PRODUCT:
            argument = parents[argument]
        call = parents[parents[argument]]
        return (
            kinds[parents[argument]] == _ARGUMENTS
            and node == self._last[argument]
            and parents[call] == 0
            and self._last[call] + 1 in self._tree.unseparated
        )

    def _read(self, node: int, variable: int) -> None:
        self._accesses.append((node, self._step_of(node), node, variable, READ))

    def _add(self, node: int, time: float, variable: int, action: Action) -> None:
        self._accesses.append((time, self._step_of(node), node, variable, action))

    def _complete(self, expression: int, node: int, variable: int, action: Action) -> None:
        """Add what ``expression`` does to ``variable`` when all its operands are done."""
        end = len(self._tree.kinds) + expression
        step = end if end in self._steps else self._step_of(node)
        # Of expressions that end at the same place, the inner one is done first.
        time = self._last[expression] + 1 - expression / (2 * len(self._tree.kinds))
        self._accesses.append((time, step, node, variable, action))

    def _step_of(self, node: int) -> int:
        """Return the innermost step around ``node`` (node 0 if there is none)."""
        steps, parents = self._steps, self._tree.parents
        while node and node not in steps:
            node = parents[node]
        return node
