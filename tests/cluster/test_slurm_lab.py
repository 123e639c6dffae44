"""The quick parts of the SLURM lab: a job's share of a node, and a job that is told to stop."""

import tempfile
from pathlib import Path

import pytest
from labs import slurm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(slurm.missing() is not None, reason=str(slurm.missing())),
]


def test_a_job_uses_its_share_and_goes_on_after_a_warning() -> None:
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder:  # pytest's is closed
        lines = list(slurm.run(Path(folder), ["onecpu", "usr1"]))  # to the users of the lab
    assert len(lines) == 2
    assert [line for line in lines if not line.is_ok] == []
