"""README.md lists every file, its examples are real, and the project's texts are plain ASCII."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LISTED_FOLDERS = ("sg_ray", "experiments", "search_spaces")
OPTION = r"(?<![\w-])--[a-z][a-z-]+"
OPTIONS_OF_OTHERS = {"--extra-index-url", "--backend-store-uri"}
"""pip's and MLflow's."""
TEMPLATES = "sg_ray/report/templates/"
"""Listed as a whole: one template a section."""
IGNORED = {"__pycache__", "outputs", ".cache", ".lr_cache"}


def files_below(folder: str) -> Iterator[str]:
    for path in sorted((ROOT / folder).rglob("*")):
        if path.is_file() and not IGNORED & set(path.parts) and path.suffix != ".pyc":
            yield path.relative_to(ROOT).as_posix()


def section(title: str) -> str:
    return re.split(r"^## ", README.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def listed() -> dict[str, str]:
    """The tree under "Files": path to description. Two spaces a level, folders end with "/"."""
    entries: dict[str, str] = {}
    folders: list[str] = []
    for line in section("Files").split("```")[1].strip("\n").splitlines():
        name, _, description = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name] if name.endswith("/") else []
        entries["".join(folders) + ("" if name.endswith("/") else name)] = description.strip()
    return entries


def test_every_file_is_listed():
    entries = listed()
    files = {path for folder in LISTED_FOLDERS for path in files_below(folder)}
    unlisted = {
        path
        for path in files
        if path not in entries
        and path.removesuffix("__init__.py") not in entries
        and not (path.startswith(TEMPLATES) and TEMPLATES in entries)
    }
    assert unlisted == set()


def test_every_listed_file_exists_and_is_described():
    for path, description in listed().items():
        assert (ROOT / path).exists(), path
        assert (ROOT / path).is_dir() == path.endswith("/"), path
        assert description, path


def test_every_command_is_listed():
    from sg_ray.cli import COMMANDS

    assert set(re.findall(r"sg-ray ([a-z]+)", section("Commands"))) == set(COMMANDS)


def test_every_option_exists(capsys):
    from sg_ray.cli import COMMANDS, main

    kinds = {"data": ["synthetic", "sample", "check"], "track": ["sync"]}
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
    texts += [ROOT / "README.md", ROOT / "Makefile", *ROOT.glob("*.toml"), *ROOT.glob("*.yaml")]
    assert [str(path) for path in texts if not path.read_bytes().isascii()] == []
