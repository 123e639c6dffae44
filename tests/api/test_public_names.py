"""What ``import sg_ray`` offers: by which names, how lazily, and typed."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import sg_ray

ROOT = Path(__file__).parents[2]
FUNCTIONS = ("compare", "load_experiment", "open_sweep", "resume_sweep", "run_sweep", "train_model")


def in_a_process(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_offered() -> None:
    assert set(sg_ray.__all__) == {*FUNCTIONS, "Detector", "__version__"}
    assert set(sg_ray.__all__) <= set(dir(sg_ray))
    with pytest.raises(AttributeError, match="no attribute 'run_sweeps'"):
        _ = sg_ray.run_sweeps


def test_the_import_loads_nothing() -> None:
    script = (
        "import sys; import sg_ray; print(sorted(n for n in sys.modules if n.startswith('sg_ray')))"
    )
    assert in_a_process(script) == "['sg_ray', 'sg_ray.version']\n"


def test_names_hold_once_every_module_was_imported() -> None:
    """An import of ``sg_ray.x`` sets the attribute ``x`` of the package."""
    for module in pkgutil.walk_packages(sg_ray.__path__, "sg_ray."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in FUNCTIONS:
        assert inspect.isfunction(getattr(sg_ray, name)), name
    assert inspect.isclass(sg_ray.Detector)
    modules = {module.name for module in pkgutil.iter_modules(sg_ray.__path__)}
    assert modules.isdisjoint(sg_ray.__all__)
    assert sg_ray.load_experiment(ROOT / "experiments/quick.yaml").name == "quick"
    with pytest.raises(sg_ray.errors.InputError, match="nowhere: no sweep"):
        sg_ray.open_sweep("nowhere")


def test_types_are_told() -> None:
    assert files("sg_ray").joinpath("py.typed").is_file()
    for name in FUNCTIONS:
        signature = inspect.signature(getattr(sg_ray, name))
        assert signature.return_annotation is not inspect.Signature.empty
        assert "::" in (getattr(sg_ray, name).__doc__ or ""), f"{name} has no example"


def test_a_type_checker_sees_what_is_imported() -> None:
    """It reads the imports that only it follows; the others go by the table."""
    tree = ast.parse(Path(sg_ray.__file__).read_text(encoding="utf-8"))
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in checked.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: node.module for node in imports for alias in node.names}
    assert seen == sg_ray._HOMES
    assert {*seen, "__version__"} == set(sg_ray.__all__)
