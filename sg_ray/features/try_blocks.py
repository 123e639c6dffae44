"""``__try`` blocks of Windows (structured exception handling): how they are left."""

from typing import NamedTuple

from sg_ray.features.flow_graph import Steps

NOWHERE = -1
"""The ``__try`` of what stands in none."""

_MAX_DEPTH = 64
"""Blocks around each other that a jump looks at."""


class _Try(NamedTuple):
    outer: int
    handler: int
    end: int
    has_finally: bool


class _Finally(NamedTuple):
    seh_try: int
    done: int
    follow: int


class TryBlocks:
    """Any statement of a ``__try`` may raise; whatever leaves it runs its ``__finally``.

    A ``__finally`` goes on from the end of its ``__try`` to wherever it was left for.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._blocks: dict[int, _Try] = {}
        self._handlers: dict[int, int] = {}
        self._finals: list[_Finally] = []

    def add_except(self, node: int, outer: int, handler: int, follow: int) -> None:
        """Add a ``__try`` inside ``outer`` that raises to ``handler``, or goes on at ``follow``."""
        self._blocks[node] = _Try(outer, handler, follow, has_finally=False)

    def add_finally(self, node: int, outer: int, handler: int, done: int, follow: int) -> None:
        """Add a ``__try`` whose ``__finally`` begins at ``handler``.

        ``done`` is a step for its normal end, after which the ``__finally`` leads to ``follow``.
        """
        self._blocks[node] = _Try(outer, handler, done, has_finally=True)
        self._finals.append(_Finally(node, done, follow))
        self._steps.edge(done, handler)
        if outer != NOWHERE:
            self._steps.edge(self._steps.end(node), self._blocks[outer].handler)

    def end_of(self, seh_try: int) -> int:
        """Return where ``__leave`` in it leads."""
        return self._blocks[seh_try].end

    def may_raise(self, step: int, seh_try: int) -> None:
        """Let ``step`` lead to the handler of the ``__try`` that it is in, if any."""
        if seh_try != NOWHERE:
            handler = self._blocks[seh_try].handler
            self._handlers[step] = handler
            self._steps.edge(step, handler)

    def leave_to(self, target: int, inner: int, outer: int) -> int:
        """Return where a jump from the ``__try`` ``inner`` to ``target`` in ``outer`` leads first.

        Each ``__finally`` that it passes is run on the way.
        """
        if inner == outer:
            return target
        passed = []
        for seh_try in self._around(inner):
            if seh_try == outer:
                break
            if self._blocks[seh_try].has_finally:
                passed.append(seh_try)
        for seh_try in reversed(passed):
            self._steps.edge(self._steps.end(seh_try), target)
            target = self._blocks[seh_try].handler
        return target

    def common(self, first: int, second: int) -> int:
        """Return the innermost ``__try`` around both."""
        around = set(self._around(second))
        return next((seh_try for seh_try in self._around(first) if seh_try in around), NOWHERE)

    def _around(self, seh_try: int) -> list[int]:
        found: list[int] = []
        while seh_try != NOWHERE and len(found) < _MAX_DEPTH:
            found.append(seh_try)
            seh_try = self._blocks[seh_try].outer
        return found

    def link_late(self) -> None:
        """Add what is known only when all other edges are there."""
        reached = {target for _, target in self._steps.edges} if self._finals else set()
        for seh_try, done, follow in self._finals:
            if done in reached:
                self._steps.edge(self._steps.end(seh_try), follow)
        if self._handlers:
            for source, target in self._steps.edges:
                # A statement may raise before it has done what it does.
                if target in self._handlers:
                    self._steps.data_edge(source, self._handlers[target])
