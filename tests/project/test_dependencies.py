"""What the package imports is what pyproject.toml declares and constraints.txt pins."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def package_of(requirement: str) -> str:
    return canonical(re.split(r"[\[<>=!~; ]", requirement)[0])


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonical(name): version for name, version in pins}


def requirements(project: dict) -> list[str]:
    """What is declared, in every extra; an extra may name the package itself, for another."""
    extras = chain.from_iterable(project["optional-dependencies"].values())
    return [one for one in (*project["dependencies"], *extras) if package_of(one) != "sg-ray"]


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
    for_own_families = {"torch-geometric"}  # it also reads what `sg-ray graphs` writes
    assert declared - set().union(*imported.values()) == for_own_families


def test_every_requirement_is_pinned(project):
    assert {package_of(requirement) for requirement in requirements(project)} <= set(pinned())


def test_every_pin_is_one_that_the_ranges_allow(project):
    pins = pinned()
    for wanted in map(Requirement, requirements(project)):
        assert wanted.specifier.contains(pins[canonical(wanted.name)]), str(wanted)


def test_whoever_installs_the_package_is_not_told_one_release_of_torch_or_mlflow(project):
    by_name = {
        canonical(one.name): one.specifier for one in map(Requirement, requirements(project))
    }
    pins = pinned()
    assert all(by_name[name] != SpecifierSet(f"=={pins[name]}") for name in ("torch", "mlflow"))
    assert not by_name["mlflow"].contains("3.18.0")  # its skinny part is missing on PyPI


def test_make_installs_the_pinned_torch():
    said = subprocess.run(
        ["make", "-n", "-W", "constraints.txt", "install"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    ).stdout
    assert f"'torch=={pinned()['torch']}'" in said
