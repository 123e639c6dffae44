"""The experiment that a command line names."""

from collections.abc import Sequence
from pathlib import Path

from sg_ray.config import Experiment, load_experiment
from sg_ray.errors import InputError

OUTPUTS = Path("outputs")
"""Where sweeps are, unless ``output_dir`` says otherwise."""


def named_experiment(
    settings: Sequence[str], default: Path, resume: str | None = None
) -> Experiment:
    """Read the experiment that the command line names: a file, overrides, or a sweep to resume."""
    files = [text for text in settings if "=" not in text]
    overrides = [text for text in settings if "=" in text]
    if len(files) > 1:
        raise InputError(f"give one experiment file, not {len(files)}: {' '.join(files)}")
    if resume is None:
        return load_experiment(Path(files[0]) if files else default, overrides)
    if files:
        raise InputError(f"--resume {resume}: takes its experiment from the sweep, not {files[0]}")
    folder = _sweep_folder(resume, overrides)
    return load_experiment(folder / "sweep.yaml", [f"output_dir={folder.parent}", *overrides])


def named_folder(name: Path) -> Path:
    """Return the folder itself, or that of the sweep of this name below ``outputs/``."""
    of_sweep = OUTPUTS / name
    return of_sweep if not name.exists() and (of_sweep / "sweep.yaml").exists() else name


def _sweep_folder(resume: str, overrides: Sequence[str]) -> Path:
    given = dict(override.partition("=")[::2] for override in overrides)
    outputs = Path(given.get("output_dir", OUTPUTS))
    for folder in (Path(resume), outputs / resume):
        if (folder / "sweep.yaml").exists():
            return folder
    there = ", ".join(sorted(path.parent.name for path in outputs.glob("*/sweep.yaml"))[:8])
    raise InputError(
        f"{resume}: no sweep of that name in {outputs} (it would hold sweep.yaml). "
        f"There is: {there or 'none'}. Give its folder, or output_dir=..."
    )
