"""Where sweeps are, and which one a name means."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sg_ray.config import Experiment, Given, load_experiment
from sg_ray.config.values import read_override
from sg_ray.errors import InputError
from sg_ray.records.folder_format import require_own_format
from sg_ray.setting_types import OwnFolder
from sg_ray.sweep_folder import SETTINGS, SweepFolder

OUTPUTS = Path("outputs")
"""Where sweeps are, unless ``output_dir`` says otherwise."""


def named_folder(name: Path) -> Path:
    """Return the folder itself, or that of the sweep of this name below ``outputs/``."""
    of_sweep = OUTPUTS / name
    return of_sweep if not name.exists() and SweepFolder(of_sweep).is_sweep else name


def sweeps_in(folder: Path) -> list[SweepFolder]:
    """Return the sweeps that lie in a folder, or that it is, by name."""
    found = sorted(path.parent for path in (*folder.glob(SETTINGS), *folder.glob(f"*/{SETTINGS}")))
    return [SweepFolder(path) for path in found]


def resumed(name: str, overrides: Sequence[str] = (), given: Sequence[Given] = ()) -> Experiment:
    """Read the experiment of a sweep that was begun, by its name or folder, with changed settings.

    Overrides win over what is ``given``. Raises InputError if there is no such sweep, or if it
    would go on in another folder.
    """
    folder = _sweep_folder(name, overrides)
    require_own_format(SweepFolder(folder))  # before its settings, which may have other names
    output_dir = Given("output_dir", str(_parent(folder)), f"--resume {name}")
    experiment = load_experiment(
        SweepFolder(folder).settings, overrides, (output_dir, *given), is_passed_on=True
    )
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
    there = ", ".join(sweep.name for sweep in sweeps_in(outputs)[:8])
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
