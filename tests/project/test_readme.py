"""What README.md and ARCHITECTURE.md name is there, and the project's texts are plain ASCII."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
LISTED_FOLDERS = ("sg_ray", "experiments", "search_spaces")
OPTION = r"(?<![\w-])--[a-z][a-z-]+"
OPTIONS_OF_OTHERS = {"--extra-index-url"}
"""pip's."""
IGNORED = {"__pycache__", "outputs", ".cache", ".lr_cache"}


def files_below(folder: str) -> Iterator[str]:
    for path in sorted((ROOT / folder).rglob("*")):
        if path.is_file() and not IGNORED & set(path.parts) and path.suffix != ".pyc":
            yield path.relative_to(ROOT).as_posix()


def section(title: str) -> str:
    return re.split(r"^## ", README.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def rooms() -> set[str]:
    """The paths in the first column of the table under "Rooms"."""
    table = ARCHITECTURE.split("\n## Rooms\n")[1]
    rows = re.findall(r"^\| (`sg_ray.*?) \|", table, flags=re.MULTILINE)
    return {path for row in rows for path in re.findall(r"`([^`]+)`", row)}


def test_every_room_has_a_line():
    files = [Path(path) for path in files_below("sg_ray")]
    folders = {f"{path.parent.as_posix()}/" for path in files} - {"sg_ray/"}
    alone = {
        path.as_posix()
        for path in files
        if len(path.parts) == 2 and path.suffix == ".py" and path.stem[0] != "_"
    }
    assert rooms() == folders | alone


def test_every_command_is_listed():
    from sg_ray.cli import COMMANDS

    assert set(re.findall(r"sg-ray ([a-z]+)", section("Commands"))) == set(COMMANDS)


def test_every_option_exists(capsys):
    from sg_ray.cli import COMMANDS, main

    kinds = {"data": ["synthetic", "sample", "check"], "track": ["sync"], "new": ["family"]}
    for command in COMMANDS:
        for kind in kinds.get(command, [""]):
            with pytest.raises(SystemExit) as stop:
                main([command, *kind.split(), "--help"])
            assert stop.value.code == 0
    known = set(re.findall(OPTION, capsys.readouterr().out)) | OPTIONS_OF_OTHERS
    assert set(re.findall(OPTION, README)) - known == set()


def setting_keys() -> Iterator[str]:
    """The keys of the table under "Settings"; one that begins with a dot continues the last."""
    for row in re.findall(r"^\| (`.*?) \|", section("Settings"), re.MULTILINE):
        parent = ""
        for key in re.findall(r"`([^`]+)`", row):
            whole = parent + key if key.startswith(".") else key
            parent = whole.rpartition(".")[0]
            yield whole.replace("FAMILY", "gnn")


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
    keys = list(setting_keys())
    assert {"name", "data.valid_file", "data.limit.test", "models.gnn.space"} <= set(keys)
    assert [key for key in keys if not is_setting(key)] == []
    assert not is_setting("data.limit.tests")


def test_default_experiment_exists():
    assert (ROOT / "experiments" / "quick.yaml").exists()
    for name in re.findall(r"experiments/[a-z_]+\.(?:yaml|py)", README):
        assert (ROOT / name).exists(), name


def test_texts_are_ascii():
    texts = [
        ROOT / path
        for folder in (*LISTED_FOLDERS, "tests", ".ci", ".github")
        for path in files_below(folder)
        if Path(path).suffix in {".py", ".yaml", ".yml", ".md", ".jinja", ""}
    ]
    texts += [*ROOT.glob("*.md"), ROOT / "Makefile", *ROOT.glob("*.toml"), *ROOT.glob("*.yaml")]
    assert [str(path) for path in texts if not path.read_bytes().isascii()] == []
