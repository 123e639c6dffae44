"""From an experiment file to an ``Experiment``: read, override, fill in ``auto``, check."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import yaml
from pydantic import ValidationError

from sg_ray.config.auto import with_hardware
from sg_ray.config.experiment import Experiment, ModelSettings
from sg_ray.config.explain import explain
from sg_ray.config.values import Key, Values, read_values
from sg_ray.errors import InputError
from sg_ray.models.families import get_family
from sg_ray.space import check_space
from sg_ray.training.metrics import direction


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment file and apply ``key=value`` overrides.

    ``auto`` becomes what this machine's hardware suggests, see ``config.auto``. Raises InputError
    that names the file (and line) or the override, the key, and the value that is wrong.
    """
    values = read_values(path)
    for override in overrides:
        values = values.overridden(override)
    values = values.with_spaces()
    try:
        given = Experiment.model_validate(values.content)
    except ValidationError as error:
        raise InputError(explain(error, Experiment, values)) from error
    direction(given.objective)
    experiment = with_hardware(given)
    for name in dict.fromkeys((*experiment.families, *experiment.models)):
        _check_family(name, experiment, values)
    return experiment


def resolved_yaml(experiment: Experiment) -> str:
    """Return the experiment as YAML that ``load_experiment`` reads back to an equal object."""
    return yaml.safe_dump(
        experiment.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=False
    )


def _check_family(name: str, experiment: Experiment, values: Values) -> None:
    family = get_family(name)
    settings = experiment.models.get(name, ModelSettings())
    try:
        baseline = family.Config.model_validate(settings.config)
    except ValidationError as error:
        key = ("models", name, "config")
        raise InputError(explain(error, family.Config, values, key)) from error
    check_space(settings.space, baseline, partial(_place, values, ("models", name, "space")))
    if name in experiment.families and experiment.branches_from is None:
        _check_branches(name, experiment, values)


def _place(values: Values, section: Key, name: str) -> str:
    key = (*section, name)
    return f"{values.where(key)}: {'.'.join(key)}"


def _check_branches(name: str, experiment: Experiment, values: Values) -> None:
    missing = [b for b in get_family(name).branches if b not in experiment.families]
    if missing:
        names = " and ".join(missing)
        commands = "; ".join(f"sg-ray train {branch}" for branch in missing)
        raise InputError(
            f"{values.where(('families',))}: families: {name} builds on {names}. Add {names} "
            "to families, or name the folder of a sweep or of trainings that holds them, "
            f"e.g. {commands}; then branches_from={experiment.output_dir / 'train'}."
        )
