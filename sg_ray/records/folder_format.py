"""Which layout and meaning the files of a folder have: its format's number, in format.json."""

from pydantic import BaseModel, ConfigDict, Field

from sg_ray.commands import from_here, sg_ray_command
from sg_ray.errors import InputError
from sg_ray.files import write_json
from sg_ray.reading import read_model
from sg_ray.sweep_folder import FORMAT, SweepFolder

BEFORE_NUMBERS = 0
"""Of a folder that was begun before folders had a number."""


class FolderFormat(BaseModel):
    """Content of format.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = Field(ge=0)


def format_of(folder: SweepFolder) -> int:
    """Return a folder's number. Raises InputError if format.json is damaged."""
    path = folder.format
    if not path.exists():
        return BEFORE_NUMBERS if folder.is_begun else FORMAT
    remedy = f'Restore it from a copy, or write anew which format it is: {{"format": {FORMAT}}}'
    return read_model(path, FolderFormat, what="number of a format", remedy=remedy).format


def require_own_format(folder: SweepFolder) -> None:
    """Raise InputError for a folder that another version began, and meant otherwise."""
    found = format_of(folder)
    if found == FORMAT:
        return
    version = "a newer" if found > FORMAT else "an earlier"
    way_out = "Install the newer one" if found > FORMAT else "Go on with the version that began it"
    raise InputError(
        f"{folder}: its files have format {found}, those of this sg-ray format {FORMAT}: {version} "
        f"version began it, and to train on there would mix the two. {way_out}, or begin anew "
        f"under another name. To look at it: {sg_ray_command('report', from_here(folder.path))}"
    )


def note_on_format(folder: SweepFolder) -> str | None:
    """Return a sentence for whoever looks at a folder of another format; None for our own."""
    found = format_of(folder)
    if found == FORMAT:
        return None
    return (
        f"{folder}: its files have format {found}, those of this sg-ray format {FORMAT}. What is "
        "shown is what can be read; nothing can be trained on there."
    )


def write_format(folder: SweepFolder) -> None:
    """Write our number. Before any other file: a folder without it is taken for an older one."""
    if not folder.format.exists():
        write_json(folder.format, FolderFormat(format=FORMAT))
