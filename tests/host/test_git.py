"""Which commit the sources have, told by the real git in real repositories."""

import subprocess
from pathlib import Path

import pytest

from sg_ray.host.git import checkout_around, checkout_of_sources


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a package in it."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "code.py").write_text("a = 1\n")
    (tmp_path / "notes.txt").write_text("a\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_the_commit_and_whether_the_files_are_its_own(repository: Path) -> None:
    commit, package = git(repository, "rev-parse", "HEAD"), repository / "package"
    clean = checkout_of_sources(package)
    assert clean is not None
    assert (clean.commit, clean.is_dirty) == (commit, False)
    assert clean.root.samefile(repository)
    (repository / "notes.txt").write_text("b\n")
    assert checkout_of_sources(package) == clean, "what lies beside the package is no part of it"
    around = checkout_around(package)
    assert around is not None
    assert around.is_dirty
    (package / "more.py").write_text("b = 2\n")
    now = checkout_of_sources(package)
    assert now is not None
    assert (now.commit, now.is_dirty) == (commit, True)


def test_results_are_no_change_of_a_project(repository: Path) -> None:
    (repository / "outputs").mkdir()
    (repository / "outputs" / "sweep.yaml").write_text("a: 1\n")
    around = checkout_around(repository / "outputs")
    assert around is not None
    assert not around.is_dirty


def test_files_that_a_filter_keeps_in_another_form_are_no_change(repository: Path) -> None:
    git(repository, "config", "filter.upper.clean", "tr a-z A-Z")  # git-lfs is such a filter
    (repository / ".gitattributes").write_text("*.txt filter=upper\n")
    git(repository, "add", "--renormalize", ".gitattributes", "notes.txt")
    git(repository, "commit", "-qm", "filtered")
    (repository / "notes.txt").write_text("a\n")
    around = checkout_around(repository)
    assert around is not None
    assert not around.is_dirty
    (repository / "notes.txt").write_text("b\n")
    around = checkout_around(repository)
    assert around is not None
    assert around.is_dirty


def test_a_package_that_is_installed_within_a_repository_is_none_of_it(repository: Path) -> None:
    installed = repository / ".venv" / "lib" / "package"
    installed.mkdir(parents=True)
    (installed / "code.py").write_text("a = 1\n")
    (repository / ".gitignore").write_text(".venv\n")
    assert checkout_of_sources(installed) is None


def test_without_repository_commit_or_git_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checkout_around(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert checkout_around(tmp_path) is None, "nothing is committed"
    assert checkout_around(tmp_path / "nowhere") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checkout_around(Path(__file__).parent) is None, "no git"


def test_what_a_hook_of_another_repository_starts_tells_of_its_own_folder(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checkout_around(repository), checkout_of_sources(repository / "package")
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    git(other, "commit", "-q", "--allow-empty", "-m", "another")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert (checkout_around(repository), checkout_of_sources(repository / "package")) == before
    assert None not in before
