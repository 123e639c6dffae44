"""The version of the code follows what decides numbers, and nothing else."""

import pytest

from sg_ray.code_version import code_version, version_of

SOURCE = b'''"""A module."""

class Settings:
    rate: float = 0.1
    """How fast."""

def step(x: float) -> float:
    """Return the next."""
    return x * 2 + 1
'''


def changed(old: bytes, new: bytes) -> str:
    assert SOURCE.count(old) == 1
    return version_of({"a.py": SOURCE.replace(old, new)})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"A module.", b"The module."),
        (b"How fast.", b"The share of it."),
        (b"Return the next.", b"Give it back."),
        (b"x * 2 + 1", b"x * 2 + 1  # why"),
        (b"x * 2 + 1", b"(x * 2\n            + 1)"),
        (b"\n\ndef", b"\n\n\n# more room\n\ndef"),
        (b'    """How fast."""\n', b""),
    ],
)
def test_how_code_is_explained_changes_no_version(old: bytes, new: bytes) -> None:
    assert changed(old, new) == version_of({"a.py": SOURCE})


@pytest.mark.parametrize(
    ("old", "new"), [(b"+ 1", b"+ 2"), (b"= 0.1", b"= 0.2"), (b"x * 2 + 1", b"x * (2 + 1)")]
)
def test_what_decides_numbers_does(old: bytes, new: bytes) -> None:
    assert changed(old, new) != version_of({"a.py": SOURCE})


def test_a_file_counts_by_its_name() -> None:
    assert version_of({"a.py": SOURCE}) != version_of({"b.py": SOURCE})


def test_the_installed_code_has_a_version() -> None:
    assert len(code_version()) == 12
