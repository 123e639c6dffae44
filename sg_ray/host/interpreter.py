"""Whether Python itself runs in a way that commands can work in. Imports nothing heavy."""

import os
import sys
from pathlib import Path

from sg_ray.errors import InputError


def check_interpreter() -> None:
    """Raise InputError for ways of running Python in which imports end with a traceback."""
    if sys.flags.optimize > 1:
        raise InputError(
            "Python runs without docstrings (PYTHONOPTIMIZE=2, or python -OO), which Ray builds "
            "on. Unset PYTHONOPTIMIZE, or set it to 1."
        )
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise InputError("the current folder has been deleted. Change to another.") from error


def open_closed_streams() -> None:
    """Stand in for streams that the caller closed (``>&-``), which Python leaves as None.

    Else the next file that is opened gets a stream's number, and with it what others print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - stays open
            setattr(sys, name, stream)


def why_not_imported(error: ImportError) -> str:
    """Return, for the user, what an import that failed may mean."""
    place = f" ({error.path})" if error.path else ""
    return (
        f"{error}{place}. A package is missing or broken (`make` installs them), or a file of its "
        "name in the current folder or on PYTHONPATH is taken for it."
    )
