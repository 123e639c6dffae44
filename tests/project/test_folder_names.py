"""What a sweep's folder holds is called by ``sg_ray.sweep_folder``, and nowhere else by a name."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sg_ray import sweep_folder
from sg_ray.sweep_folder import SweepFolder

PACKAGE = Path(sweep_folder.__file__).parent
HERE = Path("/here")
ELSEWHERE = {
    ("features/build.py", "features"): "of the cache",
    ("tracking/check.py", ".lock"): "beside MLflow's database",
    ("tracking/mlflow_store.py", ".lock"): "beside MLflow's database",
    ("features/store.py", ".lock"): "beside stored features",
}
"""Files and folders of the same name that lie in no sweep's folder, or are only called so there."""


def names() -> set[str]:
    """Every name in the folder: those of its properties and methods, and the module's constants."""
    folder = SweepFolder(HERE)
    places = [getattr(folder, name) for name in dir(SweepFolder) if not name.startswith("_")]
    made = [place("KEY") for place in places if callable(place)]
    paths = [p for p in [*places, *made] if isinstance(p, Path) and p.is_relative_to(HERE)]
    parts = {part for path in paths for part in path.relative_to(HERE).parts}
    constants = {value for name, value in vars(sweep_folder).items() if name.isupper()}
    texts = {text for text in constants if isinstance(text, str)}
    return {part for part in parts | texts if "KEY" not in part and "attempt-" not in part}


NAMES = names()
FILES = re.compile(r"(?<![\w-])(" + "|".join(re.escape(n) for n in NAMES if "." in n) + r")(?!\w)")
FOLDERS = {name for name in NAMES if "." not in name}


def test_the_names_are_known() -> None:
    assert {"sweep.yaml", "events.jsonl", "last.pt", "verdict.json", ".lock", "ray.log"} <= NAMES
    assert {"records", "trials", "best", "search", "set_aside", "packages"} <= FOLDERS


def literals(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each file or folder that is called by a literal.

    A file's name counts in any text but a docstring; a folder's, which may be any word, where it is
    part of a path: beside a slash in a text, or an operand of ``/``.
    """
    tree = ast.parse(source)
    notes = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    joined = {
        id(operand)
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
        for operand in (node.left, node.right)
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            continue
        if id(node) in notes:
            continue
        text = node.value
        yield from ((node.lineno, name) for name in FILES.findall(text))
        parts = text.split("/") if "/" in text or id(node) in joined else []
        words = {re.split(r"[^\w.-]", part)[-1 if at == 0 else 0] for at, part in enumerate(parts)}
        yield from ((node.lineno, name) for name in sorted(words & FOLDERS))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('path / "sweep.yaml"', ["sweep.yaml"]),
        ('f"{folder}/records/{key}.json"', ["records"]),
        ('print("see ray.log.")', ["ray.log"]),
        ('folder.glob("trials/*/last.pt")', ["last.pt", "trials"]),
        ('"""Reads sweep.yaml."""', []),
        ('stage = "search"', []),
        ('name = "valid.jsonl and test.jsonl"', []),
        ('folder / "trials" / key', ["trials"]),
    ],
)
def test_a_literal_is_seen(source: str, found: list[str]) -> None:
    assert sorted(name for _, name in literals(source)) == found


def test_no_other_module_calls_them_by_a_literal() -> None:
    told = []
    used = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).as_posix()
        if module == "sweep_folder.py":
            continue
        for line, name in literals(path.read_text(encoding="utf-8")):
            used.add((module, name))
            if (module, name) not in ELSEWHERE:
                told.append(f"sg_ray/{module}:{line}: {name}")
    assert told == []
    assert set(ELSEWHERE) <= used, "what is allowed and not needed any more"
