"""What the project's pages name is there, and its texts are plain ASCII."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from readme_walk import PAGES, ROOT

TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
COMMANDS_PAGE = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
LISTED_FOLDERS = ("sg_ray", "experiments", "search_spaces", "clusters", "docs")
TOP_LEVEL = {
    *(".ci", ".github", ".gitignore", ".pre-commit-config.yaml"),
    *("README.md", "LICENSE", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *("Makefile", "pyproject.toml", "constraints.txt", "mkdocs.yml", "cluster.yaml"),
    *("sg_ray", "experiments", "search_spaces", "clusters", "tests", "docs"),
}
"""What a stranger sees first. Another file belongs into one of the folders."""
MAX_README_LINES = 150
OPTION = r"(?<![\w-])--[a-z][a-z-]+"
OPTIONS_OF_OTHERS = {
    *("--extra-index-url",),  # pip's
    *("--user", "--batch", "--signal", "--qos"),  # SLURM's
    *("--generate", "--tmux", "--no-wait"),  # Ray's
    *("--exclude", "--from-file", "--follow", "--watch"),  # tar's and kubectl's
    *("--selector", "--container", "--output"),
    *("--project",),  # gcloud's
    *(
        "--device",
        "--features",
        "--pack",
        "--tiny",
        "--workers",
    ),  # of experiments/benchmarks/gpu.py
}
IGNORED = {"__pycache__", "outputs", ".cache", ".lr_cache"}


def files_below(folder: str) -> Iterator[str]:
    for path in sorted((ROOT / folder).rglob("*")):
        if path.is_file() and not IGNORED & set(path.parts) and path.suffix != ".pyc":
            yield path.relative_to(ROOT).as_posix()


def rooms() -> set[str]:
    """The paths in the first column of the table under "Rooms"."""
    table = ARCHITECTURE.split("\n## Rooms\n")[1]
    rows = re.findall(r"^\| (`sg_ray.*?) \|", table, flags=re.MULTILINE)
    return {path for row in rows for path in re.findall(r"`([^`]+)`", row)}


def test_every_room_has_a_line():
    files = [Path(path) for path in files_below("sg_ray")]
    folders = {f"{path.parent.as_posix()}/" for path in files} - {"sg_ray/"}
    alone = {path.as_posix() for path in files if path.match("sg_ray/[!_]*.py")}
    assert rooms() == folders | alone


def test_nothing_else_is_on_the_top_level():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert {line.split("/")[0] for line in listed.stdout.splitlines()} == TOP_LEVEL


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_README_LINES


def test_every_command_is_listed():
    from sg_ray.cli import COMMANDS

    listed = re.findall(r"^\| `sg-ray ([a-z]+)", COMMANDS_PAGE, flags=re.MULTILINE)
    assert set(listed) == set(COMMANDS)


def test_every_option_exists(capsys):
    from sg_ray.cli import COMMANDS, main

    kinds = {"data": ["synthetic", "sample", "check"], "track": ["sync"], "new": ["family"]}
    for command in COMMANDS:
        for kind in kinds.get(command, [""]):
            with pytest.raises(SystemExit) as stop:
                main([command, *kind.split(), "--help"])
            assert stop.value.code == 0
    known = set(re.findall(OPTION, capsys.readouterr().out)) | OPTIONS_OF_OTHERS
    assert set(re.findall(OPTION, TEXT)) - known == set()


def settings_named() -> set[str]:
    """Every key with a dot that begins with a section, in code or before a ``=``."""
    sections = r"data|models|lr_range|search|replicate|resources|tracking"
    keys = re.findall(rf"(?<![\w./])((?:{sections})\.[A-Za-z_.]*[a-z_])(?=[`=\s])", TEXT)
    return {key.replace("FAMILY", "gnn") for key in keys}


def is_setting(key: str) -> bool:
    """Whether an experiment knows the key; null may still be the wrong value for it."""
    from sg_ray.config import load_experiment
    from sg_ray.errors import InputError

    try:
        load_experiment(ROOT / "experiments/quick.yaml", [f"{key}=null"])
    except InputError as error:
        return "unknown key" not in str(error)
    return True


def test_every_setting_exists():
    keys = settings_named()
    assert {"data.limit.train", "models.gnn.space", "replicate.max_seeds"} <= keys
    assert [key for key in sorted(keys) if not is_setting(key)] == []
    assert not is_setting("data.limit.tests")


def test_every_file_of_experiments_that_is_named_exists():
    named = re.findall(r"experiments/[\w/]+\.(?:yaml|py|md|ipynb)", TEXT)
    assert "experiments/quick.yaml" in named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_texts_are_ascii():
    texts = [
        ROOT / path
        for folder in (*LISTED_FOLDERS, "tests", ".ci", ".github")
        for path in files_below(folder)
        if Path(path).suffix in {".py", ".yaml", ".yml", ".md", ".jinja", ".svg", ".sh", ""}
    ]
    texts += [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("*.y*ml"), ROOT / "Makefile"]
    assert [str(path) for path in texts if not path.read_bytes().isascii()] == []
