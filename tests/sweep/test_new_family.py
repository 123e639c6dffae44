"""What `sg-ray new family` writes, as a user of it goes on: sweep, resume, predict, reproduce."""

import json
import os
from pathlib import Path

import pytest

from sg_ray.cli import main
from sg_ray.detector import Detector, read_card
from sg_ray.errors import InputError
from sg_ray.models.families import FAMILIES, plug_in
from sg_ray.skeleton import bilstm, bilstm_check
from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.mlflow_models import own_packages
from sg_ray.tracking.pyfunc import DETECTOR_DIR, _load_pyfunc

MAX_LINES = 60
ROOT = Path(__file__).parents[2]

TINY = """
name: own
data: {num_samples: 120}
families: [./tree_lstm.py:TreeLstm]
models:
  tree_lstm:
    config: {epochs: 1, hidden_dim: 32, max_tokens: 32, tokens: {vocab_size: 300}}
lr_range: {enabled: false}
search: {num_trials: 1}
replicate: {top_k: 1, seeds: [1]}
tracking: {enabled: false}
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a family that was written, and a sweep of it."""
    folder = tmp_path_factory.mktemp("own")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["new", "family", "tree_lstm"]) == 0
        Path("e.yaml").write_text(TINY)
        assert main(["sweep", "e.yaml", "--executor", "inline"]) == 0
    finally:
        os.chdir(before)
        FAMILIES._plugged.clear()
    return folder


@pytest.fixture(autouse=True)
def there(swept: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in that folder, in a process that knows no family from outside."""
    monkeypatch.chdir(swept)
    return swept


@pytest.fixture
def model(there: Path) -> Path:
    return SweepFolder(there / "outputs" / "own").best / "tree_lstm"


def test_it_takes_no_more_lines_than_promised_and_is_what_the_page_shows() -> None:
    source = Path(bilstm.__file__).read_text()
    assert len(source.splitlines()) <= MAX_LINES
    assert f"```python\n{source}```" in (ROOT / "docs/own-model.md").read_text()


@pytest.mark.parametrize(
    "check",
    [
        bilstm_check.test_a_function_scores_the_same_in_any_company,
        bilstm_check.test_it_learns_sixteen_functions_by_heart,
    ],
)
def test_its_own_test_passes(check, tmp_path: Path) -> None:
    check(tmp_path)


def test_names_are_those_that_were_asked_for(there: Path) -> None:
    text = (there / "tree_lstm.py").read_text() + (there / "test_tree_lstm.py").read_text()
    assert "bilstm" not in text.lower().replace("bidirectional lstm", "")
    assert 'name = "tree_lstm"' in text
    assert "from tree_lstm import TreeLstm" in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["tree_lstm"], "is there already"), (["Tree-LSTM"], "lower-case letters, digits and _")],
)
def test_nothing_is_overwritten_and_names_are_checked(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "family", *arguments]) == 2
    assert reason in capsys.readouterr().err


def test_a_resume_knows_the_family_and_trains_nothing_again(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = {p: p.read_bytes() for p in SweepFolder(there / "outputs/own").records.iterdir()}
    assert len(records) == 2
    assert main(["sweep", "--resume", "own", "--executor", "inline"]) == 0
    assert {path: path.read_bytes() for path in records} == records


def test_a_report_needs_no_code(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = there / "tree_lstm.py"
    source.rename(there / "elsewhere.py")
    try:
        assert main(["report", "own"]) == 0
        assert "tree_lstm" in capsys.readouterr().out
        assert main(["sweep", "--resume", "own", "--executor", "inline"]) == 2
        assert "plugins.families.tree_lstm=FILE.py:TreeLstm" in capsys.readouterr().err
        moved = "plugins.families.tree_lstm=./elsewhere.py:TreeLstm"
        assert main(["sweep", "--resume", "own", "--executor", "inline", "--dry-run", moved]) == 0
        assert "were made with" not in capsys.readouterr().out, "the same code, elsewhere"
    finally:
        (there / "elsewhere.py").rename(source)


def test_predict_names_what_is_missing_and_takes_it_from_the_command_line(
    model: Path, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (there / "f.c").write_text("int f(char *s) { char b[4]; strcpy(b, s); return b[0]; }\n")
    assert not [path.name for path in model.rglob("*.py")], "a model brings no code along"
    assert main(["predict", str(model), "f.c"]) == 2
    told = capsys.readouterr().err
    assert "--family tree_lstm.py:TreeLstm" in told
    assert str(there / "tree_lstm.py") not in (model / "model.json").read_text(), "no own folder"
    assert main(["predict", str(model), "f.c", "--json", "--family", "tree_lstm.py:TreeLstm"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert 0 < scored["probability"] < 1
    assert Detector.load(model).predict([(there / "f.c").read_text().strip()]) == pytest.approx(
        [scored["probability"]], abs=1e-6
    )


def test_mlflows_model_takes_a_family_that_was_plugged_in(model: Path, there: Path) -> None:
    (there / "mlflow").mkdir(exist_ok=True)
    (there / "mlflow" / DETECTOR_DIR).symlink_to(model)
    with pytest.raises(InputError, match=r"plug_in\('tree_lstm\.py:TreeLstm'\)"):
        _load_pyfunc(str(there / "mlflow"))
    plug_in("tree_lstm.py:TreeLstm")
    assert _load_pyfunc(str(there / "mlflow"))
    assert own_packages(read_card(model)) == []


def test_an_edited_file_is_told_where_a_model_is_loaded(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path / "tree_lstm.py"
    other.write_text(Path("tree_lstm.py").read_text().replace("ge=2", "ge=3"))
    plug_in(f"{other}:TreeLstm")
    Detector.load(model)
    assert "another version of the code of tree_lstm" in caplog.text


def test_a_trial_is_reproduced(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = SweepFolder(there / "outputs/own")
    own = next(p for p in folder.records.iterdir() if '"tree_lstm"' in p.read_text())
    assert main(["reproduce", str(own)]) == 0
    assert "bit-identical" in capsys.readouterr().out


def test_one_is_trained_by_itself_and_goes_on_by_its_name(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["train", "./tree_lstm.py:TreeLstm", "e.yaml", "--output-dir", "alone"]
    assert main(given) == 0
    FAMILIES._plugged.clear()
    assert main(["train", "tree_lstm", "--resume", "alone"]) == 0
    FAMILIES._plugged.clear()
    assert main(["train", "no_lstm", "e.yaml"]) == 2
    assert "unknown family 'no_lstm'" in capsys.readouterr().err
