"""Nodes that are about to be taken away: spot machines on notice, nodes that are being drained."""

import time
from collections.abc import Callable

from sg_ray.cluster.placing.capacity import draining_nodes
from sg_ray.cluster.stop_board import StopBoard

_LOOKED_UP_EVERY_S = 2.0


class LeavingNodes:
    """Tells the trials of such nodes to save their positions, each node once.

    Ray places nothing new on them. The groups of ``cluster.groups`` are told by Train, too.
    """

    def __init__(self, board: StopBoard, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._board, self._now_s = board, now_s
        self._next_look_s = 0.0
        self._told: set[str] = set()

    def look(self) -> None:
        """Ask Ray which there are, every few seconds. Raises nothing for a node that is gone."""
        if self._now_s() < self._next_look_s:
            return
        self._next_look_s = self._now_s() + _LOOKED_UP_EVERY_S
        for node_id in draining_nodes() - self._told:
            self._told.add(node_id)
            self._board.ask_to_stop(node_id)

    def explain(self, text: str) -> bool:
        """Return whether what Ray says of a trial's death names one of them: no loss to count."""
        return any(node_id in text for node_id in self._told)
