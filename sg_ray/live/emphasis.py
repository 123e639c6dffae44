"""The end of a sweep, for people: on a terminal the winner is bold, and what is open is yellow."""

import re

from sg_ray.live.stream import SafeStream, as_ascii

_FIRST_IN_THE_TABLE = re.compile(r"^1 {3,}\S.*$", re.MULTILINE)
_OPEN = re.compile(r"\bundecided\b", re.IGNORECASE)


def write_with_emphasis(stream: SafeStream, text: str) -> None:
    """Write ``text``, which begins with a leaderboard; the same characters on any stream."""
    if not stream.isatty():
        stream.write(text + "\n")
        return
    from rich.console import Console
    from rich.text import Text

    told = Text(as_ascii(text))
    told.highlight_regex(_FIRST_IN_THE_TABLE, "bold")
    told.highlight_regex(_OPEN, "yellow")
    console = Console(file=stream, highlight=False, emoji=False, markup=False)  # type: ignore[arg-type]
    console.print(told, soft_wrap=True)  # a table whose lines break is none
