"""The experiment that a command line names."""

from collections.abc import Sequence
from pathlib import Path

from sg_ray.config import Experiment, load_experiment
from sg_ray.errors import InputError


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


def _sweep_folder(resume: str, overrides: Sequence[str]) -> Path:
    given = dict(override.partition("=")[::2] for override in overrides)
    for folder in (Path(resume), Path(given.get("output_dir", "outputs")) / resume):
        if (folder / "sweep.yaml").exists():
            return folder
    raise InputError(
        f"--resume {resume}: no sweep of that name in {given.get('output_dir', 'outputs')} "
        "(it would hold sweep.yaml). Give its folder, or output_dir=..."
    )
