"""The notebooks of ``experiments/notebooks/`` run from beginning to end, and hold no outputs."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "experiments/notebooks").glob("*.ipynb"))
TIMEOUT_S = 600
"""Of a cell; each takes seconds on an idle machine."""


def read(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def test_they_are_small_and_hold_no_outputs() -> None:
    names = [path.name for path in NOTEBOOKS]
    assert names == ["first_sweep.ipynb", "own_data_and_model.ipynb", "reading_results.ipynb"]
    for path in NOTEBOOKS:
        cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
        assert all(cell.outputs == [] and cell.execution_count is None for cell in cells), path
        assert path.read_text(encoding="utf-8").isascii(), path
        assert path.stat().st_size < 20_000, path


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_they_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a kernel of its own, in one folder, as a reader has them."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    for path in NOTEBOOKS:
        shutil.copy(path, tmp_path)
        notebook = read(tmp_path / path.name)
        client = NotebookClient(
            notebook, timeout=TIMEOUT_S, resources={"metadata": {"path": str(tmp_path)}}
        )
        client.execute()
    made = {path.parent.name for path in (tmp_path / "outputs").glob("*/report.html")}
    assert made == {"first", "mine", "read"}
    drawn = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(drawn) == 3
