"""Commands that are printed run as printed."""

import subprocess
import sys
from pathlib import Path

import pytest

from sg_ray import commands
from sg_ray.commands import beside_python, from_here, runnable, sg_ray_command


@pytest.fixture
def environment(tmp_path, monkeypatch) -> Path:
    """A Python's folder with its programs, in the working folder and not on the PATH."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "sg-ray"):
        (programs / name).touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    return programs


def test_the_program_is_named_by_its_place_unless_the_shell_finds_it(environment, monkeypatch):
    assert sg_ray_command("extend", "quick") == ".venv/bin/sg-ray extend quick"
    monkeypatch.setenv("PATH", str(environment))
    assert sg_ray_command("extend", "quick") == "sg-ray extend quick"
    (other := environment.parent / "other").mkdir()
    (other / "sg-ray").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{other}:{environment}")
    assert sg_ray_command("extend", "quick") == ".venv/bin/sg-ray extend quick"
    (environment / "sg-ray").unlink()
    assert sg_ray_command("extend") == f"{environment}/python -m sg_ray extend"


def test_arguments_are_quoted(environment):
    assert sg_ray_command("sweep", "--resume", Path("out #1/a b")) == (
        ".venv/bin/sg-ray sweep --resume 'out #1/a b'"
    )
    assert runnable("sg-ray extend 'a b'") == ".venv/bin/sg-ray extend 'a b'"
    assert runnable("make sweep") == "make sweep"


def test_what_is_not_installed_is_not_named(environment):
    assert beside_python("mlflow") is None
    assert from_here(environment) == Path(".venv/bin")
    assert from_here(Path("/elsewhere")) == Path("/elsewhere")


def test_the_command_runs_here():
    line = commands.sg_ray_command("--version")
    assert subprocess.run(line, shell=True, capture_output=True, check=True).stdout
