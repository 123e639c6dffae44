"""Which workers a trial's folder belongs to: those of the group that began last.

Workers on machines that were cut off do not know that others have begun in their place, and would
write into the same folder once they reach it again. The folder says whose it is in a file: the
group's token, which the trial's own process writes, then that of the group's last start.
"""

import secrets
from pathlib import Path

from sg_ray.errors import InfrastructureError
from sg_ray.files import write_text

_OWNER = ".owner"


def claim_for_group(folder: Path) -> str:
    """Make a folder a new group's; return the group's token."""
    token = secrets.token_hex(8)
    write_text(folder / _OWNER, token)
    return token


def release(folder: Path, group: str) -> None:
    """Take a group's claim away, unless the folder is another's by now."""
    if _is_of(folder / _OWNER, group):
        (folder / _OWNER).unlink(missing_ok=True)


class Claim:
    """A group's folder, as the one of its processes that writes there has it."""

    def __init__(self, folder: Path, group: str) -> None:
        """Raises InfrastructureError if the folder is another group's by now."""
        self._file, self._token = folder / _OWNER, f"{group} {secrets.token_hex(8)}"
        self._require(_is_of(self._file, group))
        write_text(self._file, self._token)

    def check(self) -> None:
        """Raise InfrastructureError if others have begun since, or the folder is gone."""
        self._require(_owner(self._file) == self._token)

    def _require(self, is_ours: bool) -> None:
        if not is_ours:
            raise InfrastructureError(
                f"{self._file.parent}: other workers have begun this trial anew, and go on with it"
            )


def _is_of(file: Path, group: str) -> bool:
    return _owner(file).partition(" ")[0] == group


def _owner(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""
