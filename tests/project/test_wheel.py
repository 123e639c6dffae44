"""What the wheel holds beside the package: its types, and the default experiment, as they are."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sg_ray.api import default_experiment
from sg_ray.config import load_experiment

ROOT = Path(__file__).parents[2]
SOURCES = ("sg_ray", "experiments", "search_spaces", "pyproject.toml", "README.md", "LICENSE")
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of a wheel, built from a copy: a build leaves things beside its sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, "dist"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked" / "sg_ray"


def test_its_default_experiment_is_the_project_s(unpacked: Path) -> None:
    names = ["experiments/quick.yaml"]
    names += [path.relative_to(ROOT).as_posix() for path in (ROOT / "search_spaces").iterdir()]
    assert len(names) > 3
    for name in names:
        assert (unpacked / name).read_bytes() == (ROOT / name).read_bytes(), name
    assert [path.name for path in (unpacked / "experiments").iterdir()] == ["quick.yaml"]
    packed = load_experiment(unpacked / "experiments/quick.yaml")
    assert packed == load_experiment(ROOT / "experiments/quick.yaml")


def test_it_is_used_where_the_working_folder_has_none(
    unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_experiment.default_experiment() == ROOT / "experiments/quick.yaml"
    monkeypatch.setattr(default_experiment, "_PACKAGE", unpacked)
    assert default_experiment.default_experiment() == unpacked / "experiments/quick.yaml"
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/quick.yaml").write_text("name: own\n")
    assert default_experiment.default_experiment() == Path("experiments/quick.yaml")


def test_it_holds_the_whole_package_and_nothing_else(unpacked: Path) -> None:
    ours = {path.relative_to(ROOT / "sg_ray") for path in files_below(ROOT / "sg_ray")}
    packed = {path.relative_to(unpacked) for path in files_below(unpacked)}
    assert ours - packed == set()
    assert {path.parts[0] for path in packed - ours} == {"experiments", "search_spaces"}
    assert Path("py.typed") in packed
    assert Path("report/page/templates/page.html.jinja") in packed
    assert {path.name.partition("-")[0] for path in unpacked.parent.iterdir()} == {"sg_ray"}


def files_below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith("."):
            yield path
