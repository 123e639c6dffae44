"""What the package imports is what pyproject.toml declares and constraints.txt pins."""

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def package_of(requirement: str) -> str:
    return canonical(re.split(r"[\[<>=!~; ]", requirement)[0])


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def declared(project) -> set[str]:
    return {package_of(requirement) for requirement in project["dependencies"]}


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    """Third-party modules that sg_ray imports anywhere, with the packages that provide each."""
    graph = grimp.build_graph("sg_ray", include_external_packages=True, cache_dir=None)
    modules = {module.partition(".")[0] for module in graph.modules} - {"sg_ray"}
    providers = packages_distributions()
    return {
        module: {canonical(package) for package in providers.get(module, ())}
        for module in modules - sys.stdlib_module_names
    }


def test_every_import_is_declared(declared, imported):
    assert {name for name, packages in imported.items() if not packages & declared} == set()


def test_nothing_is_declared_in_vain(declared, imported):
    assert declared - set().union(*imported.values()) == set()


def test_every_requirement_is_pinned(project):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *chain.from_iterable(extras)]
    packages = {package_of(requirement) for requirement in wanted} - {"sg-ray"}
    assert packages <= {canonical(name) for name in pins}
    assert pins["torch"] in {r.partition("==")[2] for r in wanted if package_of(r) == "torch"}
