"""Files of known functions, drawn at random, give exactly those."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from sg_ray.scan.blanking import blanked
from sg_ray.scan.brackets import spans_in

HEADS = (
    "static int {}(int a)",
    "struct s *{}(struct s *a, int b)",
    "int ZEXPORT {}(a, b)\n    int a;\n    char *b;",
    "{}(a)\n    struct s *a;",
    "SYSCALL_DEFINE1({}, int, a)",
    "__attribute__((noinline))\nint {}(void)",
    "#ifdef OLD\nint {0}(a) int a;\n#else\nint {0}(int a)\n#endif",
    "template <class T> T A<T>::{}(T a) const noexcept",
)
STATEMENTS = (
    "    x = y; /* } */",
    '    if (x) {\n        y("{");\n    }',
    "#ifdef A\n    if (x ||\n#else\n    if (\n#endif\n        y) {\n        z();\n    }",
    "#if B > 1\n    while (x) {\n#else\n    for (;;) {\n#endif\n        y();\n    }",
    "#ifdef A\n    {\n#endif\n    x();\n#ifdef A\n    }\n#endif",
    "#if 0\n    it's } not code {{\n#endif",
    "#define BEGIN {{ \\\n    {{\n    c = '{';  // {",
    "    struct t v = {1, {2}};\n    auto g = [&](int a) { return a; };",
)
BETWEEN = (
    "",
    "int proto(int a, char *b);",
    "static const int table[] = {1, 2};\ntypedef struct { int a; } t;",
    "enum e { A, B };\n#define HEAD(x) int x() {",
    "/* int f(void) { */ // {",
    "EXPORT_SYMBOL(x);\nstruct s { int (*call)(int); };",
    "#if 0\nnot { code\n#endif",
    'extern "C" {\n}\nnamespace n { class B { int b; }; }',
)


@st.composite
def files(draw):
    """A text, and the names of its functions with their first and last lines."""
    lines: list[str] = []
    functions = []
    for number in range(draw(st.integers(0, 6))):
        lines += draw(st.sampled_from(BETWEEN)).split("\n")
        head = draw(st.sampled_from(HEADS)).format(f"f{number}").split("\n")
        body = [
            line
            for part in draw(st.lists(st.sampled_from(STATEMENTS), max_size=5))
            for line in part.split("\n")
        ]
        # A directive above the head is no part of it.
        first = len(lines) + (2 if head[0].startswith("#") else 1)
        if draw(st.booleans()) and not head[-1].startswith("#"):
            head[-1] += " {"
        else:
            head.append("{")
        lines += [*head, *body, "    return 1;", "}"]
        functions.append((f"f{number}", first, len(lines)))
    return "\n".join([*lines, ""]), functions


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(files())
def test_every_function_is_found_with_its_lines_and_nothing_else(file):
    text, functions = file
    code = blanked(text)
    found = []
    for span in spans_in(code):
        assert not span.reason
        name = re.search(r"\bf\d\b", text[span.start : span.end])
        assert name is not None
        found.append((name[0], code.line(span.start), code.line(span.end - 1)))
    assert found == functions
