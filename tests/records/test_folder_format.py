"""A folder of another format is shown with a word, and never trained on."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from sg_ray.cli import main
from sg_ray.config import load_experiment
from sg_ray.errors import InputError
from sg_ray.records.begin import begin
from sg_ray.records.folder_format import format_of, require_own_format, write_format
from sg_ray.sweep_folder import FORMAT, SweepFolder

EXPERIMENT = {"name": "s", "families": ["gnn"], "data": {"num_samples": 240}}


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """A sweep that was begun here, and the folder that it was begun from."""
    monkeypatch.chdir(tmp_path)
    Path("experiment.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    experiment = load_experiment(Path("experiment.yaml"))
    assert not begin(experiment)
    return experiment.folder


def put(folder: SweepFolder, number: int | None) -> None:
    if number is None:
        folder.format.unlink()
    else:
        folder.format.write_text(json.dumps({"format": number}))


def contents(folder: SweepFolder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}


def test_a_sweep_has_the_number_of_the_version_that_began_it(begun: SweepFolder) -> None:
    assert json.loads(begun.format.read_text()) == {"format": FORMAT}
    require_own_format(begun)
    assert begin(load_experiment(begun.settings)), "it is the same sweep"
    put(begun, FORMAT + 1)
    write_format(begun)
    assert format_of(begun) == FORMAT + 1, "it stays what it is"


def test_a_folder_in_which_nothing_was_begun_may_be_used(tmp_path: Path) -> None:
    require_own_format(SweepFolder(tmp_path))
    require_own_format(SweepFolder(tmp_path / "new"))


@pytest.mark.parametrize(("number", "said"), [(None, 0), (FORMAT + 1, FORMAT + 1)])
@pytest.mark.parametrize(
    "command",
    [
        ["sweep", "--resume", "s"],
        ["sweep", "--resume", "s", "--dry-run"],
        ["sweep", "experiment.yaml"],
        ["extend", "s", "seeds=[5]"],
    ],
    ids=" ".join,
)
def test_another_format_is_not_trained_on(
    begun: SweepFolder,
    command: Sequence[str],
    number: int | None,
    said: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(begun, number)
    begun.settings.write_text("name: s\nof_another_version: 1\n")
    before = contents(begun)
    assert main(command) == 2
    told = capsys.readouterr().err
    for text in (f"format {said}", f"format {FORMAT}", "report outputs/s", "another name"):
        assert text in told
    assert contents(begun) == before


def test_nor_is_a_training_by_itself(
    begun: SweepFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = SweepFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.training_settings.write_text("name: s\n")
    command = ["train", "gnn", "experiment.yaml", "--output-dir", str(folder)]
    assert main(command) == 2
    assert f"{folder}: its files have format 0" in capsys.readouterr().err
    assert contents(folder) == {folder.training_settings: b"name: s\n"}


@pytest.mark.parametrize("content", ["{}", "1", '{"format": "x"}', '{"format": -1}', ""])
def test_a_damaged_number_is_named(begun: SweepFolder, content: str) -> None:
    begun.format.write_text(content)
    with pytest.raises(InputError, match=r"format\.json: not a valid"):
        require_own_format(begun)
