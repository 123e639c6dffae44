import random

import numpy as np
import pytest

from sg_ray.features.program_graphs import PROGRAM_EDGES, GraphFeaturiser
from sg_ray.features.spec import GraphSpec

SOURCE = "int f(int n) { int s = 0; while (n) { s += n--; } return s; } /*note*/"
WORDS = "if else while ( ) { } ; , x y = * & switch case 1 : break goto # #if \" ' /* // return int"


def fitted(*sources, **settings):
    return GraphFeaturiser.fit(GraphSpec(**settings), sources or (SOURCE,))


def edges_of_type(arrays, item, name):
    wanted = arrays["edge_type"][item] == PROGRAM_EDGES.index(name)
    return [tuple(edge) for edge in arrays["edges"][item][wanted].tolist()]


def check_contract(arrays, num_sources, meta):
    """The array contract that models rely on."""
    dtypes = {name: str(ragged.values.dtype) for name, ragged in arrays.items()}
    assert dtypes == {
        "node_kind": "int16",
        "node_token": "int32",
        "edges": "int32",
        "edge_type": "uint8",
    }
    for item in range(num_sources):
        kind, token, edges, types = (arrays[name][item] for name in dtypes)
        assert 1 <= len(kind) == len(token)
        assert edges.shape == (len(types), 2)
        assert kind.min() >= 0
        assert kind.max() < meta["num_node_kinds"]
        assert token.min() >= 0
        assert token.max() < meta["vocab_size"]
        if len(edges):
            assert edges.min() >= 0
            assert edges.max() < len(kind)
            assert types.max() < meta["num_edge_types"]
            order = types.astype(np.int64) * len(kind) + edges[:, 1]
            assert (np.diff(order) >= 0).all()
    assert all(len(ragged) == num_sources for ragged in arrays.values())


def test_small_function_is_the_graph_drawn_by_hand():
    #  0 translation_unit    3 function_declarator  6 parameter_declaration  9 compound_statement
    #  1 function_definition 4 f                    7 int                   10 return_statement
    #  2 int                 5 parameter_list       8 n                     11 n
    arrays = fitted().encode(["int f(int n) { return n; }"])
    assert edges_of_type(arrays, 0, "ast") == [
        (0, 1), (1, 2), (1, 3), (3, 4), (3, 5), (5, 6), (6, 7), (6, 8), (1, 9), (9, 10), (10, 11),
    ]  # fmt: skip
    assert edges_of_type(arrays, 0, "next_token") == [(2, 4), (4, 7), (7, 8), (8, 11)]
    assert edges_of_type(arrays, 0, "control_flow") == [(1, 10)]
    assert edges_of_type(arrays, 0, "def_use") == [(8, 11)]
    assert edges_of_type(arrays, 0, "last_use") == []
    assert np.flatnonzero(arrays["node_token"][0]).tolist() == [2, 4, 7, 8, 11]


def test_contract_holds_for_several_functions_at_once():
    featuriser = fitted()
    sources = [SOURCE, "", "x", "int g(void) { }", SOURCE]
    arrays = featuriser.encode(sources)
    check_contract(arrays, len(sources), featuriser.meta)
    np.testing.assert_array_equal(arrays["edges"][0], arrays["edges"][4])


def test_no_sources_give_empty_arrays_of_the_same_types():
    arrays = fitted().encode([])
    check_contract(arrays, 0, fitted().meta)
    assert arrays["edges"].values.shape == (0, 2)


def test_comments_and_layout_make_no_difference():
    featuriser = fitted()
    spread = SOURCE.replace(" ", "\n  /* if (x) */ ")
    plain, commented = featuriser.encode([SOURCE]), featuriser.encode([spread])
    for name in plain:
        np.testing.assert_array_equal(plain[name].values, commented[name].values)


def test_equal_names_share_an_id_seen_or_not():
    featuriser = fitted("int seen;")
    tokens = featuriser.encode(["seen = never + seen + never + other;"])["node_token"][0]
    seen, never, other = (tokens[tokens > 0][position] for position in (0, 2, 8))
    assert (tokens == seen).sum() == 2
    assert (tokens == never).sum() == 2
    assert (tokens == other).sum() == 1


def test_truncation_keeps_the_beginning():
    whole = fitted().encode([SOURCE])
    cut = fitted(max_nodes=12).encode([SOURCE])
    assert len(cut["node_kind"][0]) == 12
    np.testing.assert_array_equal(cut["node_kind"][0], whole["node_kind"][0][:12])
    np.testing.assert_array_equal(cut["node_token"][0], whole["node_token"][0][:12])
    check_contract(cut, 1, fitted(max_nodes=12).meta)


def test_sequential_graph_is_a_chain_of_all_tokens():
    featuriser = fitted(graph="sequential")
    arrays = featuriser.encode(["if (a) /* c */ return b;"])
    assert arrays["edges"][0].tolist() == [[i, i + 1] for i in range(6)]
    assert (arrays["node_token"][0] > 0).all()
    assert featuriser.meta["edge_type_names"] == ["next_token"]
    check_contract(arrays, 1, featuriser.meta)


@pytest.mark.parametrize("graph", ["program", "sequential"])
def test_garbage_gives_graphs(graph):
    rng = random.Random(7)
    featuriser = fitted(graph=graph)
    sources = ["", " ", ";", "\0", "\ud800", "}", '"', "/*", "#if", "\N{SNOWMAN}" * 9]
    for _ in range(60):
        sources.append(rng.randbytes(rng.randrange(300)).decode("latin-1"))
        sources.append(" ".join(rng.choices(WORDS.split(), k=rng.randrange(120))))
        sources.append(SOURCE[: rng.randrange(len(SOURCE))] + SOURCE[rng.randrange(len(SOURCE)) :])
    check_contract(featuriser.encode(sources), len(sources), featuriser.meta)


@pytest.mark.parametrize(
    "source",
    [
        "int f(int a) {" + "if (a) {" * 20_000 + "a++;" + "}" * 20_000 + "}",
        "int f(int a) {" + "if (a) a--; else " * 20_000 + "a++; }",
        "int f(int a) { return " + "!" * 50_000 + "a; }",
        "{" * 100_000,
        "int f(int a) { return " + "a && (b ? c : " * 5000 + "a" + ")" * 5000 + "; }",
        "int f(int a) { return " + "a || (b = " * 5000 + "a" + ")" * 5000 + "; }",
        "int f(int a) { x = " + "(a && ({ a++; a; })) + " * 2000 + "a; }",
        "int f(int a) {"
        + "__try { if (a) goto o; " * 2000
        + "} __finally { b(); }" * 2000
        + "o: ; }",
        "int f(int a) {" + "{ int g(int b) { return b + a; } g(a); " * 2000 + "}" * 2000 + "}",
        "int f(int a) { goto *t[a]; " + "".join(f"l{i}: a(&&l{i}); " for i in range(4000)) + "}",
        "int f(int x) {" + "".join(f"l{i}: if (x++) goto l{i * 7 % 4000};" for i in range(4000)),
    ],
    ids=[
        *("if", "else if", "operators", "braces", "choices", "choices that write"),
        *("statement expressions", "__try", "nested functions", "computed goto", "goto"),
    ],
)
def test_depth_and_length_have_no_limit(source):
    featuriser = fitted(max_nodes=1_000_000)
    check_contract(featuriser.encode([source]), 1, featuriser.meta)


@pytest.mark.parametrize("graph", ["program", "sequential"])
def test_saved_featuriser_encodes_alike(tmp_path, graph):
    featuriser = fitted(SOURCE, 'int g(void) { return "\xe9\ud800"; }', graph=graph)
    featuriser.save(tmp_path)
    restored = GraphFeaturiser.load(featuriser.spec, tmp_path)
    assert restored.meta == featuriser.meta
    sources = [SOURCE, 'g("\xe9", unseen)']
    before, after = featuriser.encode(sources), restored.encode(sources)
    for name in before:
        np.testing.assert_array_equal(before[name].values, after[name].values)
