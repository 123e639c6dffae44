"""Control flow and data flow against what a compiler makes of the same functions."""

import random
import re
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from gcc_trace import Seen, has_gcc, run_with_gcc
from traced_c import TracedSample, random_sample

from sg_ray.features.control_flow import flow_graph
from sg_ray.features.data_flow import MAX_SOURCES_PER_READ, data_flow
from sg_ray.features.edge_numbers import pairs
from sg_ray.features.flow_graph import FlowGraph
from sg_ray.features.syntax import SyntaxParser

Pairs = set[tuple[int, int]]

pytestmark = pytest.mark.skipif(not has_gcc(), reason="gcc is not installed")


class Comparison:
    """Edges of graphs, and pairs that runs showed, added up over samples."""

    def __init__(self) -> None:
        self.num_edges: Counter[str] = Counter()
        self.num_unseen: Counter[str] = Counter()
        self.missing: list[str] = []

    def add(self, sample: TracedSample, seen: Seen) -> None:
        tree = SyntaxParser().parse(sample.source.encode(), 100_000)
        probe = SyntaxParser().parse(sample.probe.encode(), 100_000)
        assert tree.kinds == probe.kinds, sample.source
        flow = flow_graph(tree)
        assert len(flow.nodes) == len(sample.statement_keys), sample.source
        statements = dict(zip(flow.nodes, sample.statement_keys, strict=True))
        names = {
            node: int(match[1])
            for node, text in enumerate(probe.texts)
            if text and (match := re.search(rb"__(\d+)$", text))
        }
        data = data_flow(tree, flow)
        alive = reachable(flow)
        reached = [edge for edge in pairs(flow.edges) if edge[0] in alive]
        self._check("flow", sample, keyed(reached, statements), seen.flow)
        self._check("uses", sample, keyed(pairs(data.def_use), names), seen.uses)
        self._check("rereads", sample, keyed(pairs(data.last_use), names), seen.rereads)

    def _check(self, kind: str, sample: TracedSample, edges: Pairs, seen: Pairs) -> None:
        seen = {pair for pair in seen if pair[0] != pair[1] or kind == "flow"}
        num_sources = Counter(target for _, target in edges)
        # One of the sources that are kept may be the read itself, which makes no edge.
        is_full = {t for t, number in num_sources.items() if number >= MAX_SOURCES_PER_READ - 1}
        for pair in sorted(seen - edges):
            if kind == "flow" or pair[1] not in is_full:
                self.missing.append(f"{kind} {pair} is not in the graph of\n{sample.probe}")
        self.num_edges[kind] += len(edges)
        self.num_unseen[kind] += len(edges - seen)

    def unseen_share(self, kind: str) -> float:
        return self.num_unseen[kind] / self.num_edges[kind]


def reachable(flow: FlowGraph) -> set[int]:
    """Return the nodes that some path reaches."""
    found, ahead = set(flow.roots), list(flow.roots)
    while ahead:
        node = ahead.pop()
        new = {target for source, target in pairs(flow.edges) if source == node} - found
        found |= new
        ahead += new
    return found


def keyed(edges: Iterable[tuple[int, int]], keys: dict[int, int]) -> Pairs:
    return {(keys[s], keys[t]) for s, t in edges if s in keys and t in keys}


def compare(num_samples: int, seed: int, folder: Path) -> Comparison:
    rng = random.Random(seed)
    samples = [random_sample(rng, number) for number in range(num_samples)]
    comparison = Comparison()
    for sample, seen in zip(samples, run_with_gcc(samples, folder), strict=True):
        comparison.add(sample, seen)
    return comparison


def check(comparison: Comparison) -> None:
    assert not comparison.missing, comparison.missing[0]
    assert comparison.unseen_share("flow") <= 0.001
    assert comparison.unseen_share("uses") <= 0.05
    assert comparison.unseen_share("rereads") <= 0.05


def test_graphs_of_random_functions_are_what_their_runs_show(tmp_path):
    check(compare(300, 1, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 4))
def test_graphs_of_thousands_of_functions_are_what_their_runs_show(tmp_path, seed):
    start_s = time.perf_counter()
    comparison = compare(600, seed, tmp_path)
    print(comparison.num_edges, comparison.num_unseen, f"{time.perf_counter() - start_s:.1f} s")
    check(comparison)
