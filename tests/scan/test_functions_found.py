"""Which functions a source text holds: by name and lines, and what is named as not read."""

# ruff: noqa: E501, RUF005 - tables of sources that are easier to compare than to wrap

import re

import pytest

from sg_ray.scan.blanking import blanked
from sg_ray.scan.brackets import NO_COMMENT_END, NO_END, NO_HEAD, spans_in

CONDITION_IN_IFDEF = """\
struct st { int mode; int wrap; int flags; unsigned check; };

int APIENTRY first(struct st *s) { return s->mode; }

int APIENTRY run(struct st *s, int flush) {
    unsigned hold = 0;
    switch (s->mode) {
    case 0:
#ifdef PACKED
        if ((s->wrap & 2) && hold == 1) {
            s->mode = 1;
            break;
        }
        if (!(s->wrap & 1) ||
#else
        if (
#endif
            ((hold << 8) + 3) % 31) {
            s->mode = 2;
            break;
        }
        break;
    case 1:
        if ((s->wrap & 4) && (
#ifdef PACKED
             s->flags ? hold :
#endif
             helper(hold)) != s->check) {
            s->mode = 3;
            break;
        }
        break;
    }
    return 0;
}

unsigned helper(unsigned v) { return v + 1; }

int APIENTRY end(struct st *s) {
    struct st FAR *t;
    t = (struct st FAR *)s;
    return t->mode;
}

int third(void) { return 3; }
"""
OLD_STYLE = """\
int  plain(a, b) int a; int b; { return a + b; }
int *ptr(a, b)   int *a; int b; { return a + b; }
old(a) char *a; { return *a; }
char **pp(n) int n; { return 0; }
struct s *sp(n) int n; { return 0; }
main() { return 0; }
"""
MACRO_HEADS = """\
DEFINE_HANDLER(on_read)
{
    return r->len;
}
DEFINE_HANDLER(on_write) { return r->len + 1; }
SYSCALL_DEFINE3(read_it, unsigned int, fd, char *, buf, size_t, count)
{
    return do_read(fd, buf, count);
}
TEST(Suite, Case)
{
    ASSERT(1);
}
int normal(void) { return 0; }
"""


def found(text: str) -> list[str]:
    """The functions as "first line-last line first text", the rest as "lines: reason"."""
    code = blanked(text)
    lines = []
    for span in spans_in(code):
        place = f"{code.line(span.start)}-{code.line(span.end - 1)}"
        head = " ".join(re.split(r"[{;]", text[span.start : span.end])[0].split())
        lines.append(f"{place}: {span.reason}" if span.reason else f"{place} {head}")
    return lines


def names(text: str) -> list[str]:
    return [re.sub(r"^[-\d]+ ", "", line) for line in found(text)]


def test_case_10_a_condition_split_by_ifdef_keeps_its_function():
    assert found(CONDITION_IN_IFDEF) == [
        "3-3 int APIENTRY first(struct st *s)",
        "5-35 int APIENTRY run(struct st *s, int flush)",
        "37-37 unsigned helper(unsigned v)",
        "39-43 int APIENTRY end(struct st *s)",
        "45-45 int third(void)",
    ]


def test_case_12_old_style_heads():
    assert found(OLD_STYLE) == [
        "1-1 int plain(a, b) int a",
        "2-2 int *ptr(a, b) int *a",
        "3-3 old(a) char *a",
        "4-4 char **pp(n) int n",
        "5-5 struct s *sp(n) int n",
        "6-6 main()",
    ]


def test_case_12_heads_of_macros():
    assert found(MACRO_HEADS) == [
        "1-4 DEFINE_HANDLER(on_read)",
        "5-5 DEFINE_HANDLER(on_write)",
        "6-9 SYSCALL_DEFINE3(read_it, unsigned int, fd, char *, buf, size_t, count)",
        "10-13 TEST(Suite, Case)",
        "14-14 int normal(void)",
    ]


def test_the_text_of_a_function_is_the_source_as_written():
    text = (
        "int x;\n/* what f does */\nstatic int\nf(int a) // why\n{\n#if A\n\treturn 1;\n#endif\n}\n"
    )
    (span,) = spans_in(blanked(text))
    assert text[span.start : span.end] == text[text.index("static") : -1]


HEADS = {
    "attributes and calling conventions": (
        "__attribute__((noinline)) static int a(void) { return 1; }\n"
        "int __stdcall b(int x) { return x; }\n"
        "__declspec(dllexport) LRESULT WINAPI c(HWND h) { return 0; }\n"
        "static int d(void) __attribute__((unused)) ;\n"
        "int e(int x) NOEXCEPT_MACRO { return x; }\n",
        [
            "__attribute__((noinline)) static int a(void)",
            "int __stdcall b(int x)",
            "__declspec(dllexport) LRESULT WINAPI c(HWND h)",
            "int e(int x) NOEXCEPT_MACRO",
        ],
    ),
    "results that are structures or pointers to functions": (
        "struct a f(void) { return x; }\nenum b *g(struct c *d) { return 0; }\n"
        "int (*h(int n))(char *) { return 0; }\nunion u {\n int a;\n float b;\n};\n",
        ["struct a f(void)", "enum b *g(struct c *d)", "int (*h(int n))(char *)"],
    ),
    "names in macros": (
        "PyObject *FUNC(foo)(int a) { return 0; }\nGLOBAL(void)\njpeg_x (j_ptr x)\n{ y(x); }\n"
        "int (getc)(FILE *f) { return 0; }\nvoid f PROTO((int a)) { g(a); }\n",
        ["PyObject *FUNC(foo)(int a)", "GLOBAL(void) jpeg_x (j_ptr x)", "int (getc)(FILE *f)"]
        + ["void f PROTO((int a))"],
    ),
    "calls of macros above": (
        'EXPORT_SYMBOL(a)\nint b(void) { return 0; }\nMODULE_ID("x")\n\nMENU_EXPORT(int)\n'
        "set_pad(MENU *m)\n{ return 1; }\nBEGIN_DECLS\n\nint c(void) { return 1; }\n"
        "SEQ(X) = { A(X, 1), } SEQ_END(X)\n\nFUNCTIONS(X)\n\nint d(int a, int b)\n{ return 2; }\n",
        ["int b(void)", "MENU_EXPORT(int) set_pad(MENU *m)", "int c(void)"]
        + ["int d(int a, int b)"],
    ),
    "heads without parentheses": (
        "UNITTEST_START\n{\n  check(1);\n}\nPROLOGUE {}\nstruct_t x {1, 2};\n",
        ["UNITTEST_START"],
    ),
    "old style with macros, pointers to functions and branches": (
        "int f(__G__ a)\n    __GDEF\n    int a;\n{ return 1; }\n"
        "void g(cb, va_alist)\n    void (*cb)();\n    va_dcl\n{ cb(); }\n"
        "char *\n#if STDC\nh (char *b, size_t n)\n#else\nh (b, n)\n char *b;\n size_t n;\n"
        "#endif\n{ return b; }\n",
        ["int f(__G__ a) __GDEF int a", "void g(cb, va_alist) void (*cb)()"]
        + ["char * #if STDC h (char *b, size_t n) #else h (b, n) char *b"],
    ),
    "names that are words of C++": (
        "static int try(char *s) { return 1; }\nint or(void) { return 0; }\n"
        "static void catch(int n) { x(n); }\n",
        ["static int try(char *s)", "int or(void)", "static void catch(int n)"],
    ),
    "functions within functions": (
        "int f(int a)\n{\n  int g(int b) { return b; }\n  struct s { int m(void) { return 1; } };\n"
        "  return g(a);\n}\n",
        ["int f(int a)"],
    ),
    "data, types and prototypes": (
        "static const int table[] = { 1, 2, 3 };\nint p(int a);\nenum e { A = f(1), B };\n"
        "typedef struct { int (*call)(int); } ops;\nstatic struct ops o = { .call = run };\n"
        "ROWS(x)\n{ 1, 2 },\n{ 3, 4 },\nDEFINE_TABLE(y, { 1, 2 });\nclass API(1) C;\n"
        "int m(void)\n    ATTR NONNULL((1));\nint n(void)\n    ATTR\n    __nonnull((1));\nEND_DECLS\n"
        "PACK(struct q { int a; });\nenum { N = sizeof(union { int a; long b; }) };\n",
        [],
    ),
    "braces in what is not code": (
        "char *s = \"{\"; // {\n/* { */\n#define BEGIN {\nint f(void) { return '{'; } // it's {\n"
        'int g(void)\n{\n  puts("a\\"{");\n#define X "/*" \\\n    {\n  return 1; }\n',
        ["int f(void)", "int g(void)"],
    ),
    "code as an argument of a macro": (
        'TEST_CASE("x", [] {\n  run(1);\n});\nBLOCK(y, { return 1; })\nint f(void) { return 0; }\n',
        ['TEST_CASE("x", []', "BLOCK(y,", "int f(void)"],
    ),
}


@pytest.mark.parametrize("kind", HEADS)
def test_heads_of_c(kind):
    text, expected = HEADS[kind]
    assert names(text) == expected


CPP = {
    "members": (
        "class A : public B<int> {\n public:\n  A(int x) : B{x}, y_(1), z_{2} {}\n  ~A() override {}\n"
        "  int get() const noexcept { return y_; }\n  A& operator=(const A& o) = default;\n"
        "  bool operator<(const A& o) const { return 1; }\n  int operator()(int a) { return a; }\n"
        "  explicit operator bool() const { return true; }\n  void* operator new(size_t n) { return 0; }\n"
        " private:\n  int y_{0};\n  struct In { void f() { g(); } };\n};\n",
        ["A(int x) : B", "~A() override", "int get() const noexcept"]
        + ["bool operator<(const A& o) const", "int operator()(int a)"]
        + ["explicit operator bool() const", "void* operator new(size_t n)", "void f()"],
    ),
    "templates": (
        "template <typename T, int N = (3 > 2)>\nstatic T f(const T (&v)[N]) { return v[0]; }\n"
        "template <class T> requires requires(T t) { t.x(); }\nvoid g(T t) { t.x(); }\n"
        "template <> int A<int>::h() { return 1; }\nstd::map<int, std::function<int(int)>> m() "
        "{ return {}; }\ntemplate <class T> concept C = requires(T t) { t.x(); };\n",
        ["template <typename T, int N = (3 > 2)> static T f(const T (&v)[N])"]
        + ["template <class T> requires requires(T t)", "template <> int A<int>::h()"]
        + ["std::map<int, std::function<int(int)>> m()"],
    ),
    "blocks around": (
        'extern "C" {\nint a(void) { return 1; }\n}\nnamespace x::y {\nnamespace {\n'
        "int b() { return 1; }\n}\ninline namespace v {\nint c() { return 1; } } }\n"
        'extern "C" int d() { return 1; }\n',
        ["int a(void)", "int b()", "int c()", 'extern "C" int d()'],
    ),
    "results behind, attributes, function-try-blocks": (
        "auto f(int a) -> decltype((g)(a, B{}, 0)) { return 1; }\n[[nodiscard]] int h() { return 1; }\n"
        "A::A(int x) try : b_(x) { y(); } catch (...) { z(); }\nvoid check(int a, E&& e = {}) { a; }\n",
        ["auto f(int a) -> decltype((g)(a, B", "[[nodiscard]] int h()"]
        + ["A::A(int x) try : b_(x)", "void check(int a, E&& e ="],
    ),
    "lambdas": (
        "auto add = [](int a, int b) { return a + b; };\nint f() { return [] { return 1; }(); }\n"
        "A(F f) : f_([f](int a) { f(a); }), n_(0) { go(); }\n",
        ["auto add = [](int a, int b)", "int f()", "A(F f) : f_([f](int a)"],
    ),
    "literals of C++": (
        "const char* s = R\"x({ \" )x\";\nint f() { return 1'000'000; }\nint g() { return u8'{'; }\n"
        'int operator""_k(unsigned long long n) { return n; }\n',
        ["int f()", "int g()", 'int operator""_k(unsigned long long n)'],
    ),
}


@pytest.mark.parametrize("kind", CPP)
def test_cpp(kind):
    text, expected = CPP[kind]
    assert names(text) == expected


BRANCHES = {
    "two definitions": (
        "#ifdef A\nint f(void) { return 1; }\n#elif B\nint f(void) { return 2; }\n#else\n"
        "int f(void) { return 3; }\n#endif\n",
        ["2-2 int f(void)", "4-4 int f(void)", "6-6 int f(void)"],
    ),
    "two heads, one body": (
        "#ifdef A\nint f(int a)\n#else\nint f(void)\n#endif\n{\n  return 1;\n}\nint g(void) { x(); }\n",
        ["2-8 int f(int a) #else int f(void) #endif", "9-9 int g(void)"],
    ),
    "two heads with braces, one body": (
        "#ifdef A\nint f(int a,\n  int b) {\n#else\nint f(int a) {\n#endif\n  return a;\n}\n"
        "int g(void) { x(); }\n",
        ["2-8 int f(int a, int b)", "9-9 int g(void)"],
    ),
    "parameters": (
        "int f(int a\n#if 0\n, int z\n#endif\n#ifdef B\n, int b)\n#else\n)\n#endif\n{\n  return a;\n}\n",
        ["1-12 int f(int a #if 0 , int z #endif #ifdef B , int b) #else ) #endif"],
    ),
    "braces under complementary conditions": (
        "int f(void)\n{\n#ifdef A\n  if (x) {\n#endif\n#ifndef A\n  while (y) {\n#endif\n    z();\n  }\n"
        "  return 1;\n}\nint g(void) { return 2; }\n",
        ["1-12 int f(void)", "13-13 int g(void)"],
    ),
    "braces under the same condition, apart": (
        "int f(void)\n{\n#ifdef A\n  if (x) {\n#endif\n  z();\n#ifdef A\n  }\n#endif\n  return 1;\n}\n"
        "int g(void) { return 2; }\n",
        ["1-11 int f(void)", "12-12 int g(void)"],
    ),
    "an end in each branch": (
        "int f(void) {\n#ifdef A\n  return 1; }\n#else\n  return 2; }\n#endif\nint g(void) { return 3; }\n",
        ["1-5 int f(void)", "7-7 int g(void)"],
    ),
    "code that nobody compiles": (
        "static int a(void);\n#if 0\nit's { not code\n#endif\nint f(void)\n{\n#if 0\n  } {{ don't\n#endif\n"
        "  return 1;\n}\n#if 0\nint g(void) { return 2; }\n#endif\n",
        ["5-11 int f(void)", "13-13 int g(void)"],
    ),
    'the usual frame of extern "C"': (
        '#ifdef __cplusplus\nextern "C" {\n#endif\nint f(void) { return 1; }\n#ifdef __cplusplus\n}\n'
        "#endif\nint g(void) { return 2; }\n",
        ["4-4 int f(void)", "8-8 int g(void)"],
    ),
}


@pytest.mark.parametrize("kind", BRANCHES)
def test_conditional_compilation(kind):
    text, expected = BRANCHES[kind]
    assert found(text) == expected


HIDDEN = {
    "an opening brace in a macro": (
        "int f(void)\n{\n    EACH(x)\n        g(x);\n    }\n    return 1;\n}\nint h(void) { return 2; }\n",
        ["1-7 int f(void)", "8-8 int h(void)"],
    ),
    "a closing brace in a macro": (
        "int f(void)\n{\n    if (a) {\n        g(1);\n    END\n    return 1;\n}\n\nstatic int h(void)\n{\n"
        "    return 2;\n}\n",
        ["1-7 int f(void)", "9-12 static int h(void)"],
    ),
    "a brace that is missing": (
        "int f(int a)\n{\n    x();\n\nstatic int g(int b)\n{\n    return 2;\n}\nint h(void) { return 3; }\n",
        [f"1-4: {NO_END}", "5-8 static int g(int b)", "9-9 int h(void)"],
    ),
    "braces of macros": (
        "int f(void) BEGIN return 1; END\nint g(void)\n{\n    return 2;\n}\n",
        [f"1-1: {NO_HEAD}", "2-5 int g(void)"],
    ),
    "braces of macros, and no jump": (
        "int f(void) { return 1; }\nvoid g(int a)\nBEGIN\n    int x = a;\n    h(x);\nEND\n\nint k(void) { x(); }\n"
        "FUNC void l(void) IS x->y = 1; END\n",
        ["1-1 int f(void)", f"2-6: {NO_HEAD}", "8-8 int k(void)", f"9-9: {NO_HEAD}"],
    ),
    "braces of macros around control flow, up to the end": (
        "KEYWORD(if, 1)\nint f(void) { return 1; }\n#if 0\nif (nobody) compiles();\n#endif\nRUN(x)\n"
        "    while (a) g(a);\nSTOP\n",
        ["2-2 int f(void)", f"6-8: {NO_HEAD}"],
    ),
    "braces of macros of this file": (
        "#define BEGIN {\n#define END } /* { */\n#define FUNC(n) int n(void) {\n#define NS_BEGIN namespace n {\n"
        "#ifdef A\n#define MAYBE {\n#else\n#define MAYBE\n#endif\nvoid f(int a)\nBEGIN\n    g(a);\nEND\n"
        "FUNC(h)\n    if (x) BEGIN g(x); END\nEND\nNS_BEGIN\nint k(void) MAYBE { return 1; }\nEND\nint l(void) { x(); }\n",
        ["10-13 void f(int a) BEGIN g(a)", "14-16 FUNC(h) if (x) BEGIN g(x)"]
        + ["18-18 int k(void) MAYBE", "20-20 int l(void)"],
    ),
    "digraphs": (
        "%:if\\\n 0\nit's {\n%:endif\nint f(int a)\n<%\n    return a %3;\n%>\nint g(void) { return 1; }\n",
        ["5-8 int f(int a) <% return a %3", "9-9 int g(void)"],
    ),
    "trigraphs": (
        "int f(int a)\n??<\n    return a ?1:2;\n??>\nint g(void) { return 1; }\n",
        ["1-4 int f(int a) ??< return a ?1:2", "5-5 int g(void)"],
    ),
    "a comment without an end": (
        "int f(void) { return 1; }\n/* x\nint g(void) { return 1; }\n",
        ["1-1 int f(void)", f"2-3: {NO_COMMENT_END}"],
    ),
    "methods of Objective-C": (
        "@implementation A\n- (int)m {\n    return 1;\n}\n+ (id)n:(int)a with:(int)b\n{\n    return 0;\n}\n"
        "int f(void) { return 1; }\n",
        ["2-4 - (int)m", "5-8 + (id)n:(int)a with:(int)b", "9-9 int f(void)"],
    ),
    "a structure by a macro": (
        "PACKED(s) { int a; int b; };\nRUN(t) { a = 1; };\nint f(void) { return 1; }\n",
        ["2-2 RUN(t)", "3-3 int f(void)"],
    ),
    "frames of macros": (
        "BEGIN_C_DECLS\nint f(void) { return 1; }\nEND_C_DECLS\nint g(void) { return 2; }\n",
        ["2-2 int f(void)", "4-4 int g(void)"],
    ),
    'a macro above extern "C"': (
        'HEADER_BEGIN\nextern "C" {\nint f(void) { return 1; }\nint g(void) { return 2; }\n}\n',
        ["3-3 int f(void)", "4-4 int g(void)"],
    ),
    "a label and a macro's condition at the left": (
        "int f(int c)\n{\n    EACH(x)\n        }\n#if A\n    if (b) {\n#endif\nagain:\n    if TEST(c)\n"
        "    {\n        x();\n    }\n    }\n    return 1;\n}\nint g(void) { return 2; }\n",
        ["1-15 int f(int c)", "16-16 int g(void)"],
    ),
    "code that nobody compiles below a call of a macro": (
        "ID(x)\n#if 0\nint f(void)\n{\n    return 1;\n}\n#endif\nint g(void) { return 2; }\n",
        ["3-6 int f(void)", "8-8 int g(void)"],
    ),
    "no indentation at all": (
        "int f(int a)\n{\nif (a)\n{\nx = 1;\n}\nEACH(b)\n{\ny(b);\n}\nreturn x;\n}\nint g(void)\n{\nreturn 1;\n}\n",
        ["1-12 int f(int a)", "13-16 int g(void)"],
    ),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_braces_that_are_not_to_be_seen(kind):
    text, expected = HIDDEN[kind]
    assert found(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int f(void) { return 1; }\nint g(int a) {\n  if (a) {\n  return 2;\n", f"2-4: {NO_END}"),
        ("int f(void) { return 1; }\nint g(int a) {\n", f"2-2: {NO_END}"),
        (
            "  if (a) {\n    b();\n  }\n  return 1;\n}\nint f(void) { return 1; }\n",
            f"1-5: {NO_HEAD}",
        ),
    ],
)
def test_text_of_a_function_that_cannot_be_read_is_named(text, expected):
    lines = found(text)
    assert expected in lines
    assert sum(line.endswith("int f(void)") for line in lines) == 1
    assert len(lines) == 2


def test_a_macro_within_another_ones_arguments_keeps_every_position():
    text = "#define BEGIN {\n#define FUNC(n) int n(void) {\nFUNC(BEGIN)\n    x();\n}\n"
    code = blanked(text)
    assert len(code.blank) == len(text)
    assert code.blank.count("{") == 1


@pytest.mark.parametrize(
    "text",
    [
        "{" * 100_000,
        "}" * 100_000,
        "int f(){" + "{" * 100_000 + "}" * 100_001,
        "int f() {\n" * 20_000,
        "f() {{\n}\n" * 20_000,
        "f(x,{1}) " * 2_000,
        "#if A\n{\n#endif\n" * 10_000,
        "#if 0\n{\n#endif\n" * 10_000,
        "FOO(a)\n" * 20_000 + "int f(){}",
        "'" + "a" * 2_000_000,
        '"' + "\\a" * 1_000_000,
        '#define X "/*' * 20_000,
        'R"(' * 5_000,
        "a<" * 20_000 + "{;}",
        "(" * 100_000 + "{",
        "a # b " * 50_000,
        "public: " * 40_000 + "int f() {}",
        "f(x) A b;\n" * 20_000 + "int f() {}",
        "return " * 40_000 + "int f() {}",
        "#define A {\n" * 20_000 + "int f() A }",
        "(a) Word x ++ " * 20_000,
        ") W\na = b;" * 20_000,
        "".join(f"#define {n:x}_ {{\n" for n in range(2**20, 2**20 + 20_000)) + "word;\n" * 400_000,
    ],
    ids=range(23),
)
@pytest.mark.timeout(60)
def test_no_text_takes_for_ever(text):
    """A second each at most, where a way that goes back and forth takes minutes."""
    assert len(found(text)) <= 1
