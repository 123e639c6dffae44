"""Commands: arguments in, one call into the package, an exit code out."""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sg_ray.commands import sg_ray_command, way_on
from sg_ray.errors import SgRayError
from sg_ray.host.cpus import num_cpus
from sg_ray.host.interpreter import why_not_imported
from sg_ray.host.signals import StopRequest, stopping
from sg_ray.redaction import hide_secrets
from sg_ray.version import __version__

COMMANDS = {
    "preflight": "tell whether an experiment can run here",
    "sweep": "search, replicate over seeds, rank",
    "slurm": "write the batch script of a sweep for SLURM",
    "extend": "add search trials, finalists or seeds to a sweep",
    "train": "train one configuration with one seed",
    "predict": "score C functions with an exported model",
    "status": "list the sweeps here, how far they are, what to do next",
    "ui": "show a sweep in MLflow's pages",
    "report": "rebuild a sweep's tables and page",
    "reproduce": "train a recorded trial again and compare",
    "track": "let MLflow catch up with what is on record",
    "clean": "delete what finished sweeps need no more",
    "graphs": "make the program graphs of a data folder",
    "new": "write the skeleton of a family of your own",
    "data": "write or sample data, check a data folder",
}
"""Each is a module of this package that declares its arguments and sets ``command``, which runs it.

Only the one that is asked for is imported: with torch and Ray that takes seconds. One that does
without torch sets ``computes`` to False.
"""
BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None, *, default_experiment: Path | None = None) -> int:
    """Run one command and return its exit code.

    ``default_experiment`` is what is run if none is named; None leaves that to ``sg_ray.api``.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's own take any text
            stream.reconfigure(errors="backslashreplace")
    given = list(sys.argv[1:] if arguments is None else arguments)
    again = hide_secrets(_again(given))
    known = argparse.Namespace(default=default_experiment, again=again, computes=True)
    stop = StopRequest()
    try:
        parsed = _parse(given, known)
        if parsed.computes:
            _compute_on_own_cpus()
        with stopping(stop):
            code: int = parsed.command(parsed)
    except SgRayError as error:
        print(f"error: {_shown(error)}", file=sys.stderr)
        return error.exit_code
    except ImportError as error:
        print(f"error: {_shown(why_not_imported(error))}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader has gone; Python would flush to it once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        print(f"error: {_shown(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; go on with: {way_on(known.again)}", file=sys.stderr)
        return stop.exit_code
    return code


def _shown(error: Exception | str) -> str:
    """Return the message without secrets, and without what a terminal would take for an order."""
    text = hide_secrets(str(error))
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def _again(arguments: Sequence[str]) -> str:
    """Return the command as it can be typed again; in words if it holds what none should read."""
    if any("://" in text and "@" in text for text in arguments):
        return "the same command"
    return sg_ray_command(*arguments)


def _compute_on_own_cpus() -> None:
    """Have torch start no more threads than there are CPUs for them; it knows no quota."""
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), num_cpus()))


def _parse(arguments: Sequence[str], known: argparse.Namespace) -> argparse.Namespace:
    """Parse, with ``key=value`` settings allowed on both sides of options."""
    parser = _parser(next((text for text in arguments if not text.startswith("-")), None))
    parsed, rest = parser.parse_known_args(arguments, known)
    unknown = [text for text in rest if text.startswith("-") or not hasattr(parsed, "settings")]
    if unknown:
        parser.error(hide_secrets(f"unrecognized arguments: {' '.join(unknown)}"))
    if rest:
        parsed.settings = [*parsed.settings, *rest]
    return parsed


def _parser(asked: str | None) -> argparse.ArgumentParser:
    """Return the parser of all commands, with the arguments of the one that is ``asked`` for."""
    parser = argparse.ArgumentParser(
        prog="sg-ray", description="Compare detectors of vulnerable C functions over seeds."
    )
    parser.add_argument("--version", action="version", version=f"sg-ray {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name == asked:
            importlib.import_module(f"sg_ray.cli.{name}").add_arguments(command)
    return parser
