"""Data flow of one C function: which definition a read may see, and which read came before it.

Reaching definitions over the control-flow graph (Aho, Lam, Sethi, Ullman, Compilers, 9.2.4) with
the accesses of all variables in one bit set, so that one fixed point gives two relations, after
LastWrite and LastUse of Allamanis, Brockschmidt, Khademi, "Learning to Represent Programs with
Graphs", ICLR 2018:

- def-use: an identifier that is written -> a read that may see that value;
- last-use: a read -> a next read of the same value on some path, with no write between. Its
  direction tells a check after a dereference from a check before it.

A variable is a declaration and the scope it holds in; names never declared inside the function
(globals, macros) are one variable each, and names of called or declared functions are none. A
declaration without initialiser writes (the undefined value). ``x += 1`` and ``x++`` read, then
write. ``&x`` reads and may write, so earlier writes stay visible. A write through a pointer, index
or member reads its base variable. There is no alias analysis.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from sg_ray.features.control_flow import FlowGraph
from sg_ray.features.syntax import SyntaxTree, field_id, kind_id

MAX_ACCESSES = 4096
"""Accesses tracked per function, in source order; the sets stay small however long it is."""

MAX_SOURCES_PER_READ = 8
"""Edges of one relation into one read: the latest in source order are kept."""

_MAX_PASSES = 10

_IDENTIFIER = kind_id("identifier")
_CALL = kind_id("call_expression")
_ASSIGNMENT = kind_id("assignment_expression")
_UPDATE = kind_id("update_expression")
_ADDRESS_OR_DEREFERENCE = kind_id("pointer_expression")
_FUNCTION_DECLARATOR = kind_id("function_declarator")
_INIT_DECLARATOR = kind_id("init_declarator")
_DECLARATION = kind_id("declaration")
_PARAMETER = kind_id("parameter_declaration")
_ASSIGN = kind_id("=", named=False)
_AMPERSAND = kind_id("&", named=False)

_DECLARATORS = frozenset(
    [
        *map(kind_id, ("pointer_declarator", "array_declarator", "attributed_declarator")),
        _FUNCTION_DECLARATOR,
        _INIT_DECLARATOR,
    ]
)
_SCOPES = frozenset(map(kind_id, ("function_definition", "compound_statement", "for_statement")))

_FUNCTION = field_id("function")
_DECLARATOR = field_id("declarator")
_LEFT = field_id("left")


@dataclass(frozen=True)
class DataFlow:
    """Edges between identifier nodes, (source, target), sorted by target, then source."""

    def_use: list[tuple[int, int]]
    last_use: list[tuple[int, int]]


def data_flow(tree: SyntaxTree, flow: FlowGraph) -> DataFlow:
    """Return the data flow of ``tree``, in time linear in its size (at most 10 passes over it)."""
    accesses = _AccessReader(tree, flow).read()
    return _Relations(accesses[:MAX_ACCESSES]).edges(flow)


class _Action(Enum):
    READ = 0
    WRITE = 1
    MAY_WRITE = 2


class _Access(NamedTuple):
    """One event at an identifier.

    ``flow_node`` is the statement it is part of, ``time`` orders the events of one statement: a
    read happens at its place in the source, a write when the assignment around it is complete.
    """

    flow_node: int
    time: float
    node: int
    variable: int
    action: _Action


class _Scopes:
    """From names to variables, while walking the tree in source order."""

    def __init__(self) -> None:
        self._open: list[tuple[int, list[bytes]]] = []
        self._bindings: dict[bytes, list[int]] = {}
        self._undeclared: dict[bytes, int] = {}
        self._num_variables = 0

    def enter(self, last: int) -> None:
        """Open a scope that ends with node ``last``."""
        self._open.append((last, []))

    def leave_before(self, node: int) -> None:
        """Close the scopes that end before ``node``."""
        while self._open and self._open[-1][0] < node:
            for name in self._open.pop()[1]:
                self._bindings[name].pop()

    def declare(self, name: bytes) -> int:
        """Return a new variable, which hides outer ones of the same name."""
        variable = self._num_variables
        self._num_variables += 1
        self._bindings.setdefault(name, []).append(variable)
        if self._open:
            self._open[-1][1].append(name)
        return variable

    def is_declared(self, name: bytes) -> bool:
        """Return whether a declaration of ``name`` holds here."""
        return bool(self._bindings.get(name))

    def find(self, name: bytes) -> int:
        """Return the variable that ``name`` means here."""
        if self.is_declared(name):
            return self._bindings[name][-1]
        if name not in self._undeclared:
            self._undeclared[name] = self._num_variables
            self._num_variables += 1
        return self._undeclared[name]


class _AccessReader:
    """Finds what each identifier of a tree does to which variable."""

    def __init__(self, tree: SyntaxTree, flow: FlowGraph) -> None:
        self._tree = tree
        self._last = _last_descendants(tree.parents)
        self._owners = _owners(tree.parents, flow.nodes)
        self._scopes = _Scopes()

    def read(self) -> list[_Access]:
        """Return all accesses, ordered by flow node, then by time."""
        texts = dict(zip(self._tree.leaves, self._tree.texts, strict=True))
        accesses: list[_Access] = []
        for node, kind in enumerate(self._tree.kinds):
            if kind in _SCOPES:
                self._scopes.leave_before(node)
                self._scopes.enter(self._last[node])
            elif kind == _IDENTIFIER:
                self._scopes.leave_before(node)
                accesses.extend(self._read_identifier(node, texts[node]))
        return sorted(accesses)

    def _read_identifier(self, node: int, name: bytes) -> Iterator[_Access]:
        tree = self._tree
        parent, field = tree.parents[node], tree.fields[node]
        parent_kind = tree.kinds[parent]
        if field == _DECLARATOR:
            yield from self._read_declarator(node, name)
            return
        if field == _FUNCTION and parent_kind == _CALL and not self._scopes.is_declared(name):
            return
        variable = self._scopes.find(name)
        is_assigned = field == _LEFT and parent_kind == _ASSIGNMENT
        if not (is_assigned and tree.kinds[node + 1 : node + 2] == [_ASSIGN]):
            yield self._access(node, node, variable, _Action.READ)
        if is_assigned:
            yield self._access(node, self._last[parent] + 0.5, variable, _Action.WRITE)
        elif parent_kind == _UPDATE:
            yield self._access(node, node + 0.5, variable, _Action.WRITE)
        elif parent_kind == _ADDRESS_OR_DEREFERENCE and tree.kinds[node - 1] == _AMPERSAND:
            yield self._access(node, node + 0.5, variable, _Action.MAY_WRITE)

    def _read_declarator(self, node: int, name: bytes) -> Iterator[_Access]:
        kinds, parents = self._tree.kinds, self._tree.parents
        top = parents[node]
        if kinds[top] == _FUNCTION_DECLARATOR:
            return
        time: float = node
        while kinds[top] in _DECLARATORS:
            if kinds[top] == _INIT_DECLARATOR:
                time = self._last[top] + 0.5
            top = parents[top]
        is_prototype = kinds[self._owners[node]] == _DECLARATION
        if kinds[top] == _DECLARATION or (kinds[top] == _PARAMETER and not is_prototype):
            yield self._access(node, time, self._scopes.declare(name), _Action.WRITE)

    def _access(self, node: int, time: float, variable: int, action: _Action) -> _Access:
        return _Access(self._owners[node], time, node, variable, action)


class _Relations:
    """The fixed point over sets of accesses, each set an integer with one bit per access."""

    def __init__(self, accesses: list[_Access]) -> None:
        self._accesses = accesses
        self._reads: dict[int, int] = {}
        self._writes: dict[int, int] = {}
        self._by_flow_node: dict[int, list[int]] = {}
        for number, access in enumerate(accesses):
            masks = self._reads if access.action is _Action.READ else self._writes
            masks[access.variable] = masks.get(access.variable, 0) | 1 << number
            self._by_flow_node.setdefault(access.flow_node, []).append(number)

    def edges(self, flow: FlowGraph) -> DataFlow:
        """Return the edges into each read."""
        incoming = self._solve(flow)
        def_use: list[tuple[int, int]] = []
        last_use: list[tuple[int, int]] = []
        for flow_node, numbers in self._by_flow_node.items():
            state = incoming.get(flow_node, 0)
            for number in numbers:
                access = self._accesses[number]
                if access.action is _Action.READ:
                    def_use += self._sources(state & self._writes.get(access.variable, 0), access)
                    last_use += self._sources(state & self._reads[access.variable], access)
                state = self._after(state, number)
        return DataFlow(_by_target(def_use), _by_target(last_use))

    def _solve(self, flow: FlowGraph) -> dict[int, int]:
        """Return the accesses visible on entry to each flow node."""
        predecessors: dict[int, list[int]] = {node: [] for node in flow.nodes}
        for source, target in flow.edges:
            predecessors[target].append(source)
        transfers = {node: self._transfer(node) for node in flow.nodes}
        incoming = dict.fromkeys(flow.nodes, 0)
        outgoing = {node: generated for node, (_, generated) in transfers.items()}
        for _ in range(_MAX_PASSES):
            changed = False
            for node, sources in predecessors.items():
                visible = 0
                for source in sources:
                    visible |= outgoing[source]
                if visible != incoming[node]:
                    kept, generated = transfers[node]
                    incoming[node] = visible
                    outgoing[node] = visible & kept | generated
                    changed = True
            if not changed:
                break
        return incoming

    def _transfer(self, flow_node: int) -> tuple[int, int]:
        """Return what a flow node lets through, and what it adds."""
        kept, generated = (1 << len(self._accesses)) - 1, 0
        for number in self._by_flow_node.get(flow_node, ()):
            kept = self._after(kept, number)
            generated = self._after(generated, number)
        return kept, generated

    def _after(self, state: int, number: int) -> int:
        """Return ``state`` after one access: a read hides earlier reads, a write hides all."""
        access = self._accesses[number]
        if access.action is not _Action.MAY_WRITE:
            state &= ~self._reads.get(access.variable, 0)
        if access.action is _Action.WRITE:
            state &= ~self._writes[access.variable]
        return state | 1 << number

    def _sources(self, state: int, read: _Access) -> Iterator[tuple[int, int]]:
        for _ in range(MAX_SOURCES_PER_READ):
            if not state:
                return
            number = state.bit_length() - 1
            state ^= 1 << number
            source = self._accesses[number].node
            if source != read.node:
                yield source, read.node


def _by_target(edges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return sorted(set(edges), key=lambda edge: (edge[1], edge[0]))


def _last_descendants(parents: list[int]) -> list[int]:
    """Return, for each node, the last node of its subtree."""
    last = list(range(len(parents)))
    for node in range(len(parents) - 1, 0, -1):
        parent = parents[node]
        last[parent] = max(last[parent], last[node])
    return last


def _owners(parents: list[int], flow_nodes: list[int]) -> list[int]:
    """Return, for each node, the innermost flow node around it (node 0 if there is none)."""
    owners = [0] * len(parents)
    for node in flow_nodes:
        owners[node] = node
    for node in range(1, len(parents)):
        if owners[node] == 0:
            owners[node] = owners[parents[node]]
    return owners
