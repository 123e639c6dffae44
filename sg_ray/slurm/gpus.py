"""Whether a job has the GPUs that the trials of its sweep want."""

import re
from collections.abc import Sequence
from pathlib import Path

from sg_ray.config import Experiment, Resources
from sg_ray.config.resources import AUTO
from sg_ray.config.values import Values, read_override, read_values
from sg_ray.errors import InputError

_GPUS = re.compile(r"(?:[A-Za-z]\w*:)?([1-9]\d{0,3})")


def num_gpus_of(asked: str) -> int:
    """Return the number in ``4`` or ``a100:4``. Raises InputError if it is no such thing."""
    found = _GPUS.fullmatch(asked)
    if found is None:
        raise InputError(
            f"--gpus {asked}: say how many GPUs each node is to have, such as 4, or of which type "
            "too, such as a100:4."
        )
    return int(found[1])


def check_gpus(
    experiment: Experiment, written: Values, *, gpus_per_node: int, num_nodes: int
) -> str | None:
    """Return a warning if trials that take a GPU where there is one will have none; else None.

    ``written`` holds ``auto`` where that is asked for: it becomes a number on the job's node.
    Raises InputError if trials want more GPUs than the job has.
    """
    on_cpus = []
    for model in (model for model in experiment.all_models if model.is_neural):
        takes = model.resources
        if _is_auto(written, model.name):
            on_cpus += [] if gpus_per_node else [model.name]
        elif takes.gpus and not _has_room(takes, gpus_per_node, num_nodes):
            workers = f"{takes.num_workers} workers with " if takes.is_group else ""
            raise InputError(
                f"--gpus: a {model.name} trial takes {workers}resources.gpus={takes.gpus:g}, and "
                f"the job asks for {gpus_per_node} GPUs on each of --nodes {num_nodes}. Ask for "
                "as many as it takes, or lower resources.gpus."
            )
    if not on_cpus:
        return None
    return (
        f"without --gpus the job has no GPU, so resources.gpus=auto means none, and "
        f"{', '.join(on_cpus)} train on CPUs"
    )


def as_written(file: Path, overrides: Sequence[str]) -> Values:
    """Return the settings of an experiment as they are given, with ``auto`` in them."""
    values = read_values(file)
    for text in overrides:
        values = values.given(read_override(text))
    return values


def _is_auto(written: Values, model: str) -> bool:
    takes = written.at(("models", model, "resources")) or written.at(("resources",)) or {}
    return bool(takes.get("gpus") == AUTO)


def _has_room(takes: Resources, gpus_per_node: int, num_nodes: int) -> bool:
    """Whether a trial's workers, or as many as it starts with, find their GPUs at once."""
    num_workers = takes.min_workers or takes.num_workers
    return num_nodes * int(gpus_per_node / takes.gpus) >= num_workers
