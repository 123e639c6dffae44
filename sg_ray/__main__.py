"""The ``sg-ray`` command, also as ``python -m sg_ray``.

What would end the imports with a traceback is told here, before them.
"""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from sg_ray.errors import InputError
from sg_ray.host.interpreter import check_interpreter, open_closed_streams
from sg_ray.redaction import hide_secrets


def run(arguments: Sequence[str] | None = None, *, default_experiment: Path | None = None) -> None:
    """Run one command, and exit with its code."""
    open_closed_streams()
    try:
        check_interpreter()
        from sg_ray.cli import main
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    try:
        code = main(arguments, default_experiment=default_experiment)
    except Exception:  # unforeseen: whatever a library's error says, its secrets stay here
        print(hide_secrets(traceback.format_exc()), end="", file=sys.stderr)
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    run()
