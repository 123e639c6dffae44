"""Program graphs: syntax tree, token order, control flow and data flow of each function."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sg_ray.features.control_flow import flow_graph
from sg_ray.features.data_flow import data_flow
from sg_ray.features.featuriser import to_utf8
from sg_ray.features.packed import Ragged
from sg_ray.features.spec import GraphSpec
from sg_ray.features.syntax import SyntaxParser, SyntaxTree, kind_names, kind_numbers
from sg_ray.features.vocabulary import Vocabulary, count_leaves
from sg_ray.files import write_json

PROGRAM_EDGES = ("ast", "next_token", "control_flow", "def_use", "last_use")
SEQUENTIAL_EDGES = ("next_token",)

_STATE_FILE = "vocabulary.json"

Edges = Sequence[tuple[int, int]]


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
    def fit(cls, spec: GraphSpec, sources: Sequence[str]) -> Self:
        """Collect the most frequent leaf texts of ``sources``."""
        vocabulary = Vocabulary.fit(count_leaves(sources), spec.vocab_size)
        return cls(spec, vocabulary, kind_names())

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
        graphs = _GraphLists(len(self._edge_types))
        for source in sources:
            tree = self._parser.parse(to_utf8(source), self.spec.max_nodes)
            tokens = [0] * len(tree.kinds)
            for leaf, text in zip(tree.leaves, tree.texts, strict=True):
                tokens[leaf] = self._vocabulary.id(text)
            graphs.append(tree.kinds, tokens, self._edges(tree))
        return graphs.pack(self._kind_numbers)

    def _edges(self, tree: SyntaxTree) -> Sequence[Edges]:
        """Return the edges of ``tree`` by type, each type sorted by target."""
        next_token = list(zip(tree.leaves, tree.leaves[1:], strict=False))
        if not self._is_program:
            return [next_token]
        ast = list(zip(tree.parents[1:], range(1, len(tree.parents)), strict=True))
        flow = flow_graph(tree)
        data = data_flow(tree, flow)
        return [ast, next_token, flow.edges, data.def_use, data.last_use]


class _GraphLists:
    """Graphs as flat Python lists, turned into arrays all at once."""

    def __init__(self, num_edge_types: int) -> None:
        self._num_edge_types = num_edge_types
        self._kinds: list[int] = []
        self._tokens: list[int] = []
        self._edges: list[tuple[int, int]] = []
        self._num_nodes: list[int] = []
        self._num_edges_by_type: list[list[int]] = []

    def append(self, kinds: list[int], tokens: list[int], edges: Sequence[Edges]) -> None:
        self._kinds += kinds
        self._tokens += tokens
        self._num_nodes.append(len(kinds))
        self._num_edges_by_type.append([len(edges_of_type) for edges_of_type in edges])
        for edges_of_type in edges:
            self._edges += edges_of_type

    def pack(self, kind_numbers: NDArray[np.int16]) -> dict[str, Ragged]:
        counts = np.array(self._num_edges_by_type, dtype=np.int64).reshape(-1, self._num_edge_types)
        types = np.tile(np.arange(self._num_edge_types, dtype=np.uint8), len(counts))
        nodes = _offsets(np.array(self._num_nodes, dtype=np.int64))
        edges = _offsets(counts.sum(axis=1))
        pairs = np.array(self._edges, dtype=np.int32).reshape(-1, 2)
        return {
            "node_kind": Ragged(kind_numbers[np.array(self._kinds, dtype=np.int64)], nodes),
            "node_token": Ragged(np.array(self._tokens, dtype=np.int32), nodes),
            "edges": Ragged(pairs, edges),
            "edge_type": Ragged(np.repeat(types, counts.ravel()), edges),
        }


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
