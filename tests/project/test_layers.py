"""The import contracts of pyproject.toml hold, and each of them can tell when it does not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def check_imports(root: Path) -> str:
    """Return "" if every contract is kept, the linter's report otherwise."""
    script = "import sys; from importlinter.cli import lint_imports_command as check; check()"
    result = subprocess.run(
        [sys.executable, "-c", script, "--no-logo", "--no-cache"],
        cwd=root,
        env={"PYTHONPATH": str(root), "PYTHONUTF8": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return "" if result.returncode == 0 else result.stdout + result.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "sg_ray", tmp_path / "sg_ray", ignore=ignore)
    return tmp_path


def test_contracts_are_kept():
    assert check_imports(ROOT) == ""


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("data/samples.py", "import sg_ray.features.spec", "Imports run down the layers"),
        ("report/__init__.py", "import sg_ray.tracking", "Imports run down the layers"),
        ("helpers.py", "", "Imports run down the layers"),
        ("training/loop.py", "import ray.train", "Ray is for the sweep and the trial"),
        ("tracking/__init__.py", "import ray", "Ray is for the sweep and the trial"),
        ("report/__init__.py", "import sg_ray.sweep.execute.executor", "Reports need neither Ray"),
        ("records/record.py", "import mlflow", "MLflow is for tracking"),
        ("models/gnn.py", "import sg_ray.models.lexical", "Families do not know each other"),
    ],
)
def test_contract_breaks(copy: Path, module: str, line: str, contract: str):
    path = copy / "sg_ray" / module
    source = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(f"{source}\n{line}\n", encoding="utf-8")
    report = check_imports(copy)
    assert any(contract in row and "BROKEN" in row for row in report.splitlines()), report
