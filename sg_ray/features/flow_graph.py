"""The flow graph of a sample: between statements, and finer between the steps within them."""

from dataclasses import dataclass
from operator import itemgetter

from sg_ray.features.edge_numbers import TARGET_SHIFT
from sg_ray.features.syntax import SyntaxTree

MAX_TARGETS = 64
"""Edges from one node that come of computed gotos or statement expressions: the first in source
order are kept."""

EXIT = -1
"""Target of a step after which the function ends."""

Edge = tuple[int, int]

_SOURCE, _TARGET = itemgetter(0), itemgetter(1)


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
    edges: list[int]
    """Without repeats, as numbers (see ``edge_numbers``), ascending."""
    roots: list[int]
    """Nodes at which execution may begin: functions, and statements outside of them."""
    steps: list[int]
    """Every step, in the order of the source."""
    step_edges: list[Edge]
    """(source, target) between steps, without repeats."""


class Steps:
    """Collects the edges between steps."""

    def __init__(self, tree: SyntaxTree) -> None:
        self.nodes: set[int] = set()
        """Steps that are nodes of the flow graph."""
        self.edges: set[Edge] = set()
        """Of control flow, with EXIT as a target."""
        self._data_edges: list[Edge] = []
        self._passed_by: set[Edge] = set()
        self._tree = tree
        self._num_nodes = len(tree.kinds)

    def end(self, node: int) -> int:
        """Return the step at the end of ``node``."""
        return self._num_nodes + node

    def any_label(self, function: int) -> int:
        """Return the step from which every label of ``function`` with an address is reached."""
        return 2 * self._num_nodes + function

    def edge(self, source: int, target: int) -> None:
        """Let control flow from ``source`` to ``target``."""
        self.edges.add((source, target))

    def data_edge(self, source: int, target: int) -> None:
        """Let values flow from ``source`` to ``target``, but not control within the function."""
        if target != EXIT:
            self._data_edges.append((source, target))

    def pass_by(self, source: int, target: int) -> None:
        """Let control flow from ``source`` to ``target``, but values by another way."""
        self._passed_by.add((source, target))

    def join(self, node: int, *targets: int) -> int:
        """Return the end of ``node``, which leads to ``targets``."""
        for target in targets:
            self.edge(self.end(node), target)
        return self.end(node)

    def graph(self, roots: list[int]) -> FlowGraph:
        """Return what was collected."""
        edges = {edge for edge in self.edges if edge[1] != EXIT}
        step_edges = edges
        steps = self.nodes.union(map(_SOURCE, self.edges))
        if self._data_edges:
            step_edges = (edges - self._passed_by).union(self._data_edges)
            # a nested function may have no path to its end
            steps.update(map(_SOURCE, step_edges))
        steps.update(map(_TARGET, step_edges))
        if len(steps) > len(self.nodes):
            edges = _between(self.nodes, edges)
        has_ends = max(steps, default=0) >= self._num_nodes
        return FlowGraph(
            nodes=sorted(self.nodes),
            edges=sorted([target << TARGET_SHIFT | source for source, target in edges]),
            roots=roots,
            steps=sorted(steps, key=self._place if has_ends else None),
            step_edges=list(step_edges),
        )

    def _place(self, step: int) -> float:
        """Return where ``step`` stands in the source, by node numbers."""
        turn, node = divmod(step, self._num_nodes)
        return self._tree.last[node] + turn / 4 if turn else node


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
