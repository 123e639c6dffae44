"""Code from outside of the package: one object of an installed module, or of a single file.

A reference is written ``my_package.bilstm:BiLstm`` or ``./bilstm.py:BiLstm``. It comes from an
installed package's entry point, from the command line or from the user's own experiment, never
from a model's folder: whoever is given a model must not run what lies beside it.
"""

import ast
import hashlib
import importlib
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.abc import SourceLoader
from importlib.metadata import EntryPoint, entry_points, packages_distributions, version
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from sg_ray.code_version import version_of
from sg_ray.errors import InputError

FILE_SUFFIX = ".py"

_NOTED = "__sg_ray_version__"
"""What a module's version is noted as in it when it is loaded: later its file may be another."""


def is_reference(text: object) -> bool:
    """Whether a setting's value names code, and not something that is known by a name."""
    return isinstance(text, str) and ":" in text


@dataclass(frozen=True)
class Plugin:
    """One object of the user's code; equal ones give the same object wherever they are loaded.

    The source of a file is read once and travels with it: a worker on another machine needs no
    such file, and an edit while a sweep runs reaches no trial of it. A module must be installed
    wherever trials run.
    """

    place: str
    """A module, or the absolute path of a file."""
    attribute: str
    source: bytes | None = field(default=None, repr=False)
    """Of a file."""

    @classmethod
    def of(cls, reference: str, folders: Sequence[Path] = ()) -> Self:
        """Read a reference; a relative file is looked for in each of ``folders`` in turn.

        Nothing is executed yet. Raises InputError if it is none, or if there is no such file.
        """
        place, _, attribute = reference.rpartition(":")
        is_file = place.endswith(FILE_SUFFIX)
        names = [attribute] if is_file else [attribute, *place.split(".")]
        if not place or not all(name.isidentifier() for name in names):
            raise InputError(
                f"{reference!r}: code from outside is written MODULE:NAME, of an installed "
                "package, or FILE.py:NAME, e.g. my_package.bilstm:BiLstm or ./bilstm.py:BiLstm."
            )
        if not is_file:
            return cls(place, attribute)
        path = _found(Path(place).expanduser(), folders or (Path.cwd(),))
        try:
            return cls(str(path), attribute, path.read_bytes())
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}).") from error

    @property
    def reference(self) -> str:
        """What ``of`` makes an equal one of, from any folder."""
        return f"{self.place}:{self.attribute}"

    @property
    def package(self) -> str:
        """What to install where it is missing, e.g. ``my-detectors 1.2``; "" of a file."""
        if self.source is not None:
            return ""
        names = packages_distributions().get(self.place.partition(".")[0], [])
        return ", ".join(f"{name} {version(name)}" for name in dict.fromkeys(names))

    @property
    def places(self) -> Sequence[Path]:
        """The file, or where the package and the module in it may lie. Executes nothing."""
        if self.source is not None:
            return [Path(self.place)]
        package, *inner = self.place.split(".")
        spec = _spec_or_none(package)
        if spec is None:
            return []
        folders = [Path(place) for place in spec.submodule_search_locations or ()]
        found = [folder.joinpath(*inner[:n]) for folder in folders for n in range(len(inner) + 1)]
        origin = [] if spec.origin is None else [Path(spec.origin)]
        return [place.resolve() for place in (*found, *origin)]

    @property
    def version(self) -> str:
        """Hash of the code: the file's, or the module's and what it imports of its own package.

        Of a module that is loaded it is that of the code as it was then, which is what trains.
        """
        if self.source is not None:
            return _version({"": self.source}, self.place)  # whatever the file is called
        noted: str | None = getattr(sys.modules.get(self.place), _NOTED, None)
        return noted or _version_on_disk(self.place)

    def load(self) -> Any:
        """Return the object. Raises InputError that names what is missing, and what to do.

        Also for a module that is another by now than this process has loaded.
        """
        module = self._module()
        try:
            return getattr(module, self.attribute)
        except AttributeError:
            raise InputError(
                f"{self.place} defines no {self.attribute!r}. Correct the name in {self.reference}."
            ) from None

    def _module(self) -> ModuleType:
        if self.source is not None:
            return _module_of_file(self.place, self.source)
        is_ours = self.place.partition(".")[0] == __package__  # told by the version of all of it
        try:
            on_disk = None if is_ours else _version_on_disk(self.place)
            module = importlib.import_module(self.place)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{self.place}.".startswith(f"{error.name}."):
                raise _failed(self.place, error) from error
            raise InputError(
                f"{self.reference}: there is no module {error.name}. Install the package that "
                "brings it (on each machine that trains), or name a file: ./FILE.py:"
                f"{self.attribute}"
            ) from error
        except Exception as error:
            raise _failed(self.place, error) from error
        if vars(module).setdefault(_NOTED, on_disk) != on_disk:
            raise InputError(
                f"{self.reference}: its code has changed since this process loaded it, and what is "
                "loaded would be trained. Start Python, or the notebook's kernel, anew."
            )
        return module


def entry_point(group: str, name: str) -> Plugin | None:
    """Return what an installed package offers under ``name``; None if none does.

    Raises InputError if several packages offer it.
    """
    found = _offer(group, name)
    return None if found is None else Plugin(found.module, found.attr)


def offered_file(group: str, name: str) -> Path | None:
    """Return the file that an installed package offers under ``name``; None if none does.

    Raises InputError if several packages offer it, or if the one that does lacks the file.
    """
    found = _offer(group, name)
    if found is None:
        return None
    path = package_file(found.value)
    if path is None:
        raise InputError(
            f"{name!r} is offered as {found.value}, and there is no such file in an installed "
            "package. It is written PACKAGE:FILE, or PACKAGE.FOLDER:FILE."
        )
    return path


def package_file(reference: str) -> Path | None:
    """Return the file that ``my_package:spaces/bilstm.yaml`` names; None if it names none.

    So does ``my_package.spaces:bilstm.yaml``, which is how an entry point can be written. The
    package is installed, and none of its code is executed.
    """
    place, _, inner = reference.partition(":")
    package, *folders = place.split(".")
    spec = _spec_or_none(package) if package.isidentifier() and inner else None
    roots = () if spec is None else spec.submodule_search_locations or ()
    files = (Path(root, *folders, inner) for root in roots)
    return next((path for path in files if path.is_file()), None)


def offered(group: str) -> list[str]:
    """Return the names that installed packages offer."""
    return sorted({one.name for one in _entry_points(group)})


def _offer(group: str, name: str) -> EntryPoint | None:
    found = [one for one in _entry_points(group) if one.name == name]
    if len({one.value for one in found}) > 1:
        packages = " and ".join(sorted(one.dist.name for one in found if one.dist is not None))
        raise InputError(
            f"{name!r} is offered by {packages}. Uninstall one of them, or say which is meant: "
            + " or ".join(sorted(one.value for one in found))
        )
    return found[0] if found else None


@lru_cache
def _entry_points(group: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


def _found(path: Path, folders: Sequence[Path]) -> Path:
    candidates = [(folder / path).absolute() for folder in folders]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    looked = " or ".join(dict.fromkeys(str(candidate) for candidate in candidates))
    raise InputError(f"{path}: there is no such file ({looked}).")


class _Source(SourceLoader):
    """Loads a module from bytes; tracebacks still find its lines where the file is not."""

    def __init__(self, path: str, source: bytes) -> None:
        self._path, self._source = path, source

    def get_filename(self, _fullname: str) -> str:
        return self._path

    def get_data(self, _path: str | bytes) -> bytes:
        return self._source


def _module_of_file(path: str, source: bytes) -> ModuleType:
    """Return the module of a file, called by its content: what was loaded is not loaded again."""
    digest = hashlib.sha256(path.encode() + b"\0" + source).hexdigest()[:12]
    name = f"sg_ray_plugin_{Path(path).stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_loader(name, _Source(path, source))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _failed(path, error) from error
    return module


def _failed(place: str, error: Exception) -> InputError:
    line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
    hint = ""
    if isinstance(error, ModuleNotFoundError):
        hint = " A file stands alone: what it imports must be installed."
    return InputError(f"{place}{line}: cannot be loaded ({type(error).__name__}: {error}).{hint}")


def _version(sources: Mapping[str, bytes], place: str) -> str:
    try:
        return version_of(sources)
    except SyntaxError as error:
        raise _failed(place, error) from error


def _version_on_disk(module: str) -> str:
    return _version(dict(_sources(module)), module)


def _sources(module: str) -> Iterator[tuple[str, bytes]]:
    """Yield a module and, found by their imports, those of its package that it builds on."""
    package = module.partition(".")[0]
    waiting, known = deque([module]), {module}
    while waiting:
        name = waiting.popleft()
        spec = _spec_or_none(name)
        if spec is None or spec.origin is None or not spec.origin.endswith(FILE_SUFFIX):
            continue
        source = Path(spec.origin).read_bytes()
        yield name, source
        parent = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
        for found in _imported(ast.parse(source), parent):
            if found.partition(".")[0] == package and found not in known:
                known.add(found)
                waiting.append(found)


def _spec_or_none(module: str) -> Any:
    try:
        return find_spec(module)
    except (ImportError, ValueError):  # a name that is imported from a module, and none itself
        return None


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Yield the absolute names that a module of ``package`` imports, also of what may be one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            parts = [*(above if node.level else []), *([node.module] if node.module else [])]
            base = ".".join(parts)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
