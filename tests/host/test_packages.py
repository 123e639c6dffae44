"""Which packages are installed, also beside what a broken installation left."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sg_ray.host.packages import installed_packages


@pytest.fixture(autouse=True)
def looked_up_anew() -> Iterator[None]:
    installed_packages.cache_clear()
    yield
    installed_packages.cache_clear()


def test_a_broken_package_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = installed_packages()
    (tmp_path / "foo.dist-info").mkdir()
    nameless = tmp_path / "bar-1.0.dist-info" / "METADATA"
    nameless.parent.mkdir()
    nameless.write_text("Metadata-Version: 2.1\nVersion: 1.0\n")
    whole = tmp_path / "sound-1.0.dist-info" / "METADATA"
    whole.parent.mkdir()
    whole.write_text("Metadata-Version: 2.1\nName: sound\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    installed_packages.cache_clear()
    assert installed_packages() == {**before, "sound": "1.0"}
