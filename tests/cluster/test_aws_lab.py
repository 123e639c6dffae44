"""What `ray up cluster.yaml` asks of AWS."""

from pathlib import Path

import pytest
from labs import aws

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(aws.missing() is not None, reason=str(aws.missing())),
]


def test_requests_are_whole_and_only_ssh_is_open(tmp_path: Path) -> None:
    for line in aws.run(tmp_path):
        assert line.is_ok, line
