from sg_ray.features.control_flow import flow_graph
from sg_ray.features.data_flow import MAX_ACCESSES, MAX_SOURCES_PER_READ, data_flow
from sg_ray.features.syntax import SyntaxParser


def test_read_sees_the_latest_write(def_use):
    assert def_use("void f(void) { int x = 1; a(x); x = 2; b(x); }") == {("x0", "x1"), ("x2", "x3")}


def test_parameter_is_written_on_entry(def_use):
    assert def_use("int f(int *x) { return *x; }") == {("x0", "x1")}


def test_declaration_without_value_reaches_reads(def_use):
    assert def_use("int f(int c) { int x; if (c) x = 1; return x; }") == {
        ("c0", "c1"),
        ("x0", "x2"),
        ("x1", "x2"),
    }


def test_branches_that_both_write_hide_the_first_value(def_use):
    source = "int f(int c) { int x = 0; if (c) x = 1; else x = 2; return x; }"
    assert def_use(source) == {("c0", "c1"), ("x1", "x3"), ("x2", "x3")}


def test_right_side_is_read_before_the_left_is_written(def_use):
    assert def_use("void f(int x) { x = x + 1; a(x); }") == {("x0", "x2"), ("x1", "x3")}


def test_write_in_a_loop_reaches_the_next_round(def_use):
    source = "void f(int n) { int x = 0; while (n) { a(x); x = 1; } }"
    assert def_use(source) == {("n0", "n1"), ("x0", "x1"), ("x2", "x1")}


def test_compound_assignment_and_increment_read_and_write(def_use):
    assert def_use("void f(int x) { x += 1; x++; a(x); }") == {
        ("x0", "x1"),
        ("x1", "x2"),
        ("x2", "x3"),
    }


def test_inner_declaration_hides_the_outer_one(def_use):
    source = "void f(void) { int x = 1; { int x = 2; a(x); } b(x); }"
    assert def_use(source) == {("x1", "x2"), ("x0", "x3")}


def test_for_variable_ends_with_its_loop(def_use):
    source = "void f(int i) { for (int i = 0; ; ) { if (i) break; } a(i); }"
    assert def_use(source) == {("i1", "i2"), ("i0", "i3")}


def test_address_may_be_written_through(def_use):
    assert def_use("void f(void) { int x = 1; a(&x); b(x); }") == {
        ("x0", "x1"),
        ("x0", "x2"),
        ("x1", "x2"),
    }


def test_write_through_pointer_index_or_member_reads_the_base(def_use):
    source = "void f(int *p, int *q, T *r) { *p = 1; q[0] = 1; r->m = 1; }"
    assert def_use(source) == {("p0", "p1"), ("q0", "q1"), ("r0", "r1")}


def test_goto_carries_values(def_use):
    source = "int f(int c) { int x = 1; if (c) goto out; x = 2; out: return x; }"
    assert def_use(source) == {("c0", "c1"), ("x0", "x2"), ("x1", "x2")}


def test_switch_fallthrough_carries_values(def_use):
    source = "int f(int v) { int x = 0; switch (v) { case 1: x = 1; case 2: a(x); } return x; }"
    assert {e for e in def_use(source) if e[0][0] == "x"} == {
        ("x0", "x2"),
        ("x1", "x2"),
        ("x0", "x3"),
        ("x1", "x3"),
    }


def test_global_is_one_variable(def_use):
    assert def_use("void f(void) { g = 1; a(g); }") == {("g0", "g1")}


def test_called_names_are_no_variables_unless_declared(last_use):
    assert last_use("void f(void) { a(); a(); }") == set()
    assert last_use("void f(int (*a)(int)) { a(); a(); }") == {("a1", "a2")}


def test_names_in_a_prototype_hide_nothing(def_use):
    assert def_use("void f(int x) { int g(int x); a(x); }") == {("x0", "x2")}


def test_last_use_tells_a_check_after_a_dereference_from_one_before(last_use):
    assert last_use("void f(T *p) { p->x = 1; if (!p) return; }") == {("p1", "p2")}
    checked = last_use("void f(T *p) { if (!p) return; p->x = 1; }")
    assert checked == {("p1", "p2")}


def test_last_use_ends_at_a_write(last_use):
    assert last_use("void f(T *p) { free(p); p->x = 1; }") == {("p1", "p2")}
    assert last_use("void f(T *p) { free(p); p = a(); p->x = 1; }") == set()


def test_last_use_goes_round_a_loop(last_use):
    assert last_use("void f(int n) { while (n) { a(n); } }") == {("n1", "n2"), ("n2", "n1")}


def test_sources_of_one_read_are_bounded_and_the_latest(def_use):
    writes = " ".join(f"case {i}: x = {i}; break;" for i in range(30))
    edges = def_use(f"int f(int v) {{ int x; switch (v) {{ {writes} }} return x; }}")
    sources = {source for source, target in edges if target == "x31"}
    assert sources == {f"x{i}" for i in range(31 - MAX_SOURCES_PER_READ, 31)}


def test_accesses_beyond_the_bound_are_left_out():
    source = "void f(int x) { " + "a(x); " * (MAX_ACCESSES + 100) + "}"
    tree = SyntaxParser().parse(source.encode(), 1_000_000)
    assert len(data_flow(tree, flow_graph(tree)).last_use) == MAX_ACCESSES - 2
