"""The command line: exit codes, messages, and that bad input leaves nothing behind."""

import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from sg_ray.cli import main
from sg_ray.cli.settings import told_default

ROOT = Path(__file__).parents[1]
QUICK = str(ROOT / "experiments" / "quick.yaml")


def test_dry_run_prints_the_plan_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", QUICK, "search.num_trials=7", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "num_trials: 7" in printed
    assert "the smallest p that they can reach is " in printed
    for family in ("lexical", "transformer", "gnn", "fusion"):
        assert family in printed
    assert list(tmp_path.iterdir()) == []


def test_commands_run_in_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its streams are no files: they cannot be reconfigured, and need not."""
    monkeypatch.chdir(tmp_path)
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        assert main(["data", "synthetic", "--num-samples", "20", "--out", "made"]) == 0
        assert main(["data", "check", "made"]) == 0
        assert main(["data", "check", "nowhere"]) == 2
    assert "made" in out.getvalue()
    assert "nowhere does not exist" in err.getvalue()


def test_the_default_experiment_is_told_where_the_folder_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = told_default()
    told = capsys.readouterr().out
    assert told.startswith("experiment: quick")
    assert str(path) in told
    assert len(told.splitlines()) == 1
    own = tmp_path / "experiments" / "quick.yaml"
    own.parent.mkdir()
    own.write_text("name: mine\n")
    assert told_default().resolve() == own
    assert capsys.readouterr().out == ""


BAD = {
    "no such experiment": (["sweep", "nothing.yaml"], "nothing.yaml: no such file"),
    "two experiments": (["sweep", QUICK, "b.yaml"], "give one experiment file, not 2"),
    "unknown key": (["sweep", QUICK, "sarch.num_trials=1"], "sarch: unknown key; did you mean"),
    "negative trials": (["sweep", QUICK, "search.num_trials=-3"], "search.num_trials: "),
    "repeated seeds": (["sweep", QUICK, "replicate.seeds=[1,1]"], "repeated: [1]"),
    "resume of nothing": (
        ["sweep", "--resume", "nobody"],
        "nobody: no sweep of that name",
    ),
    "resume with a file": (["sweep", QUICK, "--resume", "quick"], "not " + QUICK),
    "unwritable folder": (["sweep", QUICK, "output_dir=occupied"], "cannot be written"),
    "an address without a port": (
        ["sweep", QUICK, "--address", "127.0.0.1", "--dry-run"],
        "is neither HOST:PORT",
    ),
    "missing data": (["sweep", QUICK, "data.path=nowhere"], "nowhere does not exist"),
    "too few synthetic samples": (["sweep", QUICK, "data.num_samples=3"], "data.num_samples: "),
    "data too small": (
        ["data", "synthetic", "--num-samples", "3", "--out", "d"],
        "--num-samples",
    ),
    "unknown family": (["train", "gan", QUICK], "unknown family 'gan'. Known: "),
    "fusion without branches": (["train", "fusion", QUICK], "fusion builds on transformer and gnn"),
    "data without folder": (["data", "check", "nowhere"], "nowhere does not exist"),
    "more cpus than there are": (["sweep", QUICK, "resources.cpus=4096"], "takes 4096 CPUs"),
    "a list without brackets": (["sweep", QUICK, "families=gnn"], "should be a list, e.g. [a, b]"),
    "a section as a value": (["sweep", QUICK, "data.limit=100"], "data.limit.train=100"),
    "report of nothing": (["report", "nowhere"], "nowhere"),
    "graphs of nothing": (["graphs", "--data", "nowhere", "--out", "g"], "nowhere does not exist"),
    "bad store": (["sweep", QUICK, "tracking.uri=file:mlruns"], "tracking uri"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_nothing_is_left(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "occupied").write_text("a file where a folder is wanted")
    arguments, message = BAD[case]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.isascii()
    assert not list(tmp_path.rglob("*.tmp"))
    assert not (tmp_path / "outputs" / "quick" / "records").exists()


def test_data_written_can_be_checked_and_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "synthetic", "--num-samples", "100", "--out", "d"]) == 0
    assert main(["data", "check", "d"]) == 0
    assert "train 80, valid 10, test 10" in capsys.readouterr().out
    tiny = ["models.gnn.config.epochs=1", "models.gnn.config.hidden_dim=8"]
    assert main(["train", "gnn", QUICK, "data.path=d", "--output-dir", "run", *tiny]) == 0
    for name in ("best_model.pt", "training_metadata.json", "metrics.jsonl"):
        assert (tmp_path / "run" / name).exists()
    assert main(["report", "run"]) == 0
    assert "gnn" in capsys.readouterr().out
    assert main(["graphs", "--data", "d", "--out", "g"]) == 0
    assert list((tmp_path / "g").rglob("meta.json"))


def test_a_narrow_console_encoding_does_not_crash(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "sg_ray", "data", "check", "d\u00e9j\u00e0-\u4e2d"],
        cwd=tmp_path,
        env={"PYTHONIOENCODING": "cp1252", "PATH": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert finished.returncode == 2
    assert b"does not exist" in finished.stderr


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_what_needs_no_library_loads_none(option: str) -> None:
    script = (
        "import sys\n"
        "from sg_ray.cli import main\n"
        "try:\n"
        f"    main([{option!r}])\n"
        "finally:\n"
        "    print(sorted({'torch', 'ray', 'mlflow', 'pydantic'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.endswith("[]\n")
