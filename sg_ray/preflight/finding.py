"""What a check found."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "FAIL", "skip"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check. ``detail`` of a FAIL says what to do next.

    ``blocks``: later checks that need this one have nothing to work on, and are skipped.
    """

    status: Status
    detail: str
    blocks: bool = False

    @staticmethod
    def ok(detail: str) -> "Finding":
        """All well."""
        return Finding("ok", detail)

    @staticmethod
    def warn(detail: str, *, blocks: bool = False) -> "Finding":
        """A sweep would run, but look at this."""
        return Finding("warn", detail, blocks)

    @staticmethod
    def fail(detail: str) -> "Finding":
        """A sweep would not run."""
        return Finding("FAIL", detail, blocks=True)

    @staticmethod
    def skip(detail: str) -> "Finding":
        """Not looked at."""
        return Finding("skip", detail, blocks=True)
