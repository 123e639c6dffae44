"""The experiment that a command line names."""

from collections.abc import Sequence
from pathlib import Path

from sg_ray.api.default_experiment import USUAL, default_experiment
from sg_ray.api.places import resumed
from sg_ray.commands import from_here
from sg_ray.config import Experiment, Given, load_experiment
from sg_ray.errors import InputError


def named_experiment(
    settings: Sequence[str],
    default: Path | None,
    resume: str | None = None,
    given: Sequence[Given] = (),
) -> Experiment:
    """Read the experiment that the command line names: a file, overrides, or a sweep to resume.

    ``given`` are settings from flags; overrides win over them.
    """
    file, overrides = split_settings(settings)
    if resume is None:
        return load_experiment(file or default or told_default(), overrides, given)
    if file is not None:
        raise InputError(
            f"{resume}: a sweep that was begun takes its experiment from its folder, not {file}"
        )
    return resumed(resume, overrides, given)


def told_default() -> Path:
    """Return the default experiment; say which it is unless it is one of the working folder."""
    path = default_experiment()
    if path != USUAL:
        print(f"experiment: {path.stem}, the default one of sg-ray ({from_here(path)})")
    return path


def split_settings(settings: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the experiment's file, if one is named, and the overrides.

    Raises InputError for a second file, and for one without a name.
    """
    files = [text for text in settings if not _is_override(text)]
    if len(files) > 1:
        raise InputError(
            f"give one experiment file, not {len(files)}: {' '.join(files)} (a setting is written "
            "key=value, without blanks)"
        )
    if files == [""]:
        raise InputError("'': no experiment file given. Give its path, or leave it out.")
    return (Path(files[0]) if files else None), [t for t in settings if _is_override(t)]


def _is_override(text: str) -> bool:
    """Whether it is ``key=value``; a path may hold = as well, but no key holds a slash."""
    key, separator, _ = text.partition("=")
    return bool(separator) and "/" not in key
