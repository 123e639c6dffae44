"""The ``sg-ray`` command, also as ``python -m sg_ray``.

What would end the imports with a traceback is told here, before them.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from sg_ray.errors import InputError
from sg_ray.host.interpreter import check_interpreter, open_closed_streams, why_not_imported


def run(arguments: Sequence[str] | None = None, *, default_experiment: Path | None = None) -> None:
    """Run one command, and exit with its code."""
    open_closed_streams()
    try:
        check_interpreter()
        from sg_ray.cli import DEFAULT_EXPERIMENT, main
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ImportError as error:
        print(f"error: {why_not_imported(error)}", file=sys.stderr)
        sys.exit(1)
    sys.exit(main(arguments, default_experiment=default_experiment or DEFAULT_EXPERIMENT))


if __name__ == "__main__":
    run()
