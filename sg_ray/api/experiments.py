"""Experiments for Python: settings as values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sg_ray.api.default_experiment import default_experiment
from sg_ray.config import Experiment, Given
from sg_ray.config import load_experiment as load_file

Settings = Mapping[str, Any]
"""Values of settings by key, e.g. ``{"search.num_trials": 8}``."""


def load_experiment(path: str | Path | None = None, settings: Settings | None = None) -> Experiment:
    """Read an experiment's YAML file, with other values for some of its settings.

    ``path`` None takes ``experiments/quick.yaml`` if the working folder has it, else the default
    experiment that comes with sg-ray. ``settings`` are values by key, dots for nesting, as Python
    has them; a mapping replaces a whole section, as ``{"data": {"path": "my_data"}}`` does.

    The experiment is frozen, with every setting checked and ``auto`` resolved for this machine;
    its ``folder`` is where a sweep of it lies. Raises InputError that names file, key and value if
    a file cannot be read, a key is not known or a value cannot be::

        experiment = sg_ray.load_experiment(settings={"name": "first", "families": ["gnn"]})
        sweep = sg_ray.run_sweep(experiment)
    """
    file = default_experiment() if path is None else Path(path)
    return load_file(file, settings=given_values(settings))


def as_experiment(experiment: Experiment | str | Path | None) -> Experiment:
    """Return the experiment itself, or that of a file; None is the default one."""
    return experiment if isinstance(experiment, Experiment) else load_experiment(experiment)


def given_values(settings: Settings | None) -> list[Given]:
    """Return settings as values that say where they come from."""
    return [Given(key, value, f"settings[{key!r}]") for key, value in (settings or {}).items()]
