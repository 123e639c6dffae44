"""``auto`` in a family's configuration becomes the number that suits this machine.

Allowed for ``batch_size`` and ``max_units_per_micro_batch`` of every family that has them. The
profile (hardware.py) is that of the machine which loads the experiment, for the share of
a GPU that the family's trials take; a driver without a GPU, such as the CPU head of a cluster,
gets the CPU's. So that a sweep goes on as it began, sweep.yaml holds the numbers: ``--resume``
keeps them on any hardware. ``batch_size`` decides what is learned. ``max_units_per_micro_batch``
does not, but it is part of a trial's configuration and thereby of its key, as every value is.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sg_ray.config.experiment import ModelSettings
from sg_ray.config.hardware import describe, this_machine
from sg_ray.config.resources import AUTO, Resources
from sg_ray.models.families import FAMILIES, get_family

FIELDS = ("batch_size", "max_units_per_micro_batch")


def with_hardware(
    models: Mapping[str, ModelSettings],
    family_of: Callable[[str], str],
    resources_of: Callable[[str], Resources],
) -> dict[str, ModelSettings]:
    """Return an experiment's ``models`` with every ``auto`` of their configurations resolved.

    ``resources_of`` says what a trial of a model takes.
    """
    return {
        name: settings.model_copy(
            update={"config": _resolved(family_of(name), settings.config, resources_of(name))}
        )
        for name, settings in models.items()
    }


def hardware_line(gpus_per_trial: float, families: Iterable[str]) -> str:
    """Return one line for the user: the hardware, and what ``auto`` means on it for ``families``.

    Those that fit in one go, and those whose code is not here, have no batches to tell of.
    """
    batched = [name for name in families if _has_batches(name)]
    return describe(this_machine(gpus_per_trial), batched)


def _has_batches(family: str) -> bool:
    return family in FAMILIES and set(FIELDS) <= set(get_family(family).Config.model_fields)


def _resolved(family: str, config: Mapping[str, Any], takes: Resources) -> dict[str, Any]:
    known = get_family(family).Config.model_fields if family in FAMILIES else {}
    asked = [name for name in FIELDS if name in known and config.get(name) == AUTO]
    if not asked:
        return dict(config)
    budget = this_machine(takes.gpus).budget(family)
    return {**config, **{name: getattr(budget, name) for name in asked}}
