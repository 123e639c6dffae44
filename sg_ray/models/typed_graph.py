"""The edges of a batch of program graphs, in the orders that messages and their gradients need.

Shape legend: B graphs with N nodes and E edges in a batch, S slots, K models that are stacked under
``torch.func.vmap``.

What is multiplied by a relation's matrix is one row for each *slot*: a node at the narrower end of
an edge type (in a tree the parents, which are fewer than the children). Where the receivers are the
narrower end, sources are averaged first and then transformed; where the senders are, they are
transformed first. A program graph's node takes part in few relations, so there are 2.5 rows a node,
where one row for each node and relation makes 10, and one for each receiver in each relation 3.2.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sg_ray.models.family import Batch


class TypedGraph(NamedTuple):
    """The edges of a batch, in the orders that messages and their gradients need.

    Slots are ordered by edge type. There are ``2 S`` rows by relation, in each of them by slot:
    first those of the relations along the edges, then of those against them. What a relation that
    leads to slots transforms is the mean of the nodes around each; one that leads away, the slot's
    own node.

    - ``row_nodes`` [S + E]: the nodes of which each row is a sum, ``row_weight`` [S + E] what each
      counts, ``row_offsets`` [2 S + 1] where each row's begin
    - ``node_offsets`` [N + 1]: where the rows begin that reach a node; ``node_rows`` [S + E]: those
      rows, ``node_weight`` [S + E] what each counts
    - ``back_...``: the same for gradients, with ``node_offsets`` in common
    - ``node_graph`` [N]: number of each node's graph; ``graph_offsets`` [B + 1]: its first node
    - ``num_slots``: those of each type
    """

    row_nodes: Tensor
    row_offsets: Tensor
    row_weight: Tensor
    back_nodes: Tensor
    back_offsets: Tensor
    back_node_weight: Tensor
    node_offsets: Tensor
    node_rows: Tensor
    node_weight: Tensor
    back_rows: Tensor
    back_row_weight: Tensor
    node_graph: Tensor
    graph_offsets: Tensor
    num_slots: tuple[int, ...]

    @staticmethod
    def of(batch: Batch) -> "TypedGraph":
        """Read the graph from a batch that ``graph_split.GraphSplit`` made; waits for no device."""
        tensors = [batch[name] for name in TypedGraph._fields if name != "num_slots"]
        return TypedGraph._make([*tensors, tuple(_num_slots(batch))])

    def merged(self) -> "TypedGraph":
        """Return the block-diagonal graph of the K in the first dimension of each tensor.

        ``num_slots`` stay those of one of them: rows are looked at model by model.
        """
        num_nodes, num_graphs = self.node_graph.shape[1], self.graph_offsets.shape[1] - 1
        num_rows, num_entries = self.row_offsets.shape[1] - 1, self.row_nodes.shape[1]
        return TypedGraph(
            renumbered(self.row_nodes, num_nodes),
            joined_offsets(self.row_offsets, num_entries),
            self.row_weight.flatten(),
            renumbered(self.back_nodes, num_nodes),
            joined_offsets(self.back_offsets, num_entries),
            self.back_node_weight.flatten(),
            joined_offsets(self.node_offsets, num_entries),
            renumbered(self.node_rows, num_rows),
            self.node_weight.flatten(),
            renumbered(self.back_rows, num_rows),
            self.back_row_weight.flatten(),
            renumbered(self.node_graph, num_graphs),
            joined_offsets(self.graph_offsets, num_nodes),
            self.num_slots,
        )


def size_key(edge_type: int) -> str:
    """Return the name, in a batch, of an empty tensor whose length is a type's number of slots.

    Shapes are known without asking the device, and stay in place when a batch is stacked.
    """
    return f"slots/{edge_type}"


def _num_slots(batch: Batch) -> Iterator[int]:
    for edge_type in itertools.count():
        if (name := size_key(edge_type)) not in batch:
            return
        yield batch[name].shape[0]


def renumbered(numbers: Tensor, how_many: int) -> Tensor:
    """Number the things of K models [K, ...] on, ``how_many`` for each; return one row."""
    first = torch.arange(len(numbers), device=numbers.device, dtype=numbers.dtype) * how_many
    return (numbers + first[:, None]).flatten()


def joined_offsets(offsets: Tensor, how_many: int) -> Tensor:
    """Return the offsets of K lists of ``how_many`` members as those of one, [K n + 1]."""
    end = offsets.new_full((1,), len(offsets) * how_many)
    return torch.cat([renumbered(offsets[:, :-1], how_many), end])
