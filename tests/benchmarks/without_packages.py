"""Python as on a machine that lacks some packages."""

import os
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOT_ON_A_LENT_GPU = (
    "ray", "mlflow", "optuna", "tree_sitter", "tree_sitter_c", "ruamel", "zstandard", "sqlalchemy",
    "datasets",
)  # fmt: skip
"""What a machine that is lent for its GPU was seen to lack, beside pydantic, which is needed."""

_HIDING = """
from functools import partial
from importlib.machinery import PathFinder

def find_spec(found, name, path=None, target=None):
    return None if name.partition(".")[0] in {hidden} else found(name, path, target)

PathFinder.find_spec = partial(find_spec, PathFinder.find_spec)
"""


def environment_without(packages: Sequence[str], folder: Path) -> dict[str, str]:
    """Return the environment of processes that do not find ``packages``; ``folder`` is for it."""
    code = _HIDING.format(hidden=sorted(packages))
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
