"""The experiment that a command line names, and the values of its flags."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sg_ray.config import Experiment, Given, load_experiment
from sg_ray.config.values import read_override
from sg_ray.config.yaml_text import read_value
from sg_ray.errors import InputError
from sg_ray.records.folder_format import require_own_format
from sg_ray.setting_types import OwnFolder, Seed, Text, checked_place
from sg_ray.sweep_folder import SETTINGS, SweepFolder

OUTPUTS = Path("outputs")
"""Where sweeps are, unless ``output_dir`` says otherwise."""


def named_experiment(
    settings: Sequence[str], default: Path, resume: str | None = None, given: Sequence[Given] = ()
) -> Experiment:
    """Read the experiment that the command line names: a file, overrides, or a sweep to resume.

    ``given`` are settings from flags; overrides win over them.
    """
    file, overrides = split_settings(settings)
    if resume is None:
        return load_experiment(file or default, overrides, given)
    if file is not None:
        raise InputError(
            f"{resume}: a sweep that was begun takes its experiment from its folder, not {file}"
        )
    return _resumed(resume, overrides, given)


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


def named_folder(name: Path) -> Path:
    """Return the folder itself, or that of the sweep of this name below ``outputs/``."""
    of_sweep = OUTPUTS / name
    return of_sweep if not name.exists() and SweepFolder(of_sweep).is_sweep else name


def folder_argument(name: str) -> Callable[[str], Path]:
    """Return the reader of the folder that argument ``name`` gives; see ``checked_place``."""
    return lambda text: Path(_checked(name, text, lambda: checked_place(text, "folder")))


def file_argument(name: str) -> Callable[[str], Path]:
    """Return the reader of the file that argument ``name`` gives; see ``checked_place``."""
    return lambda text: Path(_checked(name, text, lambda: checked_place(text, "file")))


def new_file_argument(name: str) -> Callable[[str], Path]:
    """Return the reader of the file to write that argument ``name`` gives: no folder."""

    def read(text: str) -> Path:
        if checked_place(text, "file") and Path(text).is_dir():
            raise ValueError("is a folder; name a file in it")
        return Path(text)

    return lambda text: Path(_checked(name, text, lambda: read(text)))


def text_argument(name: str) -> Callable[[str], str]:
    """Return the reader of the text that argument ``name`` gives: anything but an empty one."""
    text_of = TypeAdapter(Text).validate_python
    return lambda text: str(_checked(name, text, lambda: text_of(text)))


def seed_argument(name: str) -> Callable[[str], int]:
    """Return the reader of the seed that argument ``name`` gives, by the rule for every seed."""
    seed_of = TypeAdapter(Seed).validate_python
    return lambda text: int(_checked(name, text, lambda: seed_of(_whole_number(name, text))))


def count_argument(name: str, kind: Any = int) -> Callable[[str], int]:
    """Return the reader of the whole number, of a ``kind``, that argument ``name`` gives."""
    count_of = TypeAdapter(kind).validate_python
    return lambda text: int(_checked(name, text, lambda: count_of(_whole_number(name, text))))


def value_argument(name: str) -> Callable[[str], Any]:
    """Return the reader of the value of a setting that argument ``name`` gives, as YAML has it."""

    def read(text: str) -> Any:
        value, _ = read_value(text, f"{name} {text}".rstrip())
        if value is None:
            raise InputError(f"{name} {text}".rstrip() + ": no value given.")
        return value

    return read


def _whole_number(name: str, text: str) -> int:
    value, _ = read_value(text, f"{name} {text}")
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("Input should be a whole number")
    return value


def _checked(name: str, text: str, read: Callable[[], Any]) -> Any:
    """Return what ``read`` makes of an argument; InputError that names it for ValueError."""
    try:
        return read()
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
    except ValueError as error:
        reason = str(error)
    raise InputError(f"{name} {text}".rstrip() + f": {reason}.")


def _is_override(text: str) -> bool:
    """Whether it is ``key=value``; a path may hold = as well, but no key holds a slash."""
    key, separator, _ = text.partition("=")
    return bool(separator) and "/" not in key


def _resumed(name: str, overrides: Sequence[str], given: Sequence[Given]) -> Experiment:
    """Read a sweep's experiment. Raises InputError if it would go on in another folder."""
    folder = _sweep_folder(name, overrides)
    require_own_format(SweepFolder(folder))  # before its settings, which may have other names
    output_dir = Given("output_dir", str(_parent(folder)), f"--resume {name}")
    experiment = load_experiment(SweepFolder(folder).settings, overrides, (output_dir, *given))
    there = experiment.folder.path
    if not there.exists() or not folder.samefile(there):
        own_name = folder.resolve().name
        if experiment.name == own_name:
            way_out = f"Leave output_dir={experiment.output_dir} out."
        elif any(text.startswith("name=") for text in overrides):
            way_out = f"Leave name={experiment.name} out."
        else:
            way_out = f"Call the folder {experiment.name} again, or give its new name: "
            way_out += f"name={own_name}"
        raise InputError(
            f"{name}: its sweep lies in {folder}, and would go on in {there}. {way_out}"
        )
    return experiment


def _parent(folder: Path) -> Path:
    """Return what the folder lies in, also of ``.`` and of a path that ends in ``..``."""
    has_name = folder.name not in ("", "..")
    return folder.parent if has_name else folder.resolve().parent


def _sweep_folder(resume: str, overrides: Sequence[str]) -> Path:
    if not resume.strip():
        raise InputError("no sweep given: name it, or its folder.")
    outputs = _outputs(overrides)
    for folder in (Path(resume), outputs / resume):
        if SweepFolder(folder).is_sweep:
            return folder
    there = ", ".join(sorted(path.parent.name for path in outputs.glob(f"*/{SETTINGS}"))[:8])
    raise InputError(
        f"{resume}: no sweep of that name in {outputs} (it would hold {SETTINGS}). "
        f"There is: {there or 'none'}. Give its folder, or output_dir=..."
    )


def _outputs(overrides: Sequence[str]) -> Path:
    """Return the folder of sweeps that the overrides name, or the usual one."""
    read = [read_override(text) for text in overrides]
    given: list[Any] = [override.value for override in read if override.key == "output_dir"]
    try:
        folder: Path = TypeAdapter(OwnFolder).validate_python(given[-1]) if given else OUTPUTS
    except ValidationError:
        return OUTPUTS  # told where the experiment is read
    return folder
