"""Graphs of small functions in words: a statement by its text, an identifier by name and count."""

from collections import Counter
from collections.abc import Callable

import pytest

from sg_ray.features.control_flow import flow_graph
from sg_ray.features.data_flow import DataFlow, data_flow
from sg_ray.features.edge_numbers import pairs
from sg_ray.features.syntax import LANGUAGE, SyntaxParser, SyntaxTree, kind_id

Pairs = set[tuple[str, str]]


def _parse(source: str) -> SyntaxTree:
    return SyntaxParser().parse(source.encode(), 10_000)


def _statement_labels(tree: SyntaxTree) -> list[str]:
    """The leaves below each node; a node without any is called by its kind, a function "f"."""
    words: list[list[str]] = [[] for _ in tree.kinds]
    for leaf, text in enumerate(tree.texts):
        if text is None:
            continue
        node = leaf
        while node != -1:
            words[node].append(text.decode())
            node = tree.parents[node]
    names = [LANGUAGE.node_kind_for_id(kind) or "ERROR" for kind in tree.kinds]
    labels = [" ".join(w) or n for w, n in zip(words, names, strict=True)]
    return ["f" if n == "function_definition" else la for n, la in zip(names, labels, strict=True)]


def _identifier_labels(tree: SyntaxTree) -> dict[int, str]:
    """The identifiers called x are x0, x1, ... in source order; the p of ``goto *p`` is one."""
    seen: Counter[str] = Counter()
    labels = {}
    for leaf, text in enumerate(tree.texts):
        if text and tree.kinds[leaf] in (kind_id("identifier"), kind_id("statement_identifier")):
            name = text.decode()
            labels[leaf] = f"{name}{seen[name]}"
            seen[name] += 1
    return labels


@pytest.fixture
def control_flow() -> Callable[[str], Pairs]:
    def of(source: str) -> Pairs:
        tree = _parse(source)
        labels = _statement_labels(tree)
        return {(labels[s], labels[t]) for s, t in pairs(flow_graph(tree).edges)}

    return of


def _data_flow(source: str) -> tuple[DataFlow, dict[int, str]]:
    tree = _parse(source)
    return data_flow(tree, flow_graph(tree)), _identifier_labels(tree)


@pytest.fixture
def def_use() -> Callable[[str], Pairs]:
    def of(source: str) -> Pairs:
        flow, labels = _data_flow(source)
        return {(labels[s], labels[t]) for s, t in pairs(flow.def_use)}

    return of


@pytest.fixture
def last_use() -> Callable[[str], Pairs]:
    def of(source: str) -> Pairs:
        flow, labels = _data_flow(source)
        return {(labels[s], labels[t]) for s, t in pairs(flow.last_use)}

    return of
