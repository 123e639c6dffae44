"""What a node of a cluster is asked before it trains. It runs there, in a process of Ray's.

It travels by value, for this package may be missing there, or be another: what stands here knows
the standard library alone, and looks for everything else on the node.
"""

import importlib
import importlib.util
import platform
import runpy
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PATIENCE_S = 5.0
"""A shared file system may show a new file that much later on another machine."""


def answer(
    token: str, content: str, mark: str, modules: Iterable[str], own_code: Iterable[str]
) -> dict[str, Any]:
    """Return the fields of ``NodeAnswer`` for this node, as plain values.

    ``token`` is a file with ``content`` that the driver has written, ``mark`` one to be written for
    it to read; ``modules`` must be there to be imported, ``own_code`` are references to the user's.
    """
    package, code_version, own_versions, code_trouble = _code(own_code)
    return {
        "host": platform.node(),
        "python": platform.python_version(),
        "ray": _installed("ray"),
        "package": package,
        "code_version": code_version,
        "own_versions": own_versions,
        "code_trouble": code_trouble,
        "missing": [name for name in modules if importlib.util.find_spec(name) is None],
        **_torch(),
        **_folder(Path(token), content, Path(mark)),
    }


def _code(own_code: Iterable[str]) -> tuple[str, str, dict[str, str], str]:
    """Return where sg_ray lies, its version, those of the user's code, and what went wrong."""
    own_versions: dict[str, str] = {}
    package = code_version = ""
    try:
        initial = importlib.import_module("sg_ray").__file__
        if initial is None:  # a folder of that name, such as an empty checkout
            raise ModuleNotFoundError("No module named 'sg_ray'")
        package = str(Path(initial).parent)
        code_version = importlib.import_module("sg_ray.code_version").code_version()
        plugin = importlib.import_module("sg_ray.plugins").Plugin
        for reference in own_code:
            found = plugin.of(reference)
            own_versions[reference] = found.version if found.places else ""
    except Exception as error:  # whatever another version of it raises
        return package, code_version, own_versions, f"{type(error).__name__}: {error}"
    return package, code_version, own_versions, ""


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _torch() -> dict[str, str]:
    """Return release and CUDA build of torch ("" for none), without the seconds of its import."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return {"torch": "", "cuda": ""}
    noted = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    return {"torch": str(noted["__version__"]), "cuda": str(noted.get("cuda") or "")}


def _folder(token: Path, content: str, mark: Path) -> Mapping[str, str]:
    """Return why the token cannot be read here, or why nothing can be written beside it."""
    unread = read_trouble(token, content)
    return {"read_trouble": unread, "write_trouble": "" if unread else _write(mark, content)}


def read_trouble(token: Path, content: str) -> str:
    """Return why a file cannot be read here, or holds something else; "" if all is well."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        trouble = _look(token, content)
        if not trouble or time.monotonic() > deadline:
            return trouble
        time.sleep(0.2)


def _look(token: Path, content: str) -> str:
    try:
        return "" if token.read_text(encoding="utf-8") == content else "it holds other files there"
    except FileNotFoundError:
        return "it is another folder there" if token.parent.is_dir() else "there is no such folder"
    except OSError as error:
        return error.strerror or type(error).__name__


def _write(mark: Path, content: str) -> str:
    try:
        mark.write_text(content, encoding="utf-8")
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""
