import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from sg_ray.cli import main
from sg_ray.detector import Detector

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


@pytest.mark.parametrize("text", [FIRST, json.dumps({"func": FIRST})])
def test_standard_input_may_be_c_or_rows(text, predict, monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    code, out, _ = predict("-")
    assert code == 0
    assert out.split()[2] == "stdin:1"


def test_source_that_is_no_definition_is_scored_as_a_whole(predict, tmp_path):
    path = tmp_path / "macro.c"
    path.write_bytes(b"\xff RETTYPE(f) (a, b)\n")
    _, out, _ = predict(path)
    assert out.split()[2] == f"{path}:1"


def test_many_functions_are_scored_in_order(predict, lexical_model, tmp_path):
    path = tmp_path / "many.jsonl"
    sources = [f"int f{number}(void) {{ return {number}; }}" for number in range(300)]
    path.write_text("".join(json.dumps({"func": source}) + "\n" for source in sources))
    _, out, _ = predict("--json", path)
    found = [json.loads(line)["probability"] for line in out.splitlines()]
    assert found == pytest.approx(Detector.load(lexical_model).predict(sources).tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"func": "int f;"}\n{"target": 1}\n', 'line 2: no C source under "func"'),
        ('{"func": "int f;"}\n\n{"func": \n', "line 3: not JSON"),
        ("[]\n", 'line 1: no C source under "func"'),
        (" \n", "is empty"),
    ],
)
def test_a_bad_row_is_named(content, complaint, predict, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    code, _, error = predict(path)
    assert code == 2
    assert str(path) in error
    assert complaint in error


def test_a_missing_file_or_model_is_named(predict, tmp_path, capsys):
    code, _, error = predict(tmp_path / "missing.c")
    assert code == 2
    assert "missing.c cannot be read" in error
    assert main(["predict", str(tmp_path), "x.c"]) == 2
    assert "holds no model.json" in capsys.readouterr().err
