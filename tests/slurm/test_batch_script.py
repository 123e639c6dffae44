"""The batch script: what stands in it, and what bash does with it when signals come.

``tests/cluster/labs/slurm.py`` runs it by a real SLURM; here a program of three lines is the sweep.
"""

import os
import shlex
import signal
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sg_ray.cli import main
from sg_ray.errors import InputError
from sg_ray.slurm.batch_script import Job, batch_script
from sg_ray.sweep_folder import SweepFolder

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
        "sweep": SweepFolder(folder),
        "go_on": "sbatch out/tiny.sbatch",
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
        'printf \'%s\\n\' "$@" > arguments; echo "$TMPDIR" > tmp; printenv > environment;'
        " trap 'exit 138' USR1;"
        ' trap \'exit 143\' TERM; [ -z "${CODE:-}" ] || exit "$CODE";'
        ' event=\'{"at_ms": 1, "type": "epoch"}\';'
        ' echo "${EVENT-$event}" >> events.jsonl;'
        " touch begun; while :; do sleep 0.05; done",
    )
    program(room / "scontrol", 'echo "$@" > requeued; exit "${REFUSES:-0}"')
    yield room
    left = (room / "tmp").read_text().strip()
    assert left.startswith("/tmp/sg-ray-4711-")
    assert not Path(left).exists()


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def start(
    room: Path, *given: str, settings: Mapping[str, object] | None = None, **environment: str
) -> "subprocess.Popen[bytes]":
    """Run the script as SLURM does; ``given`` stands behind its name."""
    usual = {"arguments": ("sweep", ODD, f"data.path={ODD}"), "python": room / "python"}
    script = batch_script(job(room, **{**usual, **(settings or {})}))
    path = room / "tiny.sbatch"
    path.write_text(script)
    known = {**os.environ, "PATH": f"{room}:{os.environ['PATH']}", **SLURM}
    with (room / "log").open("wb") as log:
        return subprocess.Popen(
            ["bash", str(path), *given], env={**known, **environment}, cwd="/", stdout=log
        )


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
    assert (room / "log").read_text().endswith("job 4711 is queued again, to go on\n")


def test_a_job_that_slurm_does_not_queue_again_does_not_say_that_it_is(room: Path) -> None:
    process = start(room, REFUSES="1")
    begun(room)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(LIMIT_S) == 138
    told = "job 4711 cannot be queued again: sbatch goes on, as said above\n"
    assert (room / "log").read_text().endswith(told)
    assert (room / "requeued").exists()


@pytest.mark.parametrize("journal", [None, "", '{"at_ms": 1, "type": "epoch"}\n'])
def test_a_job_in_which_nothing_is_done_is_not_queued_again_without_end(
    room: Path, journal: str | None
) -> None:
    """Nor is the first one, which makes the journal."""
    if journal is not None:
        (room / "events.jsonl").write_text(journal)
    process = start(room, EVENT='{"at_ms": 2, "type": "sweep_resumed"}')
    begun(room)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(LIMIT_S) == 138
    assert not (room / "requeued").exists()


def test_what_is_given_reaches_the_sweep_as_it_is(room: Path) -> None:
    assert start(room, CODE="0").wait(LIMIT_S) == 0
    assert arguments_of_sweep(room) == ["sweep", ODD, f"data.path={ODD}"]


def arguments_of_sweep(room: Path) -> list[str]:
    module, *arguments = (room / "arguments").read_text().removeprefix("-m\n").splitlines()
    assert module == "sg_ray"
    return arguments


@pytest.mark.parametrize(
    ("restarts", "is_begun", "goes_on_as_begun"),
    [("0", True, False), ("", True, False), ("1", False, False), ("1", True, True)],
)
def test_a_job_that_is_queued_again_goes_on_with_the_settings_on_record(
    room: Path, restarts: str, is_begun: bool, goes_on_as_begun: bool
) -> None:
    """What was decided at the submission is not decided once more."""
    if is_begun:
        (room / "sweep.yaml").touch()
    process = start(room, "--anew", CODE="0", SLURM_RESTART_COUNT=restarts)
    assert process.wait(LIMIT_S) == 0
    first = ["sweep", ODD, f"data.path={ODD}", "--anew"]
    assert arguments_of_sweep(room) == (
        ["sweep", "--resume", str(room)] if goes_on_as_begun else first
    )


def test_the_sweep_gets_the_environment_that_the_script_holds(room: Path) -> None:
    settings = {"environment": {"HF_HOME": ODD}, "go_on": f"sbatch {shlex.quote(ODD)}"}
    process = start(room, settings=settings, CODE="0", RAY_ADDRESS="ray.example:6379")
    assert process.wait(LIMIT_S) == 0
    lines = (room / "environment").read_text().splitlines()
    known = dict(line.split("=", 1) for line in lines if "=" in line)
    assert known["HF_HOME"] == ODD
    assert known["SG_RAY_GO_ON"].startswith(f"sbatch {shlex.quote(ODD)} (nothing to do if ")
    assert "RAY_ADDRESS" not in known


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


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--cpus", "0"), "--cpus 0: Input should be greater than or equal to 1"),
        (("--nodes", "0"), "--nodes 0: Input should be greater than or equal to 1"),
        (("--nodes", "-1"), "--nodes -1: "),
        (("--signal-before", "0"), "--signal-before 0: "),
        (("--signal-before", "65536"), "--signal-before 65536: Input should be less than"),
        (("--mem", "banana"), "--mem banana: give the memory of each node as SLURM does"),
        (("--mem", "64 G"), "--mem 64 G: "),
        (("--gpus", "banana"), "--gpus banana: say how many GPUs each node is to have"),
        (("--gpus", "0"), "--gpus 0: "),
        (("--gpus=-1",), "--gpus -1: "),
        (
            ("--sbatch", "qos=long"),
            "--sbatch qos=long: no option of sbatch. Write it with",
        ),
    ],
)
def test_what_slurm_would_not_understand_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], told: str
) -> None:
    assert main(written(tmp_path / "out", *options)) == 2
    assert f"error: {told}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


GROUP = "resources={gpus: 1, num_workers: 4}"
OWN = "models.gnn.resources={gpus: 2}"


@pytest.mark.parametrize(
    ("options", "is_refused"),
    [
        (("resources.gpus=1",), True),
        (("resources.gpus=0.25",), True),
        (("resources.gpus=4", "--gpus", "2"), True),
        ((OWN, "--gpus", "1"), True),
        ((GROUP, "--gpus", "2"), True),
        (("resources.gpus=0",), False),
        (("resources.gpus=1", "--gpus", "a100:1"), False),
        (("resources.gpus=0.25", "--gpus", "1"), False),
        ((OWN, "--gpus", "2"), False),
        ((GROUP, "--gpus", "2", "--nodes", "2"), False),
        ((GROUP, "resources.min_workers=2", "--gpus", "2"), False),
        (("resources.gpus=1", "--sbatch=--gpus-per-node=1"), False),
    ],
)
def test_trials_that_would_find_no_gpu_in_the_job_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    is_refused: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    code = main(written(tmp_path / "out", *options))
    told = capsys.readouterr().err
    assert (code, told.startswith("error: --gpus: a ")) == ((2, True) if is_refused else (0, False))
    assert (tmp_path / "out" / "tiny.sbatch").exists() != is_refused


@pytest.mark.parametrize("num_here", [0, 1])
def test_auto_is_told_that_the_job_has_no_gpu_whatever_there_is_here(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    num_here: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: bool(num_here))
    auto = ("families=[gnn]", "resources.gpus=auto")
    assert main(written(tmp_path / "out", *auto)) == 0
    told = "warning: without --gpus the job has no GPU, so resources.gpus=auto means none, and gnn"
    assert told in capsys.readouterr().err
    assert main(written(tmp_path / "out", *auto, "--gpus", "1")) == 0
    assert "warning" not in capsys.readouterr().err


def test_the_script_has_what_the_login_shell_has_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.delenv("HF_HOME", raising=False)
    assert main(written(tmp_path / "out")) == 0
    script = (tmp_path / "out" / "tiny.sbatch").read_text()
    assert "\nexport HF_HUB_OFFLINE=1\n" in script
    assert "HF_HOME" not in script
    assert "HF_TOKEN" not in script


@pytest.mark.parametrize("option", ["--anew", "--keep-records"])
def test_what_becomes_of_records_is_said_to_the_job_that_is_submitted(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
) -> None:
    """Not in the script, which would say it whenever it is submitted."""
    program(tmp_path / "sbatch", 'shift 2; echo "Submitted with $*"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    assert main(written(tmp_path / "out", option)) == 0
    assert capsys.readouterr().out.endswith(f": sbatch out/tiny.sbatch {option}\n")
    assert main(written(tmp_path / "out", option, "--submit")) == 0
    assert capsys.readouterr().out.endswith(f"/tiny.sbatch: Submitted with {option}\n")


def test_a_login_that_a_job_would_not_know_again_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "with-login.yaml"
    file.write_text("name: tiny\ntracking: {uri: 'http://me:pass-word@server'}\n")
    assert main(["slurm", str(file), f"output_dir={tmp_path}/out"]) == 2
    assert "MLFLOW_TRACKING_PASSWORD" in (told := capsys.readouterr().err)
    assert "pass-word" not in told


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
