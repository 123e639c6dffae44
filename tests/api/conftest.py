"""A sweep of seconds, run from Python; the tests work on copies of it."""

import shutil
from pathlib import Path

import pytest
from tiny_experiment import SETTINGS

import sg_ray


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished sweep in ``outputs/tiny`` and its cache. Only to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        sweep = sg_ray.run_sweep(
            sg_ray.load_experiment(settings=SETTINGS), executor="inline", show=False
        )
    assert sweep.state == "complete"
    return folder


@pytest.fixture
def swept(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder with the finished sweep, as the current folder."""
    folder = tmp_path / "swept"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    return folder
