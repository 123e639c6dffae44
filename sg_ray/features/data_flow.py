"""Data flow of one C function: which definition a read may see, and which read came before it.

Reaching definitions over the steps of the control flow (Aho, Lam, Sethi, Ullman, Compilers, 9.2.4)
with the accesses of all variables in one bit set, so that one fixed point gives two relations,
after LastWrite and LastUse of Allamanis, Brockschmidt, Khademi, "Learning to Represent Programs
with Graphs", ICLR 2018:

- def-use: an identifier that is written -> a read that may see that value;
- last-use: a read -> a next read of the same value on some path, with no write between. Its
  direction tells a check after a dereference from a check before it.

A path follows the short circuits of ``&&``, ``||`` and ``?:`` and the statements in ``({ ... })``.
What no path reaches is seen by nothing that one does. ``accesses`` says what counts as a read or a
write of which variable.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sg_ray.features.accesses import READ, WRITE, Access, read_accesses
from sg_ray.features.edge_numbers import TARGET_SHIFT
from sg_ray.features.flow_graph import Edge, FlowGraph
from sg_ray.features.syntax import SyntaxTree

MAX_ACCESSES = 4096
"""Accesses tracked per function, in source order; the sets stay small however long it is."""

MAX_SOURCES_PER_READ = 8
"""Edges of one relation into one read: the latest in source order are kept."""

_MAX_PASSES = 10


@dataclass(frozen=True)
class DataFlow:
    """Edges between identifier nodes, as numbers (see ``edge_numbers``), ascending."""

    def_use: list[int]
    last_use: list[int]


def data_flow(tree: SyntaxTree, flow: FlowGraph) -> DataFlow:
    """Return the data flow of ``tree``, in time linear in its size (at most 10 passes over it)."""
    accesses = read_accesses(tree, flow)[:MAX_ACCESSES]
    return _Relations(accesses).edges(_paths(flow))


class _Relations:
    """The fixed point over sets of accesses, each set an integer with one bit per access."""

    def __init__(self, accesses: list[Access]) -> None:
        self._accesses = accesses
        self._bits = [1 << number for number in range(len(accesses))]
        self._reads: dict[int, int] = {}
        self._writes: dict[int, int] = {}
        self._by_step: dict[int, list[int]] = {}
        for number, (_, step, _, variable, action) in enumerate(accesses):
            masks = self._reads if action is READ else self._writes
            masks[variable] = masks.get(variable, 0) | self._bits[number]
            if step in self._by_step:
                self._by_step[step].append(number)
            else:
                self._by_step[step] = [number]
        self._keeps = self._kept_by(accesses)

    def _kept_by(self, accesses: list[Access]) -> list[int]:
        """Return what stays visible after each access: a read hides reads, a write hides all."""
        after_read = {variable: ~reads for variable, reads in self._reads.items()}
        after_write = {v: ~(w | self._reads.get(v, 0)) for v, w in self._writes.items()}
        return [
            after_read[variable]
            if action is READ
            else after_write[variable]
            if action is WRITE
            else -1
            for _, _, _, variable, action in accesses
        ]

    def edges(self, paths: "_Paths") -> DataFlow:
        """Return the edges into each read."""
        accesses, reads, writes = self._accesses, self._reads, self._writes
        incoming = self._solve(paths)
        def_use: set[int] = set()
        last_use: set[int] = set()
        for step, numbers in self._by_step.items():
            place = paths.places.get(step)
            state = 0 if place is None else incoming[place]
            for number in numbers:
                _, _, node, variable, action = accesses[number]
                if action is READ:
                    if written := state & writes.get(variable, 0):
                        self._add_edges(def_use, written, node)
                    if read := state & reads[variable]:
                        self._add_edges(last_use, read, node)
                state = state & self._keeps[number] | self._bits[number]
        return DataFlow(sorted(def_use), sorted(last_use))

    def _solve(self, paths: "_Paths") -> list[int]:
        """Return the accesses visible on entry to the step at each place."""
        kept, generated = self._transfers(paths.places)
        incoming, outgoing = [0] * len(kept), generated.copy()
        for _ in range(_MAX_PASSES):
            has_come_back = False
            for place, sources in enumerate(paths.predecessors):
                visible = 0
                for source in sources:
                    visible |= outgoing[source]
                if visible != incoming[place]:
                    incoming[place] = visible
                    outgoing[place] = visible & kept[place] | generated[place]
                    if place in paths.returning:
                        has_come_back = True
            if not has_come_back:  # another pass would find the same
                break
        return incoming

    def _transfers(self, places: Mapping[int, int]) -> tuple[list[int], list[int]]:
        """Return what the step at each place lets through, and what it adds."""
        kept, generated = [-1] * len(places), [0] * len(places)
        for step, numbers in self._by_step.items():
            place = places.get(step)
            if place is not None:
                passes, adds = -1, 0
                for number in numbers:
                    keeps = self._keeps[number]
                    passes &= keeps
                    adds = adds & keeps | self._bits[number]
                kept[place], generated[place] = passes, adds
        return kept, generated

    def _add_edges(self, edges: set[int], state: int, read: int) -> None:
        """Add edges into the node ``read`` from those of the latest accesses in ``state``."""
        target = read << TARGET_SHIFT
        num_left = MAX_SOURCES_PER_READ
        while state and num_left:
            number = state.bit_length() - 1
            state ^= self._bits[number]
            num_left -= 1
            source = self._accesses[number][2]
            if source != read:
                edges.add(target | source)


class _Paths(NamedTuple):
    """The steps of a flow, called by their place in the order of the source."""

    places: Mapping[int, int]
    """Place of each step."""
    predecessors: list[list[int]]
    """Places of the steps before each; of those on paths from the roots, only such."""
    returning: set[int]
    """Places from which control goes back, or stays."""


def _paths(flow: FlowGraph) -> _Paths:
    places = {step: place for place, step in enumerate(flow.steps)}
    edges = [(places[source], places[target]) for source, target in flow.step_edges]
    returning = {source for source, target in edges if source >= target}
    predecessors: list[list[int]] = [[] for _ in places]
    for source, target in edges:
        predecessors[target].append(source)
    reached = _reached({places[root] for root in flow.roots}, predecessors, edges)
    if len(reached) < len(places):
        for target in reached:
            predecessors[target] = [source for source in predecessors[target] if source in reached]
    return _Paths(places, predecessors, returning)


def _reached(roots: set[int], predecessors: list[list[int]], edges: list[Edge]) -> set[int]:
    """Return the places that paths from the roots lead to."""
    reached = set(roots)
    for place, sources in enumerate(predecessors):
        if not reached.isdisjoint(sources):
            reached.add(place)
    if len(reached) == len(predecessors):  # as most often, going forward alone
        return reached
    onward: list[list[int]] = [[] for _ in predecessors]
    for source, target in edges:
        onward[source].append(target)
    ahead = list(reached)
    while ahead:
        found = [target for target in onward[ahead.pop()] if target not in reached]
        reached.update(found)
        ahead += found
    return reached
