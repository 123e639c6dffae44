import pytest

from sg_ray.features.control_flow import flow_graph
from sg_ray.features.data_flow import MAX_ACCESSES, MAX_SOURCES_PER_READ, data_flow
from sg_ray.features.edge_numbers import pairs
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


def test_case_50_parameter_of_the_outer_function_is_read_after_a_nested_one(def_use):
    source = "int f(int a) { int inner(int b) { return b + 1; } return inner(a); }"
    assert def_use(source) == {("a0", "a1"), ("b0", "b1")}


def test_case_50_captured_variable_passes_through_a_call_of_the_nested_function(def_use):
    source = """int f(int a) {
        int k = 1;
        int inner(int b) { int old = k; k = b; return old; }
        a = 3; inner(a); return k; }"""
    edges = def_use(source)
    assert {edge for edge in edges if edge[0][0] == "k"} == {("k0", "k1"), ("k2", "k3")}
    assert ("a1", "a2") in edges


def test_case_50_nested_function_that_is_handed_on_may_be_called(def_use):
    source = "int f(void) { int k = 1; void inner(void) { k = 2; } each(inner); return k; }"
    assert def_use(source) == {("k0", "k2"), ("k1", "k2")}


def test_case_52_write_in_a_finally_hides_those_in_its_try(def_use):
    source = """int f(int a) {
        __try { while (a > 3) a--; if (a) return 1; a = 1; }
        __finally { a = 2; }
        return a; }"""
    assert {edge for edge in def_use(source) if edge[1] == "a6"} == {("a5", "a6")}


def test_case_52_handler_sees_values_from_before_and_after_each_statement(def_use):
    source = "int f(void) { int a = 0; __try { a = g(); a = h(); } __except (1) { } return a; }"
    assert def_use(source) == {("a0", "a3"), ("a1", "a3"), ("a2", "a3")}


def test_case_53_writes_in_both_branches_of_a_conditional(def_use):
    source = "int f(int a, int b) { int c = a ? (b = 1) : (b = 2); return b + c; }"
    assert def_use(source) == {("a0", "a1"), ("b1", "b3"), ("b2", "b3"), ("c0", "c1")}


def test_case_53_write_behind_a_short_circuit_may_not_happen(def_use):
    source = "int f(int a) { int b; if (a && (b = g(a))) return b; return b; }"
    assert {edge for edge in def_use(source) if edge[0][0] == "b"} == {
        ("b1", "b2"),
        ("b0", "b3"),
        ("b1", "b3"),
    }


def test_case_53_statement_expression(def_use):
    source = "int f(int a) { int b = ({ int t = a; if (t) t = 2; t; }); return b; }"
    edges = {("a0", "a1"), ("t0", "t1"), ("t0", "t3"), ("t2", "t3"), ("b0", "b1")}
    assert def_use(source) == edges


def test_branch_taken_tells_which_operands_were_evaluated(def_use):
    source = "void f(int a) { int b; if (a || (b = g())) c(b); else d(b); }"
    assert {edge for edge in def_use(source) if edge[0][0] == "b"} == {
        ("b0", "b2"),
        ("b1", "b2"),
        ("b1", "b3"),
    }
    source = "void f(int a) { int b; if (!(a && (b = g()))) c(b); else d(b); }"
    assert {edge for edge in def_use(source) if edge[1] == "b3"} == {("b1", "b3")}


def test_condition_of_a_call_says_nothing_about_its_arguments(def_use):
    source = "void f(int a) { int b; if (g(a && (b = h()))) c(b); else d(b); }"
    assert {edge for edge in def_use(source) if edge[0][0] == "b"} == {
        ("b0", "b2"),
        ("b1", "b2"),
        ("b0", "b3"),
        ("b1", "b3"),
    }


def test_conditional_without_middle_operand(def_use):
    source = "int f(int a) { int b = 1; a ?: (b = 2); return b; }"
    assert def_use(source) == {("a0", "a1"), ("b0", "b2"), ("b1", "b2")}


def test_assignment_is_done_after_the_choices_in_its_right_side(def_use):
    source = "int f(int a, int x) { x = a ? x : x + 1; return x; }"
    assert def_use(source) == {("a0", "a1"), ("x0", "x2"), ("x0", "x3"), ("x1", "x4")}


def test_inner_one_of_two_assignments_is_done_first(def_use):
    assert def_use("int f(int x) { x = (x = 1); return x; }") == {("x1", "x3")}


def test_last_use_goes_past_what_a_short_circuit_leaves_out(last_use):
    assert last_use("void f(T *p, int c) { a(p); c && b(p); d(p); }") == {
        ("p1", "p2"),
        ("p1", "p3"),
        ("p2", "p3"),
    }


def test_old_style_parameters_are_written_on_entry(def_use):
    assert def_use("int f(a, b) int a; char *b; { return a + *b; }") == {("a1", "a2"), ("b1", "b2")}
    assert def_use("int f(a, b) int a; { return a + b; }") == {("a1", "a2"), ("b0", "b1")}
    assert def_use("main(argc, argv) char **argv; { a(argc, argv); }") == {
        ("argc0", "argc1"),
        ("argv1", "argv2"),
    }
    assert def_use("f(x) { a(x); }") == {("x0", "x1")}
    source = "struct s **f(p, n) struct s *p; int n; { while (n--) p++; return p; }"
    edges = {("p1", "p2"), ("p1", "p3"), ("p2", "p3")}
    assert {edge for edge in def_use(source) if edge[0][0] == "p"} == edges
    assert {("x0", "x1"), ("y0", "y1")} <= def_use("f(T *x, int y) { a(x, y); }")


def test_assembly_reads_inputs_and_writes_outputs(def_use):
    source = """int f(int a, int b, int c) {
        asm ("i" : "=r"(a), [sum] "+r"(b) : "r"(c), "0"(a) : "memory");
        return a + b + sum; }"""
    assert def_use(source) == {
        ("b0", "b1"),
        ("c0", "c1"),
        ("a0", "a2"),
        ("a1", "a3"),
        ("b1", "b2"),
    }


def test_assembly_output_through_a_pointer_reads_it(def_use):
    assert def_use('void f(int *p) { asm ("i" : "=m"(*p)); a(p); }') == {("p0", "p1"), ("p0", "p2")}


@pytest.mark.parametrize(
    "assembly",
    ["__asm { mov eax, x\n add x, 1 ; don't\n }", "__asm\n{\nmov eax, x\n};", "\n_asm mov x, 1\n"],
)
def test_names_in_assembly_of_microsoft_are_not_looked_at(assembly, def_use):
    source = f"int f(int x) {{ x = 1; if (x) {{ {assembly} }} else __asm {{ nop }} return x; }}"
    assert def_use(source) == {("x1", "x2"), ("x1", "x3")}


def test_output_of_assembly_is_there_at_its_labels(def_use):
    source = 'int f(int a) { asm goto ("i" : "=r"(a) ::: out); a = 1; out: return a; }'
    assert def_use(source) == {("a1", "a3"), ("a2", "a3")}


def test_names_that_are_not_evaluated_are_not_read(def_use, last_use):
    source = "int f(int x) { int y = sizeof x + sizeof(x++) + sizeof(x ? x : x); return x; }"
    assert def_use(source) == {("x0", "x6")}
    source = "int f(int x) { typeof(x) y = 1; __typeof__(x + 1) z = y; return z + x; }"
    assert def_use(source) == {("x0", "x1"), ("y0", "y1"), ("z0", "z1")}
    source = "int f(int x) { a(x); __typeof__(x) *p = &x; return _Generic(x, int: 1); }"
    assert last_use(source) == {("x1", "x2")}


def test_typeof_declares_the_name_behind_it(def_use):
    assert def_use("void f(T *p) { typeof(*p) q = *p; a(q, p); }") == {
        ("p0", "p1"),
        ("q0", "q1"),
        ("p0", "p2"),
    }


def test_length_of_an_array_type_is_read(def_use):
    assert def_use("int f(int n) { int v[n]; return sizeof(int[n]); }") == {
        ("n0", "n1"),
        ("n0", "n2"),
    }


def test_static_variable_keeps_its_value(def_use):
    source = "void f(int n) { while (n--) { static int s = 1; a(s); s = 2; } }"
    assert {edge for edge in def_use(source) if edge[0][0] == "s"} == {("s0", "s1"), ("s2", "s1")}


@pytest.mark.parametrize(
    "words", ["int static", "volatile static int", "static _Thread_local int", "const T extern"]
)
def test_storage_class_may_stand_anywhere_before_the_name(words, def_use):
    source = f"void f(int n) {{ while (n--) {{ {words} s = 1; a(s); s = 2; }} }}"
    assert {edge for edge in def_use(source) if edge[0][0] == "s"} == {("s0", "s1"), ("s2", "s1")}


def test_type_by_what_is_assigned(def_use):
    source = "int f(int n) { auto x = n; const auto *p = &x; auto int z = 1; return x + *p + z; }"
    assert def_use(source) == {
        ("n0", "n1"),
        ("x0", "x1"),
        ("x0", "x2"),
        ("x1", "x2"),
        ("p0", "p1"),
        ("z0", "z1"),
    }


def test_enumerators_are_constants_that_hide_variables(def_use, last_use):
    source = "void f(int x) { { enum { x = 3, y = x + 1 }; a(x, y); } b(x); }"
    assert def_use(source) == {("x0", "x4")}
    assert last_use(source) == {("x2", "x3")}


def test_nested_function_that_never_comes_back(def_use):
    source = "int f(int x) { void g(void) { exit(x); } g(); return x; }"
    assert def_use(source) == {("x0", "x1")}
    source = """int f(int x) {
        __label__ out;
        void g(void) { goto out; }
        x = 1; g(); x = 2; out: return x; }"""
    assert def_use(source) == {("x1", "x3")}


def test_what_no_path_reaches_is_seen_by_nothing_that_one_does(def_use):
    source = (
        "int f(int v) { switch (v) { int y = 1; case 1: a(y); } goto out; v = 2; out: return v; }"
    )
    assert def_use(source) == {("v0", "v1"), ("v0", "v3")}


def test_computed_goto_reads_its_pointer_and_carries_values(def_use):
    source = "int f(int x) { void *p = &&one; goto *p; x = 1; one: return x; }"
    assert def_use(source) == {("p0", "p1"), ("x0", "x2")}


def test_names_of_labels_are_no_variables(last_use):
    source = 'void f(void) { asm goto ("i" :::: x); x: a(&&x); b(&&x); }'
    assert last_use(source) == set()


def test_label_and_function_of_the_same_name_in_two_functions(def_use):
    source = "int f(int x) { goto o; o: return x; }\nint g(int x) { x = 1; goto o; o: return x; }"
    assert def_use(source) == {("x0", "x1"), ("x3", "x4")}


CHOICES = """
int f(a, p) int a; int *p;
{
    int b = a ? !p : (a && (b = g(a))) || !(a ?: 2), c = ({ int t = a; if (!t) t = 2; t; });
    int inner(int x) { return x ? b : exit(x), 1; }
    switch (a) { case 1 ... 3: b++; default: for (; a && !b; a--) continue; }
    __try { do { b = inner(a) ? *p : c; } while (b || h(a && c)); if (c) __leave; }
    __finally { static void *to[] = { &&end, &&f2 }; goto *to[a]; }
    asm goto ("x %0" : "=r"(c), "+r"(b) : "r"(a), "m"(p[a ? 1 : 2]) : "cc" : end, f2);
end: f2: return sizeof(a && b) + (c, !b) + typeof(a ? 1 : 2)(c);
}
"""


def test_a_tree_may_be_cut_off_at_any_node():
    source, parser = CHOICES.encode(), SyntaxParser()
    whole = parser.parse(source, 10_000)
    for num_nodes in range(1, len(whole.kinds) + 1):
        tree = parser.parse(source, num_nodes)
        flow = data_flow(tree, flow_graph(tree))
        edges = pairs([*flow.def_use, *flow.last_use])
        nodes = [node for edge in edges for node in edge]
        assert all(0 <= node < num_nodes for node in nodes)
