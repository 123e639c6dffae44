"""What a record says about where it comes from; that a sweep writes it: tests/sweep."""

import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from sg_ray.host.packages import installed_packages, packages_hash
from sg_ray.records.origin import (
    Commit,
    look_up_origin,
    note_packages,
    origin_of_this_process,
)
from sg_ray.sweep_folder import SweepFolder


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a process found out about itself once is found out anew in each test."""
    origin_of_this_process.cache_clear()
    yield
    origin_of_this_process.cache_clear()


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("/opt/venv/bin/python /opt/venv/bin/sg-ray sweep seed=1", "sg-ray sweep seed=1"),
        ("/opt/venv/bin/python -m sg_ray sweep", "sg-ray sweep"),
        ("sg-ray sweep tracking.uri=https://ada:s3cr3t@host/x", "sg-ray sweep tracking.uri="),
        ("sg-ray sweep data.path=/home/ada/data", "sg-ray sweep data.path='~/data'"),
    ],
)
def test_the_command_is_what_was_typed_fit_to_be_shared(
    line: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setattr(sys, "orig_argv", line.split())
    told = origin_of_this_process().command
    assert told.replace("'", "").startswith(command.replace("'", ""))
    assert "s3cr3t" not in told


def test_the_main_job_is_told_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    script = str(Path(__file__).parents[2] / "experiments" / "sweep.py")
    line = ["/opt/venv/bin/python", script, "--resume", "quick", "--token", "s3cr3t"]
    monkeypatch.setattr(sys, "orig_argv", line)
    monkeypatch.setattr(sys, "argv", line[1:])
    told = origin_of_this_process().command
    assert told.startswith("python experiments/sweep.py --resume quick --token ")
    assert "s3cr3t" not in told


@pytest.mark.parametrize(
    "given",
    [
        "--token s3cr3t",
        "--hf-token s3cr3t",
        "--password s3cr3t",
        "--api-key s3cr3t",
        "--api-key=s3cr3t",
        "--API_KEY=s3cr3t",
    ],
)
@pytest.mark.parametrize("start", ["sg-ray sweep", "python -m sg_ray sweep"])
def test_a_secret_that_was_typed_is_not_told(
    start: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", f"{start} {given} seed=1".split())
    told = origin_of_this_process().command.replace("'", "")
    assert "s3cr3t" not in told
    assert told.startswith("sg-ray sweep --")
    assert told.endswith(" seed=1")


@pytest.mark.parametrize(
    ("line", "script", "command"),
    [
        ("/opt/venv/bin/python -X dev ./jobs/run.py -p s3cr3t", "./jobs/run.py", "python run.py"),
        ("python3 -c connect('s3cr3t')", "-c", "python3 -c"),
        ("python3", "", "python3"),
        ("", "", ""),
    ],
)
def test_of_another_program_only_the_name_is_told(
    line: str, script: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", line.split())
    monkeypatch.setattr(sys, "argv", [script] if line else [])
    assert origin_of_this_process().command == command


def test_words_with_spaces_are_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "sg_ray", "sweep", "a #1.yaml"])
    assert origin_of_this_process().command == "sg-ray sweep 'a #1.yaml'"


def test_a_folder_without_a_repository_has_no_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert origin_of_this_process().project is None


def test_each_start_looks_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["sg-ray", "sweep", "a=1"])
    assert origin_of_this_process().command == "sg-ray sweep a=1"
    monkeypatch.setattr(sys, "orig_argv", ["sg-ray", "sweep", "a=2"])
    assert origin_of_this_process().command == "sg-ray sweep a=1", "all records of a start agree"
    assert look_up_origin().command == "sg-ray sweep a=2"
    assert origin_of_this_process().command == "sg-ray sweep a=2"


def test_a_changed_commit_says_so() -> None:
    assert str(Commit(commit="0a1b", is_dirty=False)) == "0a1b"
    assert "changed" in str(Commit(commit="0a1b", is_dirty=True))


def test_all_that_is_installed_is_written_once(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    note_packages(folder)
    (path,) = folder.all_packages.iterdir()
    content = json.loads(path.read_text(encoding="utf-8"))
    assert path == folder.packages(packages_hash())
    assert content["torch"] == version("torch")
    assert content == installed_packages()
    assert len(content) > 50
    before = path.stat()
    note_packages(folder)
    assert path.stat() == before
