"""Commands found in the project's pages, and a folder like a reader's in which they are run."""

import contextlib
import io
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import click
import pytest
import yaml

from sg_ray.cli import main

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
"""What a reader follows."""
PROGRAMS = {
    "sg-ray", "python", "python3", "make", "mlflow", "pip", "git", "ray", "pytest", "pre-commit",
    "docker", "conda", "uv", "ruff", "mypy", "curl", "wget", "aws", "sudo", "apt-get",
    "kubectl", "tar", "ssh",
    "sbatch", "squeue", "scancel", "scontrol",
}  # fmt: skip
"""A line or a piece of inline code that begins with one of these is a command."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SAME_AS_BEFORE = "..."
"""A command of a table may begin so: the program of the row before."""

# FAMILY, N; [key=value ...], [--csv FILE], but not the list [1,2]
_PLACEHOLDER = re.compile(r"\b[A-Z]+\b|\.\.\.|\[[A-Za-z-]")
_SUBPROCESS_TIMEOUT_S = 200
_SERVER_TIMEOUT_S = 150


def commands_in(markdown: str) -> set[str]:
    """Return every command: in inline code, and as a line of a fenced block, less its comment."""
    prose, blocks = markdown.split("```")[::2], markdown.split("```")[1::2]
    lines = [line for block in blocks for line in block.splitlines()]
    inline = [span for text in [*prose, *lines] for span in re.findall(r"`([^`]+)`", text)]
    spans = [" ".join(span.replace(r"\|", "|").split()) for span in inline]
    shown = [re.split(r"\s+#\s", line)[0].strip() for line in lines]
    return {text for text in (*spans, *shown) if _is_command(text)}


def python_in(markdown: str) -> list[str]:
    """Return every block of Python that is to be run, in order: those that import nothing go on."""
    return re.findall(r"^```python\n(.*?)^```", markdown, flags=re.MULTILINE | re.DOTALL)


def _is_command(text: str) -> bool:
    """A program and at least one argument; one word alone is a name."""
    first, _, rest = text.partition(" ")
    return bool(rest) and (first == SAME_AS_BEFORE or Path(first).name in PROGRAMS)


class Runner(Protocol):
    """Executes a command in the current folder; returns what it printed, fails if it fails."""

    def __call__(self, words: list[str]) -> str: ...


@dataclass(frozen=True)
class Step:
    """How a command of a page is executed.

    ``fill`` replaces its placeholders, ``extra`` is appended to make it small, ``after`` are the
    commands whose results it needs. It must print ``prints`` (a regular expression) and leave
    ``leaves`` (a glob).
    """

    run: Runner
    fill: Mapping[str, str] = field(default_factory=dict)
    extra: str = ""
    after: tuple[str, ...] = ()
    prints: str = ""
    leaves: str = "*"

    def line(self, command: str) -> str:
        """Return the command line that is executed.

        Raises ValueError if ``fill`` misses a placeholder or has one that is not there.
        """
        line, rest = command, command
        for placeholder, value in self.fill.items():
            if placeholder not in rest:
                raise ValueError(f"{placeholder} is not in {command!r}")
            line, rest = line.replace(placeholder, value), rest.replace(placeholder, "")
        missed = _PLACEHOLDER.search(rest)
        if missed is not None:
            raise ValueError(f"nothing is filled in for {missed.group()} in {command!r}")
        return f"{line} {self.extra}".rstrip()


class Walk:
    """A reader's way through the commands: each once, after those it builds on."""

    def __init__(self, folder: Path, steps: Mapping[str, Step]) -> None:
        self.folder = folder
        self._steps = steps
        self._printed: dict[str, str] = {}

    def follow(self, command: str) -> str:
        """Execute a command, before it what it builds on; return what it printed."""
        step = self._steps[command]
        for earlier in step.after:
            self.follow(earlier)
        line = step.line(command)
        if line not in self._printed:
            with contextlib.chdir(self.folder):
                self._printed[line] = step.run(_words(line))
        return self._printed[line]


def _words(line: str) -> list[str]:
    """Split as a shell does; a word with ``*`` becomes the first path that it matches."""
    words = shlex.split(line)
    return [str(min(Path().glob(word))) if "*" in word else word for word in words]


def make_checkout(folder: Path) -> Path:
    """Lay out what commands need of a checkout; its environment is the one that runs the tests."""
    for name in ("experiments", "search_spaces", "docs", "clusters"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "cluster.yaml"):
        shutil.copy2(ROOT / name, folder)
    (folder / "double_free.c").write_text("int f(char *s) { free(s); free(s); return 0; }\n")
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    scripts = Path(sys.executable).parent
    for name in ("pre-commit", "ray", "ruff", "sg-ray"):
        (programs / name).symlink_to(scripts / name)
    (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (programs / "python").chmod(0o755)
    for stamp in (".run", ".dev"):
        (folder / ".venv" / stamp).touch()
    return folder


def copy_package(folder: Path) -> Path:
    """Lay out what a build of the package reads."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("sg_ray", "experiments", "search_spaces"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, folder)
    return folder


def in_process(words: list[str]) -> str:
    """Run ``sg-ray ...`` or ``python experiments/sweep.py ...`` here, where Ray runs already."""
    program, *arguments = words
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = main(arguments) if program == "sg-ray" else _run_script(arguments)
    printed = output.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert code == 0, printed
    return printed


def _run_script(arguments: list[str]) -> int:
    with patch.object(sys, "argv", arguments):
        try:
            runpy.run_path(arguments[0], run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def as_subprocess(words: list[str], **environment: str) -> str:
    """Run a program as the shell would."""
    program, *arguments = words
    finished = subprocess.run(
        [sys.executable if program == "python" else program, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(environment),
        timeout=_SUBPROCESS_TIMEOUT_S,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


def _environment(changes: Mapping[str, str]) -> dict[str, str]:
    """This process's, with the package, and with nothing that make hands to what it starts."""
    from_make = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARGS", "TORCH", "PIP_ARGS"}
    kept = {name: value for name, value in os.environ.items() if name not in from_make}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **changes}


def joining_this_ray(words: list[str]) -> str:
    """Run a driver of its own that joins the tests' Ray, and never another one on the machine."""
    import ray

    return as_subprocess(words, RAY_ADDRESS=ray.get_runtime_context().gcs_address)


def with_own_home(words: list[str]) -> str:
    """Run what writes into the home folder."""
    return as_subprocess(words, HOME=str(Path("home").absolute()))


def understood_by_ray(words: list[str]) -> str:
    """Have Ray read a command of its own and the cluster file in it, and try the sweep in it.

    The sweep is only planned, as on a head: RAY_ADDRESS names the cluster, here the tests' Ray.
    """
    import ray
    from ray.scripts.scripts import cli

    command, arguments = cli, words[1:]
    while isinstance(command, click.Group):
        command, *arguments = command.commands[arguments[0]], *arguments[1:]
    given = command.make_context(command.name, arguments).params
    file = given.get("cluster_config_file")
    if file is not None:
        _check_cluster_file(Path(file))
    line = given.get("cmd") or shlex.join(given.get("entrypoint", ()))
    if not line:
        return f"{command.name}: {given}"
    folder, _, sweep = line.rpartition("cd sg-ray && ")
    assert folder == ""
    head = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    with patch.dict(os.environ, head):
        return in_process([*shlex.split(sweep), "name=planned", "--dry-run"])


def _check_cluster_file(path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load(path.read_text(encoding="utf-8"))))


def packing(words: list[str]) -> str:
    """Pack the project; Kubernetes takes a megabyte."""
    checkout = copy_package(Path("to-pack").absolute())
    for name in ("constraints.txt", "clusters"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, checkout / name)
    with contextlib.chdir(checkout):
        printed = as_subprocess(words)
        assert Path("sg-ray.tar.gz").stat().st_size < 2**20
    return printed


def naming_what_is_there(words: list[str]) -> str:
    """Compare a command of kubectl with its options, and with the objects and files it names."""
    verb, *arguments = words[1:]
    inside = arguments.index("--") if "--" in arguments else len(arguments)
    options = [word for word in arguments[:inside] if word.startswith("-")]
    named = [word for word in arguments[:inside] if not word.startswith("-")]
    _check_options_of_kubectl([verb, *named[: verb == "create"]], options)
    objects = _kubernetes()
    install, volumes = _of_the_head("initContainers")[0], _of_the_head("volumes")
    match verb, *named:
        case "apply", file:
            assert list(yaml.safe_load_all((ROOT / file).read_text(encoding="utf-8")))
        case "create" | "delete", "configmap", name:
            assert {"name": name} in [volume.get("configMap") for volume in volumes]
        case "cp", source, target:
            (there,) = (end for end in (source, target) if ":" in end)
            pod, _, path = there.partition(":")
            assert pod == objects["Pod"]["metadata"]["name"]
            assert f"cd {Path(path).parent} " in objects["RayJob"]["spec"]["entrypoint"]
        case "delete" | "get", ("rayjob" | "pod" | "pvc") as kind, name:
            assert objects[_KINDS[kind]]["metadata"]["name"] == name
        case "logs", job:
            assert job == f"job/{objects['RayJob']['metadata']['name']}"
        case "exec", _:
            understood_by_ray(arguments[inside + 1 :])
        case ("logs",) | ("get", "pods" | "pvc,pods" | "storageclass"):
            pass
        case other:
            raise AssertionError(f"nothing is known of {other}")
    for option, _, value in (option.partition("=") for option in options):
        if option == "--container":
            assert value in (install["name"], _of_the_head("containers")[0]["name"])
        if option == "--from-file":
            assert f"tar -xzf /code/{value}" in install["args"][0]
    return ""


_KINDS = {"rayjob": "RayJob", "pod": "Pod", "pvc": "PersistentVolumeClaim"}


def _check_options_of_kubectl(command: list[str], options: list[str]) -> None:
    if shutil.which("kubectl") is not None:
        known = as_subprocess(["kubectl", *command, "--help"])
        for option in options:
            assert re.search(rf"(?m)^ +(-\w, )?{option.partition('=')[0]}=|^ +{option}, ", known)


def _kubernetes() -> dict[str, Any]:
    """The objects of the files for Kubernetes by kind."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "clusters").glob("kuberay*.yaml")]
    return {one["kind"]: one for text in texts for one in yaml.safe_load_all(text)}


def _of_the_head(key: str) -> list[dict[str, Any]]:
    group = _kubernetes()["RayJob"]["spec"]["rayClusterSpec"]["headGroupSpec"]
    return list(group["template"]["spec"][key])


def rehearsed(words: list[str]) -> str:
    """Let make say what it would run, as if the environment had to be installed first."""
    make, *arguments = words
    return as_subprocess([make, "-n", "-W", "constraints.txt", *arguments])


def formatting(words: list[str]) -> str:
    """Run ``make format`` over a file that needs it."""
    Path("unformatted.py").write_text('"""A module."""\nx = {  "a":1 }\n')
    printed = as_subprocess(words)
    assert Path("unformatted.py").read_text() == '"""A module."""\n\nx = {"a": 1}\n'
    return printed


def installing(words: list[str]) -> str:
    """Let pip say what it would install, in a checkout with the package."""
    checkout = copy_package(Path("to-install").absolute())
    rehearsal = ["--dry-run", "--no-deps", "--no-build-isolation", "--no-index", str(checkout)]
    assert words[-1] == "."
    return as_subprocess(["python", "-m", *words[:-1], *rehearsal])


def photographing(words: list[str]) -> str:
    """Make the pictures of the pages, if there is a browser."""
    if not any(map(shutil.which, BROWSERS)):
        pytest.skip("no Chromium here")
    for picture in Path("docs/pictures").iterdir():
        picture.unlink()
    return as_subprocess(words)


def cleaning(words: list[str]) -> str:
    """Run ``make clean`` in a checkout of its own."""
    checkout = make_checkout(Path("cleaned"))
    kept, gone = checkout / "outputs" / "kept", checkout / "tests" / "__pycache__"
    for folder in (kept, gone, checkout / "sg_ray"):
        folder.mkdir(parents=True)
    printed = as_subprocess([words[0], "-C", str(checkout), *words[1:]])
    assert kept.exists()
    assert not gone.exists()
    assert not (checkout / ".venv").exists()
    assert Path(sys.executable).exists()  # .venv held links to it
    return printed


def configuring_pip(words: list[str]) -> str:
    """Run ``pip config set`` with a home folder of its own; return what pip reads afterwards."""
    home = {"HOME": str(Path("home").absolute()), "XDG_CONFIG_HOME": ""}
    pip = ["python", "-m", "pip"]
    as_subprocess([*pip, *words[1:], "--user"], **home)  # not into a virtual environment's file
    return as_subprocess([*pip, "config", "list"], **home)


def cloning(words: list[str]) -> str:
    """Run ``git clone ADDRESS FOLDER`` with a repository of the project's Makefile as ADDRESS."""
    origin = Path(words[2])
    origin.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy2(ROOT / name, origin)
    git = ["git", "-C", str(origin), "-c", "user.name=x", "-c", "user.email=x@localhost"]
    as_subprocess([*git, "init", "--quiet"])
    as_subprocess([*git, "add", "."])
    as_subprocess([*git, "commit", "--quiet", "--message", "x"])
    return as_subprocess(words)


def submitting(words: list[str]) -> str:
    """Run what submits a job; here bash reads the script in SLURM's place."""
    programs = Path("programs").absolute()
    programs.mkdir(exist_ok=True)
    stand_in = programs / "sbatch"
    stand_in.write_text('#!/bin/sh\nbash -n "$2" && echo Submitted batch job 7\n')
    stand_in.chmod(0o755)
    with patch.dict(os.environ, {"PATH": f"{programs}:{os.environ['PATH']}"}):
        return in_process(words)


def asking_slurm(words: list[str]) -> str:
    """See that a program of SLURM knows a command's options; ``make cluster-test`` runs them."""
    program, *arguments = words
    if shutil.which(program) is None:
        pytest.skip("no SLURM here")
    settings = Path("slurm.conf")
    settings.write_text("ClusterName=none\nSlurmctldHost=none\n")
    known = as_subprocess([program, "--help"], SLURM_CONF=str(settings.absolute()))
    for option in takewhile(lambda text: text.startswith("-"), arguments):  # then a script's own
        assert option.partition("=")[0] in known
    return known


def in_git_checkout(words: list[str]) -> str:
    """Run what needs a git repository around it."""
    as_subprocess(["git", "init", "--quiet"])
    return as_subprocess(words, PRE_COMMIT_HOME=str(Path("pre-commit-cache").absolute()))


def serving(words: list[str]) -> str:
    """Start MLflow's server on a free port; return the experiments that it shows."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with _server([*words, "--port", str(port)]) as server:
        page = _answer(server, f"http://127.0.0.1:{port}/")
        assert "<html" in page
        api = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=100"
        return "\n".join(e["name"] for e in json.loads(_answer(server, api))["experiments"])


@contextlib.contextmanager
def _server(words: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server for the length of the block; end it and all that it started."""
    with Path("server.log").open("wb") as log:
        server = subprocess.Popen(
            words,
            stdout=log,
            stderr=log,
            env=_environment({"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}),
            start_new_session=True,
        )
        try:
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(timeout=20)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(server.pid, signal.SIGKILL)


def _answer(server: "subprocess.Popen[bytes]", url: str) -> str:
    """Ask until the server answers."""
    deadline = time.monotonic() + _SERVER_TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return str(response.read().decode())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert server.poll() is None, Path("server.log").read_text()
            assert time.monotonic() < deadline, Path("server.log").read_text()
            time.sleep(0.2)
