"""A disk that fills up: the sweep says where, leaves nothing half-written, and goes on later."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_sweeps import (
    DATABASE,
    INLINE,
    SWEEP,
    records,
    repeated_points,
    results,
    run_statuses,
    wait_until,
)

from sg_ray.cli import main
from sg_ray.errors import SgRayError
from sg_ray.features.packed import FeatureKind, Ragged
from sg_ray.features.store import building, write_kind
from sg_ray.host.cache_lock import LOCK_NAME

Begin = Callable[[Path], None]
SmallDisk = Callable[[Path], None]


def fill(folder: Path, leave_kb: int = 0) -> Path:
    """Write a file that takes all the space there is but the last ``leave_kb``."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for block_size in (2**16, 2**12):
            try:
                while file.write(bytes(block_size)):
                    pass
            except OSError:
                continue
        file.truncate(file.tell() - leave_kb * 1024)
    return ballast


def test_an_output_disk_that_fills_up_during_a_trial(
    small_disk: SmallDisk,
    begin: Begin,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    begin(tmp_path)
    small_disk(tmp_path / "outputs")
    journal = tmp_path / SWEEP / "events.jsonl"

    def fill_in_search() -> None:
        wait_until(lambda: journal.exists() and '"search"' in journal.read_text())
        fill(tmp_path / "outputs")

    filling = threading.Thread(target=fill_in_search)
    filling.start()
    exit_code = main(["sweep", "experiment.yaml"])
    filling.join()

    assert exit_code == 1
    said = capfd.readouterr().err
    assert f"error: {tmp_path / SWEEP}: no space left on device" in said
    assert "--resume" in said
    assert "Traceback" not in said
    assert run_statuses(tmp_path / DATABASE)["RUNNING"] == 0
    stages = {record["stage"] for record in records(tmp_path / SWEEP)}
    assert stages <= {"floor"}, "a full disk was taken for a trial's failure"
    assert not list((tmp_path / SWEEP).rglob("*.tmp"))

    (tmp_path / "outputs" / "ballast").unlink()
    assert main(["sweep", "--resume", "tiny", *INLINE]) == 0
    assert results(tmp_path / SWEEP) == results(finished / SWEEP)
    assert run_statuses(tmp_path / DATABASE) == {"FINISHED": 6}
    assert repeated_points(tmp_path / DATABASE) == []
    for line in journal.read_text().splitlines():
        json.loads(line)


@pytest.mark.slow
def test_a_cache_disk_that_fills_up_while_features_are_made(
    small_disk: SmallDisk,
    begin: Begin,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    begin(tmp_path)
    small_disk(tmp_path / "cache")
    ballast = fill(tmp_path / "cache", leave_kb=150)
    assert main(["sweep", "experiment.yaml"]) == 1
    said = capfd.readouterr().err
    assert f"{Path('cache/features')}/" in said
    assert "No space left on device" in said
    assert "cache_dir" in said
    assert run_statuses(tmp_path / DATABASE) == {"FAILED": 1}
    hidden = {path.name for path in (tmp_path / "cache").rglob(".*")}
    assert hidden <= {LOCK_NAME}, "half a feature was left"
    ballast.unlink()
    assert main(["sweep", "--resume", "tiny", *INLINE]) == 0
    assert results(tmp_path / SWEEP) == results(finished / SWEEP)
    assert run_statuses(tmp_path / DATABASE) == {"FINISHED": 6}


def test_an_array_larger_than_the_disk(small_disk: SmallDisk, tmp_path: Path) -> None:
    small_disk(tmp_path / "cache")
    big = Ragged.pack([np.zeros(10 * 2**20, dtype=np.uint8)])

    def build() -> None:
        with building(tmp_path / "cache" / "toy", is_good=lambda found: False) as folder:
            write_kind(folder, FeatureKind({}, {"train": {"bytes": big}}), {})

    with pytest.raises(SgRayError, match=r"toy: features cannot be written \(No space left"):
        build()
    assert list((tmp_path / "cache").iterdir()) == []
