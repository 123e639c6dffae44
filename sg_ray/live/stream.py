"""A stream to show things on that never stops a sweep."""

import contextlib
import os
from collections.abc import Callable
from typing import TextIO


class SafeStream:
    """A text stream that writes ASCII whatever its encoding is, and falls silent once it fails."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | ValueError | None = None
        """What kept it from being written: no reader, no space, or it is closed."""
        self.encoding = "ascii"

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        try:
            return self._stream.isatty()
        except ValueError:  # closed
            return False

    def fileno(self) -> int:
        """Return the descriptor of the stream."""
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write, unless the reader has gone."""
        self._guarded(lambda: self._stream.write(as_ascii(text)))
        return len(text)

    def flush(self) -> None:
        """Flush, unless the reader has gone."""
        self._guarded(self._stream.flush)

    def _guarded(self, action: Callable[[], object]) -> None:
        if self.failure is not None:
            return
        try:
            action()
        except (OSError, ValueError) as error:
            self.failure = error
            _lead_nowhere(self._stream)


def _lead_nowhere(stream: TextIO) -> None:
    """Point the stream's descriptor at the null device.

    Python flushes stdout once more at exit and would fail there (see "Note on SIGPIPE" in the
    documentation of its signal module).
    """
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def as_ascii(text: str) -> str:
    """Return ``text`` with everything beyond ASCII escaped."""
    return text.encode("ascii", "backslashreplace").decode("ascii")
