"""Ray's private names: where they are used, and in which release they were read."""

import ast
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from sg_ray.cluster.ray_private import core_names, train_tune_names

PACKAGE = Path(__file__).parents[2] / "sg_ray"
PRIVATE = ("_private", "_internal", "_raylet", "generated")


def private_uses(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ray."):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            named = [alias.name.split(".") for alias in node.names]
            names = [part for parts in named if parts[0] == "ray" for part in parts]
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("ray."):
            names = ast.unparse(node).split(".")
        else:
            continue
        yield from (f"{path}:{node.lineno}" for name in names if name in PRIVATE)


def test_the_release_is_the_one_in_which_they_were_read() -> None:
    assert version("ray").startswith("2.60."), "look at every name in sg_ray/cluster/ray_private"


def test_they_are_all_there() -> None:
    for module in (core_names, train_tune_names):
        assert all(getattr(module, name) is not None for name in module.__all__)


def test_nobody_else_uses_any() -> None:
    own = PACKAGE / "cluster" / "ray_private"
    others = [path for path in PACKAGE.rglob("*.py") if path.parent != own]
    assert [use for path in others for use in private_uses(path)] == []
    assert list(private_uses(own / "core_names.py")), "the search for them finds none at all"
