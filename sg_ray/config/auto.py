"""``auto`` in a family's configuration becomes the number that suits this machine.

Allowed for ``batch_size`` and ``max_units_per_micro_batch`` of every family that has them. The
profile (hardware.py) is that of the machine which loads the experiment, for the share of
a GPU that the family's trials take; a driver without a GPU, such as the CPU head of a cluster,
gets the CPU's, and a sweep on that cluster warns of it. So that a sweep goes on as it began,
sweep.yaml holds the numbers: ``--resume`` keeps them on any hardware. ``batch_size`` decides what
is learned. ``max_units_per_micro_batch`` does not, but it is part of a trial's configuration and
thereby of its key, as every value is.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from sg_ray.config.experiment import Experiment, ModelSettings
from sg_ray.config.hardware import describe, profile_of, this_machine
from sg_ray.config.resources import AUTO, Resources
from sg_ray.config.values import Values
from sg_ray.models.families import FAMILIES, get_family
from sg_ray.models.family import EstimatorFamily

FIELDS = ("batch_size", "max_units_per_micro_batch")
_TOLD_GPU, _TOLD_GB = "A100", 40
"""What the cluster files have, and so what a user without a GPU here is told the numbers of."""


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


def lacked_gpu(given: Experiment, values: Values) -> tuple[str, ...]:
    """Return what ``Experiment.lacked_gpu`` says: nothing where there is a GPU or none is wanted.

    ``given`` has the families' ``auto`` still, and ``values`` those of ``resources``, too.
    """
    if torch.cuda.is_available():
        return ()
    lacked = (one for name in given.model_names for one in _lacked_by(name, given, values))
    return tuple(dict.fromkeys(lacked))  # families share the experiment's resources


def _lacked_by(name: str, given: Experiment, values: Values) -> Iterator[str]:
    family, settings = given.family_of(name), given.models.get(name, ModelSettings())
    section = ("resources",) if settings.resources is None else ("models", name, "resources")
    asks_gpu = values.at((*section, "gpus")) == AUTO
    num_gpus = 1 if asks_gpu else given.resources_of(name).gpus
    if not num_gpus or isinstance(FAMILIES.get(family), EstimatorFamily):
        return
    profile = profile_of(_TOLD_GPU, _TOLD_GB * min(1, num_gpus))
    budget, prefix = profile.budget(family), ".".join(section)
    if asks_gpu:
        yield f"{prefix}.gpus={num_gpus}"
    if values.at((*section, "cpus")) == AUTO:
        yield f"{prefix}.cpus={profile.cpus}"
    for field in FIELDS:
        if settings.config.get(field) == AUTO:
            yield f"models.{name}.config.{field}={getattr(budget, field)}"


def lack_told(experiment: Experiment) -> tuple[str, ...]:
    """Return the warning, if there is cause for it, that trials elsewhere may have other GPUs."""
    if not experiment.lacked_gpu:
        return ()
    return (
        "auto was settled by this machine, which has no GPU. "
        f"For an {_TOLD_GPU} of {_TOLD_GB} GB give "
        f"{' '.join(experiment.lacked_gpu)}; for others see docs/cluster-and-gpu.md",
    )


def _has_batches(family: str) -> bool:
    return family in FAMILIES and set(FIELDS) <= set(get_family(family).Config.model_fields)


def _resolved(family: str, config: Mapping[str, Any], takes: Resources) -> dict[str, Any]:
    known = get_family(family).Config.model_fields if family in FAMILIES else {}
    asked = [name for name in FIELDS if name in known and config.get(name) == AUTO]
    if not asked:
        return dict(config)
    budget = this_machine(takes.gpus).budget(family)
    return {**config, **{name: getattr(budget, name) for name in asked}}
