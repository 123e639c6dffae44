"""A split of program graphs as batches, in the orders that ``typed_graph.TypedGraph`` describes.

Shape legend: n samples in a split, N nodes, E edges, T edge types, S slots in a batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sg_ray.features.packed import Ragged
from sg_ray.models.family import Batch, Capacity
from sg_ray.models.typed_graph import size_key

Ints = NDArray[np.int64]
End = Literal["source", "target"]

_NUM_JUDGED = 256
"""Graphs from which the narrower end of each edge type is judged."""

_NODES_AT_ONCE = 1 << 20
"""Nodes of the graphs whose slots are counted together, which bounds the memory for it."""

_ROUNDED_TO = 64
"""Capacities are multiples of it: memory is aligned, and few sets of shapes are enough."""


@dataclass(frozen=True)
class GraphSplit:
    """One split of packed graphs. A batch is one large graph without edges between samples."""

    labels: NDArray[np.int8]
    arrays: Mapping[str, Ragged]
    num_edge_types: int
    padded: bool = False

    @cached_property
    def units(self) -> Ints:
        """Nodes of each graph, shape [n]."""
        return np.maximum(self.arrays["node_kind"].lengths, 1)

    @cached_property
    def ends(self) -> tuple[End, ...]:
        """The end of each edge type at which fewer nodes are, judged by the first graphs."""
        first = slice(0, _NUM_JUDGED)
        at_source, at_target = (self._num_slots(first, side).sum(axis=0) for side in (0, 1))
        return tuple("source" if fewer else "target" for fewer in at_source < at_target)

    @cached_property
    def num_slots(self) -> Ints:
        """Nodes at the narrower end of each edge type, shape [n, T]."""
        boundaries = np.arange(0, self.arrays["node_kind"].offsets[-1], _NODES_AT_ONCE)
        starts = np.searchsorted(self.arrays["node_kind"].offsets, boundaries)
        chunks = [
            slice(*pair) for pair in zip(starts, [*starts[1:], len(self.labels)], strict=True)
        ]
        is_source = np.array([end == "source" for end in self.ends])
        counts = [
            np.where(is_source, *(self._num_slots(c, side) for side in (0, 1))) for c in chunks
        ]
        return np.concatenate(counts)

    def collate(self, indices: Ints) -> Batch:
        """Return the batch: ``node_kind`` and ``node_token`` [N], and what a ``TypedGraph`` holds.

        Each edge is there in both directions: along type t is relation t, against it relation
        t + ``num_edge_types``.
        """
        return self._collate(indices, None)

    def capacity(self, pieces: Sequence[Ints]) -> Capacity:
        """Return graphs, nodes, edges and slots of each type that hold each piece and dummies.

        One graph at least is a dummy: the last has all dummy nodes. Every type has a dummy slot.
        """
        nodes, edges = (self.arrays[name].lengths for name in ("node_kind", "edges"))
        slots = [self.num_slots[piece].sum(axis=0) for piece in pieces]
        slots.append(np.zeros(self.num_edge_types, dtype=np.int64))
        return {
            "samples": max(map(len, pieces), default=0) + 1,
            "nodes": _rounded_up(max((nodes[piece].sum() for piece in pieces), default=0) + 1),
            "edges": _rounded_up(max((edges[piece].sum() for piece in pieces), default=0)),
            **{f"slots/{t}": _rounded_up(num + 1) for t, num in enumerate(np.max(slots, axis=0))},
        }

    def collate_fixed(self, indices: Ints, capacity: Capacity) -> Batch:
        """Return the batch, filled up to ``capacity`` by graphs whose edges carry nothing."""
        return self._collate(indices, capacity)

    def _collate(self, indices: Ints, capacity: Capacity | None) -> Batch:
        graph_offsets = _offsets(self._lengths("node_kind", indices))
        num_nodes = int(graph_offsets[-1])
        edges = self._take("edges", indices).astype(np.int64)
        edges += np.repeat(graph_offsets[:-1], self._lengths("edges", indices))[:, None]
        slotted = _Edges.of(edges, self._take("edge_type", indices), self.ends, num_nodes)
        if capacity is not None:
            num_empty = capacity["samples"] - len(indices) - 1
            empty = np.full(num_empty, num_nodes)
            graph_offsets = np.concatenate([graph_offsets, empty, [capacity["nodes"]]])
            slotted = slotted.filled_up(capacity)
        nodes = {
            name: _filled_up(self._take(name, indices), slotted.num_nodes)
            for name in ("node_kind", "node_token")
        }
        node_graph = np.repeat(np.arange(len(graph_offsets) - 1), np.diff(graph_offsets))
        arrays = {
            **nodes,
            **slotted.arrays(self.ends),
            "graph_offsets": graph_offsets.astype(np.int32),
            "node_graph": node_graph.astype(np.int32),
        }
        batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
        for edge_type, num in enumerate(slotted.num_slots):
            batch[size_key(edge_type)] = torch.empty(int(num), 0)
        return batch

    def _lengths(self, name: str, indices: Ints) -> Ints:
        offsets = self.arrays[name].offsets
        return offsets[indices + 1] - offsets[indices]

    def _take(self, name: str, indices: Ints) -> NDArray[Any]:
        """Return the items at ``indices``, concatenated in that order."""
        ragged = self.arrays[name]
        items = [ragged[index] for index in indices.tolist()]
        return np.concatenate([ragged.values[:0], *items])

    def _num_slots(self, graphs: slice, side: int) -> Ints:
        """Count each graph's distinct sources (side 0) or targets (1) by type, [graphs, T]."""
        nodes, edges = self.arrays["node_kind"].offsets, self.arrays["edges"].offsets
        nodes, edges = nodes[graphs.start : graphs.stop + 1], edges[graphs.start : graphs.stop + 1]
        ends = self.arrays["edges"].values[edges[0] : edges[-1], side]
        node = ends + np.repeat(nodes[:-1] - nodes[0], np.diff(edges))
        edge_type = self.arrays["edge_type"].values[edges[0] : edges[-1]]
        is_slot = np.zeros((self.num_edge_types, nodes[-1] - nodes[0]), dtype=bool)
        is_slot[edge_type, node] = True
        num_before = np.pad(np.cumsum(is_slot, axis=1), ((0, 0), (1, 0)))
        return np.diff(num_before[:, nodes - nodes[0]], axis=1).T


@dataclass(frozen=True)
class _Edges:
    """The edges of a batch by slot: where each slot is, and what each edge leads it to.

    - ``slot_node``, ``slot_type``, ``slot_weight`` [S]: node, edge type, 1 (of a dummy 0)
    - ``slot``, ``other`` [E]: slot and other node of each edge, by slot
    - ``mean_weight`` [E]: 1 / edges of the slot; ``spread_weight`` [E]: 1 / edges of this type at
      the other node
    """

    num_nodes: int
    num_real_nodes: int
    num_slots: Ints
    slot_node: Ints
    slot_weight: NDArray[np.float32]
    slot: Ints
    other: Ints
    mean_weight: NDArray[np.float32]
    spread_weight: NDArray[np.float32]

    @staticmethod
    def of(
        edges: Ints, edge_type: NDArray[np.uint8], ends: Sequence[End], num_nodes: int
    ) -> "_Edges":
        """Order ``edges`` [E, 2] of (source, target) by type, node at the narrower end, other."""
        at_source = np.array([end == "source" for end in ends])[edge_type]
        node = np.where(at_source, edges[:, 0], edges[:, 1])
        other = edges[:, 0] + edges[:, 1] - node
        # Packed into one integer, for numbers are sorted faster than found their order.
        bits = num_nodes.bit_length()
        ordered = np.sort(((edge_type.astype(np.int64) << bits) + node << bits) + other)
        other = ordered & ((1 << bits) - 1)
        slot_key = ordered >> bits
        starts = np.flatnonzero(np.diff(slot_key, prepend=-1))
        num_edges = np.diff(starts, append=len(ordered))
        slot_key = slot_key[starts]
        at_other = (ordered >> 2 * bits << bits) + other
        num_at_other = np.bincount(at_other)[at_other]
        return _Edges(
            num_nodes,
            num_nodes,
            np.bincount(slot_key >> bits, minlength=len(ends)),
            slot_key & ((1 << bits) - 1),
            np.ones(len(starts), dtype=np.float32),
            np.repeat(np.arange(len(starts)), num_edges),
            other,
            np.repeat((1 / num_edges).astype(np.float32), num_edges),
            (1 / num_at_other).astype(np.float32),
        )

    def filled_up(self, capacity: Capacity) -> "_Edges":
        """Return these and dummies of weight 0, which are spread over the dummy nodes."""
        wanted = np.array([capacity[f"slots/{t}"] for t in range(len(self.num_slots))])
        shift = np.repeat(_offsets(wanted)[:-1] - _offsets(self.num_slots)[:-1], self.num_slots)
        moved = np.arange(len(self.slot_node)) + shift
        num_slots, num_nodes = int(wanted.sum()), capacity["nodes"]
        is_dummy = np.ones(num_slots, dtype=bool)
        is_dummy[moved] = False
        dummies = np.flatnonzero(is_dummy)
        slot_node = np.empty(num_slots, dtype=np.int64)
        slot_node[moved] = self.slot_node
        slot_node[dummies] = _spread(len(dummies), self.num_real_nodes, num_nodes)
        num_more = capacity["edges"] - len(self.slot)
        slot = np.concatenate([moved[self.slot], dummies[_spread(num_more, 0, len(dummies))]])
        order = np.argsort(slot, kind="stable")
        other = _spread(num_more, self.num_real_nodes, num_nodes)
        return _Edges(
            num_nodes,
            self.num_real_nodes,
            wanted,
            slot_node,
            (~is_dummy).astype(np.float32),
            slot[order],
            np.concatenate([self.other, other])[order],
            _filled_up(self.mean_weight, len(slot))[order],
            _filled_up(self.spread_weight, len(slot))[order],
        )

    def arrays(self, ends: Sequence[End]) -> dict[str, NDArray[Any]]:
        """Return the edges' fields of ``TypedGraph``."""
        num_slots = len(self.slot_node)
        leads_along = np.repeat([int(end == "target") for end in ends], self.num_slots)
        away, to = np.arange(num_slots) + num_slots * np.stack([leads_along, 1 - leads_along])
        # An entry for each slot and for each edge: the node there, and the row that it is part of.
        node = np.concatenate([self.slot_node, self.other])
        row = np.concatenate([away, to[self.slot]])
        # What reaches the node, or in gradients the row, comes by the relation's opposite.
        opposite = np.where(row < num_slots, row + num_slots, row - num_slots)
        by_row = np.argsort(row, kind="stable")
        by_opposite = np.roll(by_row, -np.count_nonzero(row < num_slots))
        # The number of the entry comes last, so that sorting says where it came from.
        bits = len(node).bit_length()
        by_node = np.sort((node << bits) + np.arange(len(node))) & ((1 << bits) - 1)
        integers = {
            "row_nodes": node[by_row],
            "row_offsets": _offsets(np.bincount(row, minlength=2 * num_slots)),
            "back_nodes": node[by_opposite],
            "back_offsets": _offsets(np.bincount(opposite, minlength=2 * num_slots)),
            "node_offsets": _offsets(np.bincount(node, minlength=self.num_nodes)),
            "node_rows": opposite[by_node],
            "back_rows": row[by_node],
        }
        ones = np.ones(num_slots, dtype=np.float32)
        return {
            **{name: array.astype(np.int32) for name, array in integers.items()},
            "row_weight": np.concatenate([ones, self.mean_weight])[by_row],
            "back_node_weight": np.concatenate([ones, self.spread_weight])[by_opposite],
            "node_weight": np.concatenate([self.slot_weight, self.spread_weight])[by_node],
            "back_row_weight": np.concatenate([self.slot_weight, self.mean_weight])[by_node],
        }


def _spread(how_many: int, start: int, stop: int) -> Ints:
    """Return numbers from ``start`` up to ``stop``, ascending, each about equally often."""
    return start + np.arange(how_many) * (stop - start) // max(how_many, 1)


def _filled_up(values: NDArray[Any], length: int) -> NDArray[Any]:
    """Return ``values`` with zeros at the end; integers as int32."""
    dtype = np.float32 if values.dtype == np.float32 else np.int32
    filled = np.zeros(length, dtype=dtype)
    filled[: len(values)] = values
    return filled


def _rounded_up(number: int) -> int:
    return -(-int(number) // _ROUNDED_TO) * _ROUNDED_TO


def _offsets(lengths: Ints) -> Ints:
    """Return where each of the concatenated items starts, and the end, shape [n + 1]."""
    return np.concatenate([[0], np.cumsum(lengths)])
