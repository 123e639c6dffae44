"""Clusters that our own files start outlive half a minute without network, all by one table."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import ray

from sg_ray.cluster import session
from sg_ray.cluster.patience import PATIENCE

ROOT = Path(__file__).parents[2]
STARTS_NODES = re.compile(r"\bray start\b|rayStartParams")
FILES = [
    path
    for path in (ROOT / "cluster.yaml", *sorted((ROOT / "clusters").glob("*.yaml")))
    if STARTS_NODES.search(path.read_text(encoding="utf-8"))
]


def test_all_but_one_of_the_files_start_nodes() -> None:
    """A file that is none any more would not be looked at."""
    assert {path.name for path in (ROOT / "clusters").glob("*.yaml")} - {
        path.name for path in FILES
    } == {"kuberay-files.yaml"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_node_that_a_file_starts_is_as_patient(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name, value in PATIENCE.items():
        found = re.findall(rf'{name}(?:=|, value: ")(\d+)', text)
        assert len(found) >= 1
        assert set(found) == {value}


def test_a_driver_that_joins_is_too_unless_the_user_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str | None] = {}

    def init(**_: Any) -> None:
        seen.update({name: os.environ.get(name) for name in PATIENCE})

    first, *others = PATIENCE
    monkeypatch.setenv(first, "99")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(session, "check_address", lambda address: None)
    with session.ray_session("10.0.0.5:6379", log=tmp_path / "ray.log", several_workers=False):
        pass
    assert seen == {first: "99", **{name: PATIENCE[name] for name in others}}
    assert not set(others) & os.environ.keys()
