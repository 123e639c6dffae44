"""A folder's name with all that a shell, YAML, a URI, a glob or a format may take for its own."""

from pathlib import Path

HOSTILE_NAME = "a #1, b: c [d] {e} 'f' $h & *i* \u00fc\u4e2d"
"""Not with both kinds of quotes: MLflow writes the place of a new store into SQL as it stands."""


def hostile_folder(folder: Path) -> Path:
    """Return a new folder of such a name in ``folder``.

    A folder's conftest makes it the ``tmp_path`` of all its tests, so that what they write lies
    there without a word of theirs.
    """
    hostile = folder / HOSTILE_NAME
    hostile.mkdir(exist_ok=True)
    return hostile
