def test_if_with_else_splits_and_joins(control_flow):
    assert control_flow("void f(void) { if (c) { a(); } else b(); d(); }") == {
        ("f", "c"),
        ("c", "a"),
        ("c", "b"),
        ("a", "d"),
        ("b", "d"),
    }


def test_if_without_else_may_be_passed_over(control_flow):
    assert control_flow("void f(void) { if (c) a(); d(); }") == {
        ("f", "c"),
        ("c", "a"),
        ("c", "d"),
        ("a", "d"),
    }


def test_else_if_is_a_chain(control_flow):
    assert control_flow("void f(void) { if (c) a(); else if (d) b(); e(); }") == {
        ("f", "c"),
        ("c", "a"),
        ("c", "d"),
        ("d", "b"),
        ("d", "e"),
        ("a", "e"),
        ("b", "e"),
    }


def test_while_with_break_and_continue(control_flow):
    source = "void f(void) { while (c) { if (p) break; if (q) continue; a(); } d(); }"
    assert control_flow(source) == {
        ("f", "c"),
        ("c", "p"),
        ("c", "d"),
        ("p", "break_statement"),
        ("break_statement", "d"),
        ("p", "q"),
        ("q", "continue_statement"),
        ("continue_statement", "c"),
        ("q", "a"),
        ("a", "c"),
    }


def test_do_while_runs_its_body_first_and_continues_at_its_condition(control_flow):
    assert control_flow("void f(void) { do { if (p) continue; a(); } while (c); d(); }") == {
        ("f", "p"),
        ("p", "continue_statement"),
        ("continue_statement", "c"),
        ("p", "a"),
        ("a", "c"),
        ("c", "p"),
        ("c", "d"),
    }


def test_for_goes_through_initialiser_condition_body_and_update(control_flow):
    source = "void f(void) { for (int i = 0; i < n; i++) { if (p) continue; a(); } d(); }"
    assert control_flow(source) == {
        ("f", "int i = 0"),
        ("int i = 0", "i < n"),
        ("i < n", "p"),
        ("p", "continue_statement"),
        ("continue_statement", "i ++"),
        ("p", "a"),
        ("a", "i ++"),
        ("i ++", "i < n"),
        ("i < n", "d"),
    }


def test_endless_for_ends_only_by_break(control_flow):
    assert control_flow("void f(void) { for (;;) { if (p) break; } d(); }") == {
        ("f", "p"),
        ("p", "break_statement"),
        ("break_statement", "d"),
        ("p", "p"),
    }


def test_switch_falls_through_and_is_passed_over_without_default(control_flow):
    source = "void f(void) { switch (v) { case 1: a(); case 2: b(); break; case 3: c(); } d(); }"
    assert control_flow(source) == {
        ("f", "v"),
        ("v", "1 a"),
        ("1 a", "a"),
        ("a", "2 b"),
        ("v", "2 b"),
        ("2 b", "b"),
        ("b", "break_statement"),
        ("break_statement", "d"),
        ("v", "3 c"),
        ("3 c", "c"),
        ("c", "d"),
        ("v", "d"),
    }


def test_switch_with_default_always_takes_a_case(control_flow):
    source = "void f(void) { switch (v) { case 1: a(); break; default: b(); } d(); }"
    edges = control_flow(source)
    assert ("v", "b") in edges
    assert ("v", "d") not in edges


def test_continue_inside_switch_belongs_to_the_loop(control_flow):
    source = "void f(void) { while (c) { switch (v) { case 1: continue; } a(); } }"
    edges = control_flow(source)
    assert ("continue_statement", "c") in edges
    assert ("v", "a") in edges


def test_goto_leads_to_its_label_forward_and_back(control_flow):
    source = "void f(void) { again: a(); if (c) goto again; goto out; b(); out: d(); }"
    assert control_flow(source) == {
        ("f", "again a"),
        ("again a", "a"),
        ("a", "c"),
        ("c", "again"),
        ("again", "again a"),
        ("c", "out"),
        ("out", "out d"),
        ("b", "out d"),
        ("out d", "d"),
    }


def test_goto_without_label_and_return_lead_nowhere(control_flow):
    assert control_flow("void f(void) { if (c) return; goto gone; }") == {
        ("f", "c"),
        ("c", "return_statement"),
        ("c", "gone"),
    }


def test_empty_body_has_its_block(control_flow):
    assert control_flow("void f(void) { }") == {("f", "compound_statement")}


def test_empty_loop_body_goes_back(control_flow):
    assert control_flow("void f(void) { while (c) {} d(); }") == {
        ("f", "c"),
        ("c", "compound_statement"),
        ("compound_statement", "c"),
        ("c", "d"),
    }


def test_preprocessor_branches_are_both_possible(control_flow):
    source = "void f(void) {\n#ifdef X\n a();\n#else\n b();\n#endif\n d();\n}"
    assert control_flow(source) == {
        ("f", "X a b"),
        ("X a b", "a"),
        ("X a b", "b"),
        ("a", "d"),
        ("b", "d"),
    }


def test_call_joined_to_a_block_is_a_loop(control_flow):
    source = "void f(void) { FOREACH(x, y) { if (p) break; a(); } d(); }"
    assert control_flow(source) == {
        ("f", "FOREACH x y"),
        ("FOREACH x y", "p"),
        ("p", "break_statement"),
        ("break_statement", "d"),
        ("p", "a"),
        ("a", "FOREACH x y"),
        ("FOREACH x y", "d"),
    }


def test_call_before_a_block_of_its_own_is_no_loop(control_flow):
    assert control_flow("void f(void) { a(); { b(); } d(); }") == {
        ("f", "a"),
        ("a", "b"),
        ("b", "d"),
    }


def test_statements_of_a_function_without_its_end_still_follow_each_other(control_flow):
    edges = control_flow("static int f(int p)\n{\n a(); if (c) {\n b();\n d();")
    assert {("f int p", "a"), ("a", "b"), ("b", "d")} <= edges


def test_functions_of_one_file_do_not_run_into_each_other(control_flow):
    assert control_flow("int g(void) { a(); }\nint f(void) { b(); }") == {("f", "a"), ("f", "b")}
