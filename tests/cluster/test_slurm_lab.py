"""The quick parts of the SLURM lab: a job's share of a node, and a job that is told to stop."""

from pathlib import Path

import pytest
from labs import slurm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(slurm.missing() is not None, reason=str(slurm.missing())),
]


def test_a_job_uses_its_share_and_goes_on_after_a_warning(tmp_path: Path) -> None:
    lines = list(slurm.run(tmp_path, ["onecpu", "usr1"]))
    assert len(lines) == 2
    assert [line for line in lines if not line.is_ok] == []
