from pathlib import Path

import pytest
from preflight_runs import Preflight


@pytest.fixture
def preflight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Preflight:
    monkeypatch.chdir(tmp_path)
    return Preflight(tmp_path, monkeypatch, capsys)
