"""All that these tests write lies in a folder of a hostile name."""

from pathlib import Path

import pytest
from hostile_paths import hostile_folder


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    return hostile_folder(tmp_path)
