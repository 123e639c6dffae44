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


def test_what_follows_a_function_in_a_file_is_not_run_after_it(control_flow):
    source = "void f(void) { a(); }\nint x = 1;\nEXPORT(f);\nvoid g(void) { b(); }"
    assert {edge for edge in control_flow(source) if edge[0] in "fab"} == {("f", "a"), ("f", "b")}


def test_rest_of_a_function_that_seems_to_end_early_follows_it(control_flow):
    assert ("a", "b") in control_flow("void f(void) { a(); } b(); c(); }")
    assert ("a", "c") in control_flow("void f(void) { a(); } if (c) d(); }")


def test_function_without_type_is_no_loop(control_flow):
    source = "main(argc, argv) { a(); }\nother(x, y) { b(); }\nlast(x) { d(); }"
    assert control_flow(source) == {("main argc argv", "a"), ("other x y", "b"), ("f", "d")}


def test_old_style_function_that_returns_a_pointer_is_one(control_flow):
    assert control_flow("static char *\nf(p) const char *p;\n{ a(); }") == {("f", "a")}


def test_case_50_flow_passes_by_a_nested_function(control_flow):
    source = "int f(int a) { int inner(int b) { return b + 1; } return inner(a); }"
    assert control_flow(source) == {("f", "inner a"), ("f", "b + 1")}


def test_case_50_block_with_nothing_but_a_nested_function_is_empty(control_flow):
    source = "void f(void) { if (c) { void g(void) { a(); } } d(); }"
    block = "void g void a"
    assert control_flow(source) == {("f", "c"), ("c", block), (block, "d"), ("c", "d"), ("f", "a")}


def test_labels_belong_to_their_function(control_flow):
    source = "void f(void) { goto out; out: a(); }\nvoid g(void) { goto out; b(); out: d(); }"
    edges = control_flow(source)
    assert {("f", "out"), ("out", "out a"), ("out", "out d")} <= edges
    source = "void f(void) { void g(void) { goto out; out: b(); } goto out; a(); out: d(); }"
    edges = control_flow(source)
    assert ("out", "out b") in edges
    assert ("out", "out d") in edges
    assert len([edge for edge in edges if edge[1] == "out d"]) == 2


def test_label_in_both_preprocessor_branches_may_be_either(control_flow):
    source = "void f(void) { goto out;\n#ifdef X\n out: a();\n#else\n out: b();\n#endif\n d(); }"
    assert {("out", "out a"), ("out", "out b")} <= control_flow(source)


def test_macro_before_a_block_that_looks_like_a_function_is_a_loop(control_flow):
    source = "void f(void) { CPU_FOREACH(cpu) { if (p) break; a(); } d(); }"
    assert control_flow(source) == {
        ("f", "f"),
        ("f", "p"),
        ("p", "break_statement"),
        ("break_statement", "d"),
        ("p", "a"),
        ("a", "f"),
        ("f", "d"),
    }


def test_case_52_try_with_finally(control_flow):
    source = """int f(int a) {
        __try { while (a > 3) a--; if (a) return 1; a = 1; }
        __finally { b(); }
        d(); }"""
    assert control_flow(source) == {
        ("f", "a > 3"),
        ("a > 3", "a --"),
        ("a --", "a > 3"),
        ("a > 3", "a"),
        ("a", "1"),
        ("a", "a = 1"),
        ("1", "b"),
        ("a = 1", "b"),
        # Any of them may raise.
        ("a > 3", "b"),
        ("a --", "b"),
        ("a", "b"),
        ("b", "d"),
    }


def test_case_52_try_with_except(control_flow):
    source = "void f(void) { __try { a(); if (c) __leave; b(); } __except (p(x)) { e(); } d(); }"
    assert control_flow(source) == {
        ("f", "a"),
        ("a", "c"),
        ("c", "seh_leave_statement"),
        ("seh_leave_statement", "d"),
        ("c", "b"),
        ("b", "d"),
        ("a", "p x"),
        ("c", "p x"),
        ("b", "p x"),
        ("p x", "e"),
        ("e", "d"),
    }


def test_case_52_finally_leads_where_its_try_was_left_for(control_flow):
    source = """void f(void) {
        while (c) { __try { if (p) break; if (q) continue; goto out; } __finally { b(); } }
        d(); return; out: e(); }"""
    edges = control_flow(source)
    jumps = {"break_statement", "continue_statement", "out"}
    assert {edge for edge in edges if edge[0] in jumps} == {(jump, "b") for jump in jumps}
    assert {edge for edge in edges if edge[0] == "b"} == {("b", "c"), ("b", "d"), ("b", "out e")}


def test_case_52_finally_after_which_the_function_returns_leads_nowhere(control_flow):
    source = "int f(void) { __try { return 1; } __finally { b(); } d(); }"
    assert control_flow(source) == {("f", "1"), ("1", "b")}


def test_case_52_leave_runs_the_finally_of_its_own_try_only(control_flow):
    source = """void f(void) {
        __try { __try { __leave; } __finally { a(); } b(); } __finally { d(); }
        e(); }"""
    assert control_flow(source) == {
        ("f", "seh_leave_statement"),
        ("seh_leave_statement", "a"),
        ("a", "b"),
        # What is raised on the way runs the outer one.
        ("a", "d"),
        ("b", "d"),
        ("d", "e"),
    }


def test_case_52_return_runs_every_finally_around_it(control_flow):
    source = """int f(void) {
        __try { __try { return 1; } __finally { a(); } } __finally { b(); }
        e(); }"""
    assert control_flow(source) == {("f", "1"), ("1", "a"), ("a", "b")}


def test_statements_of_a_statement_expression_run_within_their_statement(control_flow):
    source = "int f(int a) { int b = ({ int t = a; if (t) return 1; t; }); d(); }"
    whole = "int b = int t = a t 1 t"
    assert control_flow(source) == {
        ("f", whole),
        (whole, "int t = a"),
        ("int t = a", "t"),
        ("t", "1"),
        ("t", "t"),
        ("t", "d"),
    }


def test_statement_expression_behind_a_short_circuit_may_be_passed_over(control_flow):
    edges = control_flow("void f(void) { if (c && ({ a(); p; })) b(); d(); }")
    test = "c && a p"
    assert edges == {
        ("f", test),
        (test, "a"),
        (test, "d"),
        ("a", "p"),
        ("p", "b"),
        ("p", "d"),
        ("b", "d"),
    }


def test_break_in_a_statement_expression_belongs_to_the_loop_around(control_flow):
    edges = control_flow("void f(void) { while (c) { x = ({ if (p) break; q; }); a(); } d(); }")
    assert ("break_statement", "d") in edges
    assert ("q", "a") in edges


def test_statement_expression_that_is_not_evaluated_does_not_run(control_flow):
    source = "void f(void) { a(sizeof(({ b(); }))); d(); }"
    assert control_flow(source) == {("f", "a b"), ("a b", "d")}


def test_computed_goto_leads_to_the_labels_with_an_address(control_flow):
    source = """void f(int x) {
        static void *t[] = { &&one, &&two };
        goto *t[x];
        one: a(); two: b(); three: d(); }"""
    edges = control_flow(source)
    assert {edge for edge in edges if edge[0] == "* t x"} == {
        ("* t x", "one a"),
        ("* t x", "two b"),
    }
    assert ("static void * t = & & one & & two", "* t x") in edges


def test_computed_goto_by_a_pointer_and_in_a_branch(control_flow):
    source = "void f(void *p) { if (c) goto *t[x]; else goto *p; a(); out: b(&&out); }"
    assert control_flow(source) == {
        ("f", "c"),
        ("c", "* t x"),
        ("c", "* p"),
        ("* t x", "out b & & out"),
        ("* p", "out b & & out"),
        ("a", "out b & & out"),
        ("out b & & out", "b & & out"),
    }


def test_case_range_has_no_statement_of_its_own(control_flow):
    source = "void f(int v) { switch (v) { case 1 ... 3: a(); case 'a' ... 'z': b(); } }"
    assert control_flow(source) == {
        ("f", "v"),
        ("v", "1 3 a"),
        ("1 3 a", "a"),
        ("a", "'a' 'z' b"),
        ("v", "'a' 'z' b"),
        ("'a' 'z' b", "b"),
    }


def test_assembly_may_go_to_its_labels_or_on(control_flow):
    source = 'void f(void) { asm goto ("j" :: "r"(x) :: out); a(); out: b(); }'
    jump = '"j" "r" x out'
    assert {edge for edge in control_flow(source) if edge[0] == jump} == {
        (jump, "a"),
        (jump, "out b"),
    }


def test_assembly_of_microsoft_is_a_statement(control_flow):
    source = """void f(void) {
        if (c) __asm { mov eax, x }; else _asm{ nop }
        __asm ret
        __asm volatile ("w");
        d(); }"""
    block, other, line, gnu = "{ mov eax, x ", "{ nop", " r", '"w"'
    assert control_flow(source) == {
        ("f", "c"),
        ("c", block),
        ("c", other),
        (block, line),
        (other, line),
        (line, gnu),
        (gnu, "d"),
    }


def test_loop_without_body(control_flow):
    assert control_flow("void f(void) { do ; while (c); while (d) ; }") == {
        ("f", "c"),
        ("c", "c"),
        ("c", "d"),
        ("d", "d"),
    }


def test_functions_that_do_not_come_back(control_flow):
    assert control_flow("void f(void) { if (c) { exit(1); } x || abort(); d(); }") == {
        ("f", "c"),
        ("c", "exit 1"),
        ("c", "x || abort"),
        ("x || abort", "d"),
    }
