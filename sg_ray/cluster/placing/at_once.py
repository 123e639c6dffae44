"""How many trials of a sweep run at once, in words: for ``--dry-run``."""

from collections.abc import Mapping, Sequence

from sg_ray.cluster.chosen_address import LOCAL
from sg_ray.cluster.placing.admission import machine_here
from sg_ray.cluster.placing.packing import Machine, num_fitting, num_mixed
from sg_ray.config import Resources


def told_at_once(takes: Mapping[str, Resources], address: str, at_most: int | None) -> str:
    """Return, for the user, how many trials of each model run at once, and of all in a mixture.

    On the cluster that answers at ``address``, or on this machine (``local``). ``at_most`` is
    ``max_concurrent_trials``. Raises InputError if no cluster answers.
    """
    if address == LOCAL:
        machines: Sequence[Machine] = [machine_here()]
        where = f"this machine ({_total(machines)})"
    else:
        from sg_ray.cluster.placing.capacity import capacity_at

        place, found = capacity_at(address)
        machines = found.at_most
        where = f"the cluster at {place} ({_counted(len(found.machines))}: {_total(found.machines)}"
        if found.to_come:
            where += f"; up to {_counted(len(found.to_come))} more: {_total(found.to_come)}"
        where += "; others may be added)" if found.may_grow else ")"
    alone = [f"{_capped(num_fitting(machines, one), at_most)} {m}" for m, one in takes.items()]
    told = f"at once on {where}: {_joined(alone, 'or')}"
    if len(takes) > 1:
        mixed = num_mixed(machines, takes, at_most)
        told += f"; together {_joined([f'{mixed[m]} {m}' for m in takes if mixed[m]], 'and')}"
    return told if at_most is None else f"{told} (max_concurrent_trials={at_most})"


def _capped(number: int, at_most: int | None) -> int:
    return number if at_most is None else min(number, at_most)


def _counted(number: int) -> str:
    return "1 machine" if number == 1 else f"{number} machines"


def _total(machines: Sequence[Machine]) -> str:
    cpus, gpus = sum(one.cpus for one in machines), sum(one.gpus for one in machines)
    return f"{cpus:g} CPU{'s' * (cpus != 1)}, {gpus} GPU{'s' * (gpus != 1)}"


def _joined(parts: Sequence[str], word: str) -> str:
    if len(parts) < 2:
        return "".join(parts) or "none"
    return f"{', '.join(parts[:-1])} {word} {parts[-1]}"
