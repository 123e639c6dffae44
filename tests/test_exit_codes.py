"""What a shell sees when a command ends in an unusual way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sg_ray.api.running import show_end
from sg_ray.cli import main
from sg_ray.commands import sg_ray_command
from sg_ray.config import Experiment
from sg_ray.live.stream import SafeStream
from sg_ray.sweep.run import Outcome
from sg_ray.sweep_folder import SweepFolder

ROOT = Path(__file__).parents[1]
PLAN = ["sweep", str(ROOT / "experiments" / "quick.yaml"), "--dry-run"]


def test_a_reader_that_goes_away_ends_the_command_without_a_word() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    finished = subprocess.run(
        [sys.executable, "-m", "sg_ray", *PLAN],
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=120,
    )
    os.close(writer)
    assert (finished.returncode, finished.stderr) == (141, b"")


def test_e05_a_full_disk_below_the_log_is_told_and_the_sweep_stays_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = Outcome(SweepFolder(tmp_path / "outputs" / "e"), [], [], [], exit_code=0)
    with Path("/dev/full").open("w") as full:
        show_end(outcome, Experiment(name="e").objective, SafeStream(full))
    assert capsys.readouterr().err == (
        "standard output cannot be written (No space left on device); the sweep is complete: "
        "outputs/e/\n"
    )


@pytest.mark.parametrize(
    ("arguments", "unknown"),
    [
        ([*PLAN, "--quiet"], "--quiet"),
        (["data", "check", "synthetic", "seed=1"], "seed=1"),  # takes no settings
    ],
)
def test_what_no_command_knows_is_named(
    arguments: list[str], unknown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert f"unrecognized arguments: {unknown}" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "occupied").touch()
    out = tmp_path / "occupied" / "data"
    assert main(["data", "synthetic", "--num-samples", "20", "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: --out: ")
    assert str(out.parent) in message


def test_an_interrupted_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("sg_ray.cli.report.run", interrupted)
    assert main(["report", "outputs"]) == 130
    again = sg_ray_command("report", "outputs")
    assert capsys.readouterr().err == f"interrupted; go on with: {again}\n"
    monkeypatch.setenv("SG_RAY_GO_ON", "sbatch outputs/quick.sbatch")
    assert main(["report", "outputs"]) == 130
    assert capsys.readouterr().err == "interrupted; go on with: sbatch outputs/quick.sbatch\n"
