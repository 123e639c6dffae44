"""``sg-ray ui``: MLflow's pages, opened on a sweep's table of configurations."""

import argparse
import os
import signal
import webbrowser
from pathlib import Path
from typing import Annotated

from pydantic import Field

from sg_ray.api.places import OUTPUTS, named_folder, sweeps_in
from sg_ray.cli.argument_values import count_argument, folder_argument
from sg_ray.commands import sg_ray_command
from sg_ray.errors import InputError
from sg_ray.sweep_folder import SweepFolder

_Port = Annotated[int, Field(ge=1, le=65_535)]
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "sweep",
        type=folder_argument("sweep"),
        nargs="?",
        metavar="SWEEP",
        help="its name or folder (default: the newest below outputs/)",
    )
    parser.add_argument(
        "--port",
        type=count_argument("--port", _Port),
        default=5000,
        help="the first port to try (default: 5000)",
    )
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Show the sweep's page; of a database serve it until Ctrl-C."""
    from sg_ray.host.signals import StopRequest, stopping
    from sg_ray.tracking.ui_server import page_of, serving

    page = page_of(_sweep(arguments.sweep))
    if page.address.is_server:
        _show(f"{page.address.page}/{page.view}")
        return 0
    stop = StopRequest()
    try:
        with stopping(stop), serving(page.address, arguments.port) as server:
            _show(f"{server.root}/{page.view}")
            print("Ctrl-C ends it", flush=True)
            server.wait()
    except KeyboardInterrupt:  # which is how it ends
        return 0 if stop.number == signal.SIGINT else stop.exit_code
    raise InputError("MLflow's server was ended from outside. Start it again.")


def _sweep(named: Path | None) -> SweepFolder:
    """Return the sweep that is named, or the newest one. Raises InputError if there is none."""
    if named is not None:
        return SweepFolder(named_folder(named))
    sweeps = sweeps_in(OUTPUTS)
    if not sweeps:
        command = sg_ray_command("sweep")
        raise InputError(f"{OUTPUTS}/ holds no sweep. Name one's folder, or make one: {command}")
    return max(sweeps, key=lambda sweep: sweep.settings.stat().st_mtime)


def _show(address: str) -> None:
    """Print the address, and open it where there is a screen."""
    print(address, flush=True)
    if any(os.environ.get(name) for name in _DISPLAYS):
        webbrowser.open(address)
