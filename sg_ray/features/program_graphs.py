"""Program graphs: syntax tree, token order, control flow and data flow of each function."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sg_ray.features.control_flow import flow_graph
from sg_ray.features.data_flow import data_flow
from sg_ray.features.edge_numbers import pair_array
from sg_ray.features.featuriser import Map, in_chunks, to_utf8
from sg_ray.features.packed import Ragged
from sg_ray.features.spec import GraphSpec
from sg_ray.features.syntax import SyntaxParser, SyntaxTree, kind_names, kind_numbers
from sg_ray.features.vocabulary import Vocabulary, count_leaves
from sg_ray.files import write_json

PROGRAM_EDGES = ("ast", "next_token", "control_flow", "def_use", "last_use")
SEQUENTIAL_EDGES = ("next_token",)
FLOW_EDGES = ("control_flow", "def_use", "last_use")

_STATE_FILE = "vocabulary.json"


class GraphFeaturiser:
    """Encodes functions as typed graphs (``graph: program``) or token chains (``sequential``).

    Nodes are numbered in source order; node 0 of a program graph is the root of the syntax tree. A
    longer function keeps its first ``max_nodes`` nodes. Arrays, N nodes and E edges a function:

    - ``node_kind`` int16 [N]: what the node is to the grammar; 0 for text that does not parse
    - ``node_token`` int32 [N]: vocabulary id of a leaf's text, 0 for an inner node
    - ``edges`` int32 [E, 2]: source and target, forward only, sorted by type, then target
    - ``edge_type`` uint8 [E]: index into ``edge_type_names``

    ``ast`` leads from parent to child, ``next_token`` from leaf to leaf, ``control_flow`` from
    statement to statement (see ``control_flow``), ``def_use`` and ``last_use`` between identifiers
    (see ``data_flow``).
    """

    def __init__(self, spec: GraphSpec, vocabulary: Vocabulary, node_kinds: Sequence[str]) -> None:
        self.spec = spec
        self._vocabulary = vocabulary
        self._node_kinds = tuple(node_kinds)
        self._kind_numbers = kind_numbers(self._node_kinds)
        self._is_program = spec.graph == "program"
        self._edge_types = PROGRAM_EDGES if self._is_program else SEQUENTIAL_EDGES
        self._parser = SyntaxParser(tokens_only=not self._is_program)

    @property
    def meta(self) -> dict[str, Any]:
        """Sizes of the model's embeddings, and the names of the edge types in order."""
        return {
            "num_node_kinds": len(self._node_kinds),
            "vocab_size": self._vocabulary.size,
            "num_edge_types": len(self._edge_types),
            "edge_type_names": list(self._edge_types),
        }

    @classmethod
    def inputs(cls, spec: GraphSpec) -> Mapping[str, str]:  # noqa: ARG003
        """Return the versions of parser and grammar: another grammar gives other trees."""
        return {name: version(name) for name in ("tree-sitter", "tree-sitter-c")}

    @classmethod
    def fit(cls, spec: GraphSpec, sources: Sequence[str], run: Map = map) -> Self:
        """Collect the most frequent leaf texts of ``sources``."""
        counts: Counter[bytes] = Counter()
        for part in run(count_leaves, in_chunks(sources)):
            counts.update(part)
        return cls(spec, Vocabulary.fit(counts, spec.vocab_size), kind_names())

    @classmethod
    def load(cls, spec: GraphSpec, folder: Path) -> Self:
        """Restore the vocabulary and the numbering of node kinds."""
        state = json.loads((folder / _STATE_FILE).read_text(encoding="utf-8"))
        words = [word.encode("latin-1") for word in state["words"]]
        return cls(spec, Vocabulary(words, spec.vocab_size), state["node_kinds"])

    def save(self, folder: Path) -> None:
        """Write the vocabulary (bytes as Latin-1, which keeps every byte) and the node kinds."""
        words = [word.decode("latin-1") for word in self._vocabulary.words]
        write_json(folder / _STATE_FILE, {"node_kinds": self._node_kinds, "words": words})

    def encode(self, sources: Sequence[str]) -> dict[str, Ragged]:
        """Return one graph with at least one node per source, whatever the source holds."""
        graphs = _GraphLists()
        for source in sources:
            tree = self._parser.parse(to_utf8(source), self.spec.max_nodes)
            graphs.append(tree, self._flow_edges(tree))
        return graphs.pack(self._edge_types, self._kind_numbers, self._vocabulary)

    def _flow_edges(self, tree: SyntaxTree) -> Mapping[str, Sequence[int]]:
        """Return the edges of ``tree`` that do not follow from its shape, by type, as numbers."""
        if not self._is_program:
            return {}
        flow = flow_graph(tree)
        data = data_flow(tree, flow)
        return {
            "control_flow": flow.edges,
            "def_use": data.def_use,
            "last_use": data.last_use,
        }


class _GraphLists:
    """Graphs as flat Python lists, turned into arrays all at once."""

    def __init__(self) -> None:
        self._kinds: list[NDArray[np.uint16]] = [np.zeros(0, dtype=np.uint16)]
        self._parents: list[int] = []
        self._texts: list[bytes | None] = []
        self._num_nodes: list[int] = []
        self._flow_edges: dict[str, list[int]] = {name: [] for name in FLOW_EDGES}
        self._num_flow_edges: dict[str, list[int]] = {name: [] for name in FLOW_EDGES}

    def append(self, tree: SyntaxTree, flow_edges: Mapping[str, Sequence[int]]) -> None:
        self._kinds.append(tree.kind_array)
        self._parents += tree.parents
        self._texts += tree.texts
        self._num_nodes.append(len(tree.kinds))
        for name, edges in flow_edges.items():
            self._flow_edges[name] += edges
            self._num_flow_edges[name].append(len(edges))

    def pack(
        self,
        edge_types: Sequence[str],
        kind_numbers: NDArray[np.int16],
        vocabulary: Vocabulary,
    ) -> dict[str, Ragged]:
        num_nodes = np.array(self._num_nodes, dtype=np.int64)
        offsets = _offsets(num_nodes)
        tokens = np.array(vocabulary.ids(self._texts), dtype=np.int32)
        by_type = [self._edges_of(name, num_nodes, tokens) for name in edge_types]
        return {
            "node_kind": Ragged(kind_numbers[np.concatenate(self._kinds)], offsets),
            "node_token": Ragged(tokens, offsets),
            **_by_graph_and_type(by_type),
        }

    def _edges_of(
        self, name: str, num_nodes: NDArray[np.int64], tokens: NDArray[np.int32]
    ) -> Ragged:
        """Return the edges of one type, with one item per graph."""
        if name in FLOW_EDGES:
            counts = np.array(self._num_flow_edges[name], dtype=np.int64)
            return Ragged(pair_array(self._flow_edges[name]), _offsets(counts))
        graphs = np.repeat(np.arange(len(num_nodes)), num_nodes)
        nodes = np.arange(len(graphs)) - np.repeat(_offsets(num_nodes)[:-1], num_nodes)
        if name == "ast":
            targets = np.flatnonzero(nodes)  # all but the first of each graph
            sources = np.array(self._parents, dtype=np.int32)[targets]
        else:
            leaves = np.flatnonzero(tokens)
            follows = graphs[leaves[1:]] == graphs[leaves[:-1]]
            targets, sources = leaves[1:][follows], nodes[leaves[:-1][follows]]
        pairs = np.stack([sources, nodes[targets]], axis=1).astype(np.int32)
        return Ragged(pairs, _offsets(np.bincount(graphs[targets], minlength=len(num_nodes))))


def _by_graph_and_type(by_type: Sequence[Ragged]) -> dict[str, Ragged]:
    """Return ``edges`` and ``edge_type`` of graphs whose edges are given type by type."""
    counts = np.stack([edges.lengths for edges in by_type], axis=1)
    starts = _offsets(counts.ravel())[:-1].reshape(counts.shape)
    pairs = np.empty((counts.sum(), 2), dtype=np.int32)
    for edges, first in zip(by_type, starts.T, strict=True):
        moved = np.repeat(first - edges.offsets[:-1], edges.lengths)
        pairs[np.arange(len(moved)) + moved] = edges.values
    types = np.tile(np.arange(len(by_type), dtype=np.uint8), len(counts))
    offsets = _offsets(counts.sum(axis=1))
    return {
        "edges": Ragged(pairs, offsets),
        "edge_type": Ragged(np.repeat(types, counts.ravel()), offsets),
    }


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
