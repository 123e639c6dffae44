"""CI's share of the lab of `ray up`: up, the plain command on the head, fetch, down."""

from pathlib import Path

import pytest
from labs import ray_up

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ray_up.missing() is not None, reason=str(ray_up.missing())),
]


def test_plain_command_on_the_head_uses_the_cluster(tmp_path: Path) -> None:
    for line in ray_up.run(tmp_path, ["plain"]):
        assert line.is_ok, line
