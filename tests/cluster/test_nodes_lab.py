"""The quick parts of the lab of nodes: hosts come, go, and are not as the others."""

from pathlib import Path

import pytest
from labs import nodes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(900),
    pytest.mark.skipif(nodes.missing() is not None, reason=str(nodes.missing())),
]


@pytest.mark.parametrize("part", ["exchange", "strangers"])
def test_a_sweep_on_hosts_gives_what_it_gives_on_one_machine(part: str, tmp_path: Path) -> None:
    lines = list(nodes.run(tmp_path, [part]))
    assert lines
    assert [line for line in lines if not line.is_ok] == []
