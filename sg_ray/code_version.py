"""Which code made a number: a hash of what decides it, not of how it is explained."""

import ast
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

_PARTS = ("data", "features", "models", "training")
"""The folders of the package that decide a trial's numbers."""


@lru_cache(maxsize=1)
def code_version() -> str:
    """Return the version of the installed code: records of another one do not count with its own.

    Comments, docstrings and layout are no part of it, and neither is code elsewhere in the package.
    """
    package = Path(__file__).parent
    paths = sorted(path for part in _PARTS for path in (package / part).rglob("*.py"))
    return version_of({path.relative_to(package).as_posix(): path.read_bytes() for path in paths})


def version_of(sources: Mapping[str, bytes]) -> str:
    """Return the version of source files by their names, as 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, source in sources.items():
        digest.update(f"{name}\n{ast.dump(_Unexplained().visit(ast.parse(source)))}\n".encode())
    return digest.hexdigest()[:12]


class _Unexplained(ast.NodeTransformer):
    """Leaves out docstrings, also those below the fields of a class: statements without effect."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node
