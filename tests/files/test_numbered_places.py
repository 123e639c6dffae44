"""What is set aside lies beside what was set aside before, of which some may be gone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sg_ray.sweep_folder import SweepFolder


@pytest.mark.parametrize(
    ("new", "names"),
    [
        (lambda there: there.new_set_aside, ["001", "002", "003"]),
        (
            lambda there: there.new_test_set_aside,
            ["test-001.json", "test-002.json", "test-003.json"],
        ),
        (
            lambda there: there.new_lost_record("key"),
            ["key-001.json", "key-002.json", "key-003.json"],
        ),
        (lambda there: there.new_attempt, ["attempt-001", "attempt-002", "attempt-003"]),
    ],
)
def test_a_new_place_is_nobody_s(
    new: Callable[[SweepFolder], Path], names: list[str], tmp_path: Path
) -> None:
    there = SweepFolder(tmp_path)
    for name in names:
        path = new(there)
        assert path.name == name
        path.mkdir(parents=True)
    new(there).with_name(names[0]).rmdir()
    assert not new(there).exists()
    new(there).with_name(names[-1].replace("003", "1003")).mkdir()
    assert "1004" in new(there).name
