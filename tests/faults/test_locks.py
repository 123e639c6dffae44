"""Who may work on a sweep's folder, and several sweeps on one store."""

import os
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from small_sweeps import (
    DATABASE,
    ROOT,
    SWEEP,
    query,
    repeated_points,
    results,
    run_statuses,
    start,
    write_experiment,
)

from sg_ray.cli import main
from sg_ray.errors import InputError
from sg_ray.host.lock import locked
from sg_ray.sweep_folder import SweepFolder

HOLDER = """
import sys, pathlib
from sg_ray.host.lock import locked
from sg_ray.sweep_folder import SweepFolder
with locked(SweepFolder(pathlib.Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """Hold a folder's lock in another process."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_driver_is_told_who_holds_the_folder_and_changes_nothing(
    swept: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = query(DATABASE, "select * from runs")
    with hold(swept / SWEEP) as holder:
        assert main(["sweep", "--resume", "tiny"]) == 2
        holder.communicate()
    said = capfd.readouterr().err
    assert f"pid {holder.pid} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-}" in said
    assert query(DATABASE, "select * from runs") == before


def test_the_lock_of_a_killed_driver_is_taken_over(tmp_path: Path) -> None:
    with hold(tmp_path) as holder:
        with pytest.raises(InputError, match=f"pid {holder.pid} "), locked(SweepFolder(tmp_path)):
            pass
        holder.kill()
        holder.communicate()
    with (
        locked(SweepFolder(tmp_path)),
        pytest.raises(InputError, match=f"pid {os.getpid()} "),
        locked(SweepFolder(tmp_path)),
    ):
        pass


def test_the_name_of_an_earlier_holder_does_not_shine_through(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("pid 1 on " + 300 * "long" + " since ever")
    with (
        locked(SweepFolder(tmp_path)),
        pytest.raises(InputError) as refused,
        locked(SweepFolder(tmp_path)),
    ):
        pass
    assert "long" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_sweeps_at_once_share_a_new_store(finished: Path, tmp_path: Path) -> None:
    names = ("one", "two")
    database = tmp_path / DATABASE
    for name in names:
        write_experiment(tmp_path / name, name=name, tracking={"uri": f"sqlite:///{database}"})
    sweeps = [start(tmp_path / name, "sweep", "experiment.yaml") for name in names]
    for name, sweep in zip(names, sweeps, strict=True):
        assert sweep.wait(timeout=400) == 0, (tmp_path / name / "console.log").read_text()[-3000:]
        assert results(tmp_path / name / "outputs" / name) == results(finished / SWEEP)
    assert run_statuses(database) == {"FINISHED": 12}
    assert repeated_points(database) == []
    per_experiment = query(
        database,
        "select e.name, count(*) from runs r join experiments e using (experiment_id) group by 1",
    )
    assert sorted(per_experiment) == [("one", 6), ("two", 6)]
