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

from collections.abc import Iterator
from dataclasses import dataclass

from sg_ray.features.accesses import Access, Action, read_accesses
from sg_ray.features.flow_graph import FlowGraph
from sg_ray.features.syntax import SyntaxTree

MAX_ACCESSES = 4096
"""Accesses tracked per function, in source order; the sets stay small however long it is."""

MAX_SOURCES_PER_READ = 8
"""Edges of one relation into one read: the latest in source order are kept."""

_MAX_PASSES = 10


@dataclass(frozen=True)
class DataFlow:
    """Edges between identifier nodes, (source, target), sorted by target, then source."""

    def_use: list[tuple[int, int]]
    last_use: list[tuple[int, int]]


def data_flow(tree: SyntaxTree, flow: FlowGraph) -> DataFlow:
    """Return the data flow of ``tree``, in time linear in its size (at most 10 passes over it)."""
    accesses = read_accesses(tree, flow)
    return _Relations(accesses[:MAX_ACCESSES]).edges(flow)


class _Relations:
    """The fixed point over sets of accesses, each set an integer with one bit per access."""

    def __init__(self, accesses: list[Access]) -> None:
        self._accesses = accesses
        self._reads: dict[int, int] = {}
        self._writes: dict[int, int] = {}
        self._by_step: dict[int, list[int]] = {}
        for number, (step, _, _, variable, action) in enumerate(accesses):
            masks = self._reads if action is Action.READ else self._writes
            masks[variable] = masks.get(variable, 0) | 1 << number
            self._by_step.setdefault(step, []).append(number)
        self._keeps = list(self._kept_by(accesses))

    def _kept_by(self, accesses: list[Access]) -> Iterator[int]:
        """Yield what stays visible after each access: a read hides reads, a write hides all."""
        after_read = {variable: ~reads for variable, reads in self._reads.items()}
        after_write = {v: ~(w | self._reads.get(v, 0)) for v, w in self._writes.items()}
        for _, _, _, variable, action in accesses:
            if action is Action.READ:
                yield after_read[variable]
            else:
                yield after_write[variable] if action is Action.WRITE else -1

    def edges(self, flow: FlowGraph) -> DataFlow:
        """Return the edges into each read."""
        incoming = self._solve(flow)
        def_use: list[tuple[int, int]] = []
        last_use: list[tuple[int, int]] = []
        for step, numbers in self._by_step.items():
            state = incoming.get(step, 0)
            for number in numbers:
                _, _, node, variable, action = self._accesses[number]
                if action is Action.READ:
                    if written := state & self._writes.get(variable, 0):
                        def_use += self._sources(written, node)
                    if read := state & self._reads[variable]:
                        last_use += self._sources(read, node)
                state = state & self._keeps[number] | 1 << number
        return DataFlow(_by_target(def_use), _by_target(last_use))

    def _solve(self, flow: FlowGraph) -> dict[int, int]:
        """Return the accesses visible on entry to each step."""
        predecessors = _predecessors(flow)
        transfers = {step: self._transfer(step) for step in flow.steps}
        incoming = dict.fromkeys(flow.steps, 0)
        outgoing = {step: generated for step, (_, generated) in transfers.items()}
        for _ in range(_MAX_PASSES):
            changed = False
            for step, sources in predecessors.items():
                visible = 0
                for source in sources:
                    visible |= outgoing[source]
                if visible != incoming[step]:
                    kept, generated = transfers[step]
                    incoming[step] = visible
                    outgoing[step] = visible & kept | generated
                    changed = True
            if not changed:
                break
        return incoming

    def _transfer(self, step: int) -> tuple[int, int]:
        """Return what a step lets through, and what it adds."""
        kept, generated = -1, 0
        for number in self._by_step.get(step, ()):
            kept &= self._keeps[number]
            generated = generated & self._keeps[number] | 1 << number
        return kept, generated

    def _sources(self, state: int, read: int) -> list[tuple[int, int]]:
        """Return (node ``read``, node of an access) for the latest accesses in ``state``."""
        found: list[tuple[int, int]] = []
        for _ in range(MAX_SOURCES_PER_READ):
            if not state:
                break
            number = state.bit_length() - 1
            state ^= 1 << number
            source = self._accesses[number].node
            if source != read:
                found.append((read, source))
        return found


def _by_target(edges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return (target, source) as (source, target), without repeats, in order."""
    return [(source, target) for target, source in sorted(set(edges))]


def _predecessors(flow: FlowGraph) -> dict[int, list[int]]:
    """Return the steps before each step; to those on paths from the roots, only such."""
    onward: dict[int, list[int]] = {step: [] for step in flow.steps}
    for source, target in flow.step_edges:
        onward[source].append(target)
    reached = set(flow.roots)
    ahead = list(reached)
    while ahead:
        found = [target for target in onward[ahead.pop()] if target not in reached]
        reached.update(found)
        ahead += found
    predecessors: dict[int, list[int]] = {step: [] for step in flow.steps}
    all_reached = len(reached) == len(flow.steps)
    for source, target in flow.step_edges:
        if all_reached or source in reached or target not in reached:
            predecessors[target].append(source)
    return predecessors
