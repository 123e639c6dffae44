"""Folders that are to be written to: where they would lie, and whether that works."""

import os
import tempfile
from pathlib import Path

from sg_ray.errors import InputError
from sg_ray.setting_types import with_home


def nearest_existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    path = with_home(folder).absolute()
    return next(candidate for candidate in (path, *path.parents) if candidate.exists())


def require_writable(folder: Path, setting: str) -> None:
    """Raise InputError unless ``folder`` takes files, or can be made. Leaves nothing there."""
    path = with_home(folder).absolute()
    existing = next(place for place in (path, *path.parents) if os.path.lexists(place))
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(
            f"{setting}: {existing} cannot be written ({reason}). Set {setting} to a place that can"
        ) from error
