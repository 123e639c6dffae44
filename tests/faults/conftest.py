"""One finished sweep for all tests of this folder, and file systems that can be broken."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hostile_paths import hostile_folder
from small_sweeps import DATABASE, INLINE, copy_of, write_experiment

from sg_ray.cli import main

Begin = Callable[[Path], None]


@pytest.fixture(scope="session")
def begin(empty_store: Path) -> Begin:
    """Write experiment.yaml and an empty MLflow store."""

    def do(folder: Path) -> None:
        write_experiment(folder)
        shutil.copy(empty_store, folder / DATABASE)

    return do


@pytest.fixture(scope="session")
def finished(ray_session: None, begin: Begin, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished sweep, its cache and its MLflow store. Only to be copied."""
    folder = hostile_folder(tmp_path_factory.mktemp("finished"))
    begin(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["sweep", "experiment.yaml", *INLINE]) == 0
    return folder


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    return hostile_folder(tmp_path)


@pytest.fixture
def swept(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished sweep, as the current folder."""
    folder = copy_of(finished, tmp_path / "swept")
    monkeypatch.chdir(folder)
    return folder


Mount = Callable[..., None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mount something for the length of a test: ``mount(folder, *arguments of mount)``."""
    with ExitStack() as mounted:

        def do(folder: Path, *arguments: str) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            done = subprocess.run(
                ["mount", *arguments, str(folder)], capture_output=True, text=True, check=False
            )
            if done.returncode:
                pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
            mounted.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)

        if os.geteuid() != 0:
            pytest.skip("mounting takes root")
        yield do


@pytest.fixture
def small_disk(mount: Mount) -> Callable[[Path], None]:
    """Put a disk of 8 MiB at a folder."""
    return lambda folder: mount(folder, "-t", "tmpfs", "-o", "size=8m", "tmpfs")


@pytest.fixture
def read_only(mount: Mount) -> Callable[[Path], None]:
    """Make a folder read-only, also for root."""

    def do(folder: Path) -> None:
        mount(folder, "--bind", str(folder))
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)

    return do
