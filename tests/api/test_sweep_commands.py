"""``sg-ray status`` and ``sg-ray clean`` on a real sweep."""

import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch

import sg_ray
from sg_ray.cli import main
from sg_ray.host.lock import locked
from sg_ray.host.scratch import ScratchFolder
from sg_ray.records.events import SweepFinished, SweepRanked
from sg_ray.records.journal import Journal
from sg_ray.records.record import Failure, read_records, write_record
from sg_ray.sweep.execute.inline_executor import InlineExecutor
from sg_ray.sweep_folder import SweepFolder

TINY = SweepFolder(Path("outputs/tiny"))
INTERRUPTED = SweepFolder(Path("outputs/cut"))


def interrupt(name: str = "cut") -> SweepFolder:
    """Make a copy of the sweep whose journal never tells an end."""
    folder = SweepFolder(Path("outputs") / name)
    shutil.copytree(TINY.path, folder.path)
    settings = folder.settings.read_text().replace("name: tiny", f"name: {name}")
    folder.settings.write_text(settings)
    lines = folder.events.read_text().splitlines(keepends=True)
    ends = ('"ranked"', '"sweep_finished"')
    folder.events.write_text("".join(line for line in lines if not any(e in line for e in ends)))
    return folder


def leave_behind(folder: SweepFolder) -> list[Path]:
    """Leave in a sweep's folder what killed processes leave."""
    left = [folder.tune / "attempt-001" / "last.pt", folder.group("key") / "last.pt"]
    for path in left:
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(2**20))
    return left


def test_status_of_a_sweep_that_slurm_runs_does_not_say_to_train_here(
    swept: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no SLURM, as on a laptop with a copy of the folder, --resume goes on."""
    interrupt().batch_script.touch()
    programs = swept / "programs"
    programs.mkdir()
    (programs / "sbatch").touch(mode=0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["status", "outputs/cut"]) == 0
    assert "sweep --resume outputs/cut" in (told := capsys.readouterr().out)
    assert "sbatch" not in told
    monkeypatch.setenv("PATH", str(programs))
    assert main(["status", "outputs/cut"]) == 0
    _, line, remark = capsys.readouterr().out.splitlines()
    assert line.endswith("  sbatch outputs/cut.sbatch")
    assert remark.startswith("sbatch: unless a job of the sweep waits (squeue)")
    with locked(INTERRUPTED):
        assert main(["status", "outputs/cut"]) == 0
    assert "sbatch" not in capsys.readouterr().out


def test_status_tells_state_progress_and_what_to_do(
    swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt()
    assert main(["status"]) == 0
    header, cut, tiny = (line.split("  ") for line in capsys.readouterr().out.splitlines())
    told = [[cell.strip() for cell in line if cell.strip()] for line in (header, cut, tiny)]
    assert told[0][:3] == ["sweep", "state", "trials"]
    assert told[1][:3] == ["outputs/cut", "interrupted", "5 of 5"]
    assert told[1][-1].endswith("sweep --resume outputs/cut")
    assert told[2][:3] == ["outputs/tiny", "complete", "5 of 5"]
    assert told[2][-1].endswith("report outputs/tiny")
    assert told[2][4].startswith("lexical 0."), "the floor comes first"
    with locked(TINY):
        assert main(["status", "outputs/tiny"]) == 0
    assert " running " in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["InfrastructureError", "RuntimeError"])
def test_status_of_a_failed_sweep_says_what_its_cause_asks_for(
    kind: str, swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = interrupt()
    with closing(Journal(cut.events)) as journal:
        journal.append(SweepRanked(status="failed"))
        journal.append(SweepFinished(status="failed"))
    record = list(read_records(cut).values())[-1]
    failure = Failure(kind=kind, message="gone", traceback="")
    write_record(cut, record.model_copy(update={"status": "failed", "failure": failure}))
    assert main(["status", "outputs/cut"]) == 0
    told = capsys.readouterr().out
    assert re.search(r" failed .* fix the cause, then .*sweep --resume outputs/cut\n", told)
    assert ("--anew" in told) == (kind == "RuntimeError")


def test_status_of_none_and_of_one_that_is_damaged(
    swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "cache-of-nobody"]) == 2
    (swept / "empty").mkdir()
    assert main(["status", "empty"]) == 0
    assert "holds no sweep" in capsys.readouterr().out
    broken = SweepFolder(Path("outputs/broken"))
    broken.path.mkdir()
    broken.settings.write_text("name: [")
    assert main(["status"]) == 1
    printed = capsys.readouterr().out
    assert "outputs/tiny" in printed
    assert "cannot be read: outputs/broken/sweep.yaml" in printed


def test_clean_deletes_what_no_resume_and_no_report_needs(
    swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = leave_behind(TINY)
    features = list((swept / ".cache/features").iterdir())
    assert len(features) == 1
    table = sg_ray.open_sweep("tiny").predictions
    assert main(["clean", "--dry-run"]) == 0
    planned = capsys.readouterr().out
    assert all(path.exists() for path in (*left, *features))
    assert main(["clean"]) == 0
    told = capsys.readouterr().out
    assert told.splitlines()[:-1] == planned.splitlines()[:-1]
    assert ".cache/features/" in told
    assert not any(path.exists() for path in (*left, *features))
    assert float(told.splitlines()[-1].split()[0]) > 2
    assert main(["report", "tiny"]) == 0
    assert sg_ray.open_sweep("tiny").predictions.equals(table)
    before = sg_ray.open_sweep("tiny").seeds
    assert sg_ray.resume_sweep("tiny", executor="inline", show=False).seeds.equals(before)
    assert main(["clean", "tiny"]) == 0
    assert main(["clean", "tiny"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["0.0", "MB", "deleted"]


def test_clean_leaves_what_is_not_over_and_what_it_reads(
    swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = interrupt()
    kept = leave_behind(cut)
    features = list((swept / ".cache/features").iterdir())
    assert main(["clean"]) == 0
    printed = capsys.readouterr()
    assert "outputs/cut: left alone" in printed.err
    assert all(path.exists() for path in (*kept, *features))
    assert main(["clean", "tiny"]) == 0
    assert all(path.exists() for path in features), "the sweep beside it reads them"
    shutil.rmtree(cut.path)
    with locked(TINY):
        assert main(["clean", "tiny"]) == 0
        assert "it is running" in capsys.readouterr().err
    assert all(path.exists() for path in features)
    assert main(["clean", "nobody"]) == 2


def test_clean_deletes_the_scratch_of_dead_processes_only(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own = ScratchFolder("trial").path
    script = "from sg_ray.host.scratch import ScratchFolder; print(ScratchFolder('trial').path)"
    dead = Path(
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONPATH": str(Path(sg_ray.__file__).parents[1]), "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    assert dead.is_dir()
    assert main(["clean"]) == 0
    assert not dead.exists()
    assert own.is_dir()


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["run", "dry run"])
def test_on_a_cluster_auto_warns_where_the_driver_has_no_gpu(
    more: list[str],
    swept: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    command = ["sweep", "--resume", "tiny", "--executor", "inline", "resources.gpus=auto", *more]
    assert main(command) == 0
    assert "which has no GPU" not in capsys.readouterr().out
    monkeypatch.setattr(InlineExecutor, "has_joined", True)
    assert main(command) == 0
    (warning,) = [o for o in capsys.readouterr().out.splitlines() if "which has no GPU" in o]
    assert warning.strip().startswith("warning: auto was settled by this machine")
    assert "For an A100 of 40 GB give resources.gpus=1;" in warning
