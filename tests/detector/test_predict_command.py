import gzip
import io
import json
import lzma
from pathlib import Path
from types import SimpleNamespace

import pytest
import zstandard

from sg_ray.cli import main
from sg_ray.detector import Detector, WinnerCard
from sg_ray.files import write_json

TWO_FUNCTIONS = """\
#include <string.h>

static int first(char *s) { return strlen(s); }
#ifdef SECOND
int second(void)
{
    return 2;
}
#endif
"""
ROWS = b"".join(b'{"func": "int f%d(void) { return 0; }"}\n' % n for n in range(3))
FIRST = "static int first(char *s) { return strlen(s); }"


@pytest.fixture
def predict(lexical_model: Path, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["predict", str(lexical_model), *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_each_function_of_a_c_file_is_one_line(predict, lexical_model, tmp_path):
    path = tmp_path / "two.c"
    path.write_text(TWO_FUNCTIONS)
    code, out, _ = predict(path)
    probability, decision, place = out.splitlines()[0].split()
    detector = Detector.load(lexical_model)
    expected = detector.predict([FIRST])
    assert code == 0
    assert probability == f"{expected[0]:.4f}"
    assert decision == ("vulnerable" if detector.decide(expected)[0] else "ok")
    assert place == f"{path}:3"
    assert out.splitlines()[1].endswith(f"{path}:5")
    assert "strlen" not in out


def test_rows_become_json_with_their_line(predict, lexical_model, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"func": FIRST}) + "\n\n" + json.dumps({"func": "int g;"}) + "\n")
    _, out, _ = predict("--json", path)
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["file"], row["line"]) for row in rows] == [(str(path), 1), (str(path), 3)]
    expected = Detector.load(lexical_model).predict([FIRST, "int g;"])
    assert [row["probability"] for row in rows] == expected.tolist()
    assert all(type(row["vulnerable"]) is bool for row in rows)


@pytest.mark.parametrize(
    "text", [FIRST, json.dumps({"func": FIRST}), json.dumps([{"func": FIRST}]), "[[a]] " + FIRST]
)
def test_standard_input_may_be_c_or_rows(text, predict, monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    code, out, _ = predict("-")
    assert code == 0
    assert out.split()[2] == "stdin:1"


def test_many_functions_are_scored_in_order(predict, lexical_model, tmp_path):
    path = tmp_path / "many.jsonl"
    sources = [f"int f{number}(void) {{ return {number}; }}" for number in range(300)]
    path.write_text("".join(json.dumps({"func": source}) + "\n" for source in sources))
    _, out, _ = predict("--json", path)
    found = [json.loads(line)["probability"] for line in out.splitlines()]
    assert found == pytest.approx(Detector.load(lexical_model).predict(sources).tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("content", "complaint", "num_scored"),
    [
        ('{"func": "int f;"}\n{"target": 1}\n{"func": "int g;"}\n', "line 2: no C source under", 2),
        ('{"func": "int f;"}\n\n{"func": \n', "line 3: not JSON", 1),
        ('{"func": "int f;"}\n{"func": "\xff"}\n', "line 2: byte 10 (0xff) is not UTF-8", 1),
        ('{"func": ' + "9" * 5000 + '}\n{"func": "int f;"}\n', "line 1: no C source under", 1),
        ('{"func": "int f;", "func": ""}\n{"func": "int f;"}\n', "line 1: key 'func'", 1),
        ("[]\n", "line 1: a list", 0),
        (" \n", "no function in it", 0),
    ],
)
def test_case_15_a_bad_row_is_named_and_the_others_are_scored(
    content, complaint, num_scored, predict, tmp_path
):
    path = tmp_path / "rows.jsonl"
    path.write_text(content, encoding="latin-1")
    code, out, error = predict(path)
    assert code == 1
    assert len(out.splitlines()) == num_scored
    assert f"{path}: {complaint}" in error


def test_case_15_an_empty_file_does_not_end_the_scan(predict, tmp_path):
    for name, text in (("a", "int f(int a) { return a; }\n"), ("empty", ""), ("b", "int g() {}\n")):
        (tmp_path / f"{name}.c").write_text(text)
    files = [tmp_path / name for name in ("a.c", "empty.c", "missing.c", "b.c")]
    code, out, error = predict(*files)
    assert code == 1
    assert [line.split()[2] for line in out.splitlines()] == [f"{files[0]}:1", f"{files[3]}:1"]
    assert f"{files[1]}: no function in it\n" in error
    assert f"{files[2]}: cannot be read (No such file or directory)" in error


def test_case_15_a_folder_is_scanned(predict, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.cc").write_text("namespace n { int b() { return 1; } }\n")
    (tmp_path / "a.h").write_text("int f(int);\n")
    (tmp_path / "notes.txt").write_text("int f(int a) { return a; }\n")
    (tmp_path / "sub" / "a.c").write_text("int f(int a) { return a; }\n")
    code, out, error = predict(tmp_path)
    assert [line.split()[2] for line in out.splitlines()] == [
        f"{tmp_path}/b.cc:1",
        f"{tmp_path}/sub/a.c:1",
    ]
    assert code == 0
    assert f"{tmp_path}/a.h: no function in it" in error
    (tmp_path / "sub" / "cut.c").write_text("int f(int a) {\n  return")
    code, out, error = predict(tmp_path)
    assert (code, len(out.splitlines())) == (1, 2)
    assert f"{tmp_path}/sub/cut.c:1-2: not read: a function whose end was not found" in error
    (tmp_path / "none").mkdir()
    code, out, error = predict(tmp_path / "none")
    assert (code, out) == (1, "")
    assert "none: no C or C++ file in this folder" in error


NO_FUNCTION = {
    "noise.bin": (bytes(range(256)) * 16, "not text"),
    "noise.c": (b"\x01\x02 f(a) { b; } \x03\x04", "not text"),
    "only.h": (
        b"#ifndef X_H\n#define X_H\nint f(int);\nextern int g(char *);\n#endif\n",
        "no function in it",
    ),
    "table.c": (b"static const int table[] = { 1, 2, 3 };\n", "no function in it"),
    "bom.c": (b"\xef\xbb\xbf\n", "no function in it"),
    "macro.c": (b"\xff RETTYPE(f) (a, b)\n", "no function in it"),
    "odd.c": (b"\xff\xfei\0n", "not UTF-16, which its byte order mark tells"),
    "rows.json": (b"[]", "no function in it"),
    "rows.jsonl.gz": (b"\x1f\x8bnot packed", "cannot be unpacked"),
}


@pytest.mark.parametrize("name", NO_FUNCTION)
def test_case_14_what_holds_no_function_is_named_and_not_scored(name, predict, tmp_path):
    path = tmp_path / name
    content, complaint = NO_FUNCTION[name]
    path.write_bytes(content)
    code, out, error = predict(path)
    assert (code, out) == (1, "")
    assert f"{path}: {complaint}" in error


SOURCE = "int f(int a)\n{\n    return a + 1;\n}\n"


ENCODINGS = {
    "utf16.c": SOURCE.encode("utf-16"),
    "utf16be.c": b"\xfe\xff" + SOURCE.encode("utf-16-be"),
    "utf32.c": SOURCE.encode("utf-32"),
    "bom.c": SOURCE.encode("utf-8-sig"),
    "crlf.c": SOURCE.replace("\n", "\r\n").encode(),
    "cr.c": b"#include <a.h>\r" + SOURCE.replace("\n", "\r").encode(),
    "latin.c": SOURCE.encode() + b"/* \xe9t\xe9 */\n",
    "packed.c.gz": gzip.compress(SOURCE.encode()),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_case_14_source_is_read_in_any_encoding(name, predict, tmp_path):
    path = tmp_path / name
    path.write_bytes(ENCODINGS[name])
    code, out, _ = predict(path)
    assert code == 0
    assert [line.split()[2] for line in out.splitlines()] == [f"{path}:{1 + (name == 'cr.c')}"]


PACKED_ROWS = {
    "r.jsonl.gz": (gzip.compress(ROWS), [1, 2, 3]),
    "r.jsonl.xz": (lzma.compress(ROWS), [1, 2, 3]),
    "r.jsonl.zst": (zstandard.compress(ROWS), [1, 2, 3]),
    "r.json": (b'[{"func": "int f(void) { return 0; }"},\n\n{"func": "int g;"}]', [1, 3]),
    "r.json.gz": (gzip.compress(b'[\n{"func": "int f;"}]'), [2]),
    "lines.json": (ROWS, [1, 2, 3]),
    "one.json": (b'{\n"func": "int f;"\n}', [1]),
}


@pytest.mark.parametrize("name", PACKED_ROWS)
def test_case_14_rows_are_read_as_for_training(name, predict, tmp_path):
    path = tmp_path / name
    content, lines = PACKED_ROWS[name]
    path.write_bytes(content)
    code, out, _ = predict("--json", path)
    assert code == 0
    assert [json.loads(line)["line"] for line in out.splitlines()] == lines


def test_case_14_a_bad_row_of_an_array_is_named(predict, tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('[{"func": "int f;"},\n{"code": "int g;"},\n{"func": "int h;"},\n{"func": }]')
    code, out, error = predict(path)
    assert (code, [line.split(":")[-1] for line in out.splitlines()]) == (1, ["1", "3"])
    assert f"{path}: line 2: no C source under" in error
    assert f"{path}: line 4: not JSON, so what follows is not read" in error


def test_case_10_and_12_every_function_is_one_line(predict, tmp_path):
    path = tmp_path / "a.c"
    path.write_text(
        "int run(int a) {\n#ifdef A\n  if (a ||\n#else\n  if (\n#endif\n  b) { c(); }\n}\n"
        "int *old(a) int *a; { return a; }\nTEST(A, b)\n{\n  c();\n}\n"
    )
    code, out, _ = predict(path)
    assert code == 0
    assert [line.rpartition(":")[2] for line in out.splitlines()] == ["1", "9", "10"]


GRAMMAR = """\
%{
static int count(int a) { return a; }
%}
DIGIT [0-9]
%%
"if"      { n++; return IF; }
{DIGIT}+  { yylval = atoi(yytext); return NUM; }
.         { don't(); }
%%
int main(void)
{
    return yylex();
}
"""


def test_rules_of_lex_and_yacc_are_named_and_what_stands_around_them_is_scored(predict, tmp_path):
    path = tmp_path / "scan.l"
    path.write_text(GRAMMAR)
    code, out, error = predict(path)
    assert (code, [line.rpartition(":")[2] for line in out.splitlines()]) == (1, ["2", "10"])
    assert f"{path}:5-8: not read: rules of lex or yacc" in error
    path.write_text("%code {\nint lost(void) { return 1; }\n}\n%%\na: b\n")
    code, out, error = predict(path)
    assert (code, out) == (1, "")
    assert f"{path}:1-5: not read: rules of lex or yacc" in error
    path.write_text('/*\n%%\n*/\nint f(void) { return "%%\\\n%%\\\n"[a]; }\n')
    code, out, error = predict(path)
    assert (code, len(out.splitlines())) == (0, 1)


@pytest.mark.parametrize("is_below", [True, False])
def test_a_winner_below_the_floor_is_told_to_be_so(is_below, lexical_model, tmp_path, capsys):
    best = lexical_model.parent
    lexical_model.rename(best / "gnn")  # what scores is of no matter here
    card = {"model": "gnn", "config_hash": "ab", "trial_key": "cd"}
    write_json(best / "winner.json", WinnerCard(**card, is_below_floor=is_below))
    path = tmp_path / "a.c"
    path.write_text(SOURCE)
    for named in (best.parent, best / "gnn"):
        assert main(["predict", str(named), str(path)]) == 0
        out, error = capsys.readouterr()
        assert len(out.splitlines()) == 1
        assert (str(best / "lexical") in error) == is_below


@pytest.mark.parametrize("note", ["", "{}", '{"of": "another release"}'])
def test_a_note_of_a_winner_that_cannot_be_read_keeps_no_model_beside_it_from_scoring(
    note, lexical_model, tmp_path, capsys, monkeypatch
):
    (lexical_model.parent / "winner.json").write_text(note)
    (tmp_path / "a.c").write_text(SOURCE)
    monkeypatch.chdir(lexical_model)
    assert main(["predict", ".", str(tmp_path / "a.c")]) == 0
    assert "note" not in capsys.readouterr().err


def test_a_missing_model_is_named(tmp_path, capsys):
    assert main(["predict", str(tmp_path), "x.c"]) == 2
    assert "holds no model.json" in capsys.readouterr().err
