"""``auto`` in a family's configuration becomes the number that suits this machine.

Allowed for ``batch_size`` and ``max_units_per_micro_batch`` of every family that has them. The
profile (hardware.py) is that of the machine which loads the experiment, for the share of
a GPU that the family's trials take; a driver without a GPU, such as the CPU head of a cluster,
gets the CPU's. So that a sweep goes on as it began, sweep.yaml holds the numbers: ``--resume``
keeps them on any hardware. ``batch_size`` decides what is learned. ``max_units_per_micro_batch``
does not, but it is part of a trial's configuration and thereby of its key, as every value is.
"""

from collections.abc import Mapping
from typing import Any

from sg_ray.config.experiment import Experiment
from sg_ray.config.hardware import this_machine
from sg_ray.config.resources import AUTO
from sg_ray.models.families import FAMILIES, get_family

FIELDS = ("batch_size", "max_units_per_micro_batch")


def with_hardware(experiment: Experiment) -> Experiment:
    """Return the experiment with every ``auto`` of its families' configurations resolved."""
    models = {
        name: settings.model_copy(update={"config": _resolved(experiment, name, settings.config)})
        for name, settings in experiment.models.items()
    }
    return experiment.model_copy(update={"models": models})


def _resolved(experiment: Experiment, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    family, takes = experiment.family_of(name), experiment.resources_of(name)
    known = get_family(family).Config.model_fields if family in FAMILIES else {}
    asked = [field for field in FIELDS if field in known and config.get(field) == AUTO]
    if not asked:
        return dict(config)
    budget = this_machine(takes.gpus).budget(family)
    return {**config, **{field: getattr(budget, field) for field in asked}}
