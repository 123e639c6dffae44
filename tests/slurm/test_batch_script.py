"""The batch script: what stands in it, and what bash does with it when signals come.

``tests/cluster/labs/slurm.py`` runs it by a real SLURM; here a program of three lines is the sweep.
"""

import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sg_ray.cli import main
from sg_ray.errors import InputError
from sg_ray.slurm.batch_script import Job, batch_script

ODD = """a b'c"d $HOME `ls` \\ % & #"""
LIMIT_S = 30.0
SLURM = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "n1", "SLURM_RESTART_COUNT": "2"}


def job(folder: Path, **settings: object) -> Job:
    usual = {
        "name": "tiny",
        "arguments": ("sweep", "tiny.yaml"),
        "folder": folder,
        "python": folder / "python",
        "log": folder / "tiny.slurm-%j.log",
        "journal": folder / "events.jsonl",
        "written_by": "sg-ray slurm",
    }
    return Job(**{**usual, **settings})  # type: ignore[arg-type]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A folder with what the script calls: a sweep that waits for a signal, and scontrol."""
    room = tmp_path / ODD.replace("/", "")
    room.mkdir()
    program(
        room / "python",
        "printf '%s\\n' \"$@\" > arguments; echo \"$TMPDIR\" > tmp; trap 'exit 138' USR1;"
        ' trap \'exit 143\' TERM; [ -z "${CODE:-}" ] || exit "$CODE";'
        ' [ -n "${IDLE:-}" ] || echo \'{"at_ms": 1, "type": "epoch"}\' >> events.jsonl;'
        " touch begun; while :; do sleep 0.05; done",
    )
    program(room / "scontrol", 'echo "$@" > requeued')
    yield room
    left = (room / "tmp").read_text().strip()
    assert left.startswith("/tmp/sg-ray-4711-")
    assert not Path(left).exists()


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def start(room: Path, **environment: str) -> "subprocess.Popen[bytes]":
    arguments = ("sweep", ODD, f"data.path={ODD}")
    script = batch_script(job(room, arguments=arguments, python=room / "python"))
    path = room / "tiny.sbatch"
    path.write_text(script)
    known = {**os.environ, "PATH": f"{room}:{os.environ['PATH']}", **SLURM}
    return subprocess.Popen(["bash", str(path)], env={**known, **environment}, cwd="/")


def begun(room: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not (room / "begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_warning_reaches_the_sweep_and_queues_the_job_again(room: Path) -> None:
    process = start(room)
    begun(room)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(LIMIT_S) == 138
    assert (room / "requeued").read_text() == "requeue 4711\n"


def test_a_job_in_which_nothing_is_done_is_not_queued_again_without_end(room: Path) -> None:
    (room / "events.jsonl").write_text('{"at_ms": 1, "type": "epoch"}\n')
    process = start(room, IDLE="1")
    begun(room)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(LIMIT_S) == 138
    assert not (room / "requeued").exists()


def test_what_is_given_reaches_the_sweep_as_it_is(room: Path) -> None:
    assert start(room, CODE="0").wait(LIMIT_S) == 0
    arguments = ["-m", "sg_ray", "sweep", ODD, f"data.path={ODD}"]
    assert (room / "arguments").read_text().splitlines() == arguments


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGTERM, signal.SIGUSR1]])
def test_a_cancelled_job_is_not_queued_again(room: Path, signals: list[signal.Signals]) -> None:
    process = start(room)
    begun(room)
    for number in signals:
        process.send_signal(number)
    assert process.wait(LIMIT_S) in (138, 143)
    assert not (room / "requeued").exists()


@pytest.mark.parametrize("code", ["0", "1", "2"])
def test_a_sweep_that_ends_by_itself_ends_the_job(room: Path, code: str) -> None:
    assert start(room, CODE=code).wait(LIMIT_S) == int(code)
    assert not (room / "requeued").exists()


@pytest.mark.parametrize("num_nodes", [1, 2])
def test_bash_reads_it(tmp_path: Path, num_nodes: int) -> None:
    script = batch_script(job(tmp_path / ODD, num_nodes=num_nodes, arguments=("sweep", ODD)))
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert ("srun" in script) == (num_nodes == 2)


def test_what_is_asked_of_slurm(tmp_path: Path) -> None:
    asked = job(
        tmp_path / "a b%",
        log=tmp_path / 'a "b"%' / "tiny.slurm-%j.log",
        num_nodes=2,
        time_limit="04:00:00",
        num_cpus=16,
        gpus="a100:4",
        memory="64G",
        partition="gpu",
        account="me",
        signal_before_s=90,
        options=("--qos=long",),
    )
    lines = [line[8:] for line in batch_script(asked).splitlines() if line.startswith("#SBATCH ")]
    assert lines == [
        "--job-name=tiny",
        f'--output="{tmp_path}/a \\"b\\"%%/tiny.slurm-%j.log"',
        "--open-mode=append",
        "--nodes=2",
        "--ntasks-per-node=1",
        "--time=04:00:00",
        "--cpus-per-task=16",
        "--gres=gpu:a100:4",
        "--mem=64G",
        "--partition=gpu",
        "--account=me",
        "--signal=B:USR1@90",
        "--requeue",
        "--qos=long",
    ]


def test_a_line_break_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line break"):
        batch_script(job(tmp_path, arguments=("sweep", "a\nscancel 1")))


def written(folder: Path, *options: str) -> list[str]:
    return ["slurm", "name=tiny", f"output_dir={folder}", *options]


def test_the_command_writes_the_script_where_there_is_no_slurm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)
    assert main(written(tmp_path / "out", "--time", "60", "--submit")) == 2
    assert "no sbatch on this machine" in capsys.readouterr().err
    assert "--time=60" in (tmp_path / "out" / "tiny.sbatch").read_text()


def test_a_limit_too_short_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(written(tmp_path / "out", "--time", "1")) == 2
    assert "too short to get on" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(written(tmp_path / "out", "--time", "5")) == 0
    assert "warning: --time 5: of each allocation" in capsys.readouterr().err


def test_no_secret_gets_into_a_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(written(tmp_path / "out", "tracking.uri=http://me:pass-word@server")) == 2
    assert "a setting holds a password" in (told := capsys.readouterr().err)
    assert "pass-word" not in told
    assert not (tmp_path / "out").exists()


def test_what_sbatch_refuses_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "sbatch", "echo 'invalid partition' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    assert main(written(tmp_path, "--partition", "none", "--submit")) == 2
    assert "sbatch refuses" in (told := capsys.readouterr().err)
    assert "invalid partition" in told
