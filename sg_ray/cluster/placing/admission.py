"""What can be known to be wrong before a sweep begins: nothing is written, no Ray is started."""

from collections.abc import Mapping, Sequence

from sg_ray.cluster.chosen_address import LOCAL
from sg_ray.cluster.placing.packing import Machine, hold, least_bundles
from sg_ray.config import Resources
from sg_ray.errors import InputError
from sg_ray.host.cpus import count_cpus

TakesByModel = Mapping[str, Resources]
"""What one trial of each model takes."""


def check_before_start(takes: TakesByModel, address: str) -> None:
    """Raise InputError if no cluster answers, or if no trial or no Ray fits here."""
    if address == LOCAL:
        from sg_ray.cluster.trouble import refuse_what_cannot_hold_ray

        check_fits_here(takes)
        refuse_what_cannot_hold_ray()
    else:
        from sg_ray.cluster.ray_address import check_address

        check_address(address)


def processors() -> dict[str, int]:
    """Return the CPUs and GPUs that this process may use, by Ray's names."""
    import torch

    return {"CPU": count_cpus().num_usable, "GPU": torch.cuda.device_count()}


def machine_here() -> Machine:
    """Return what this process may use of its machine."""
    have = processors()
    return Machine(have["CPU"], have["GPU"])


def check_fits_here(takes: TakesByModel) -> None:
    """Raise InputError for a trial that does not fit into what this process may use."""
    try:
        check_fits(takes, [machine_here()])
    except InputError as error:
        cpus = count_cpus()
        if cpus.num_usable == cpus.num_present:
            raise
        raise InputError(f"{error} This process has {cpus}.") from error


def check_fits(takes: TakesByModel, machines: Sequence[Machine]) -> None:
    """Raise InputError for a trial that the machines could not hold if they were empty."""
    for model, one in takes.items():
        if hold(machines, least_bundles(one)):
            continue
        num_workers = one.min_workers or one.num_workers
        raise InputError(
            f"resources: a {model} trial{_on_workers(num_workers)} takes "
            f"{_lack(one, num_workers, machines)}. Lower resources.cpus, resources.gpus or "
            "resources.num_workers, or add nodes."
        )


def shortage(takes: Resources, num_workers: int, have: Mapping[str, float]) -> str | None:
    """Return what a trial on so many workers lacks, e.g. ``4 GPUs, there are 0``; None if none."""
    for name, amount in _wanted(takes, num_workers).items():
        if amount > have.get(name, 0):
            return f"{amount:g} {name}s, there are {have.get(name, 0):g}"
    return None


def any_group(takes: TakesByModel) -> bool:
    """Return True if a model's trials run on several workers."""
    return any(one.is_group for one in takes.values())


def _lack(takes: Resources, num_workers: int, machines: Sequence[Machine]) -> str:
    have = {
        "CPU": sum(machine.cpus for machine in machines),
        "GPU": sum(machine.gpus for machine in machines),
    }
    lacks = shortage(takes, num_workers, have)
    return lacks or f"{takes.cpus:g} CPUs and {takes.gpus:g} GPUs each, more than machines have"


def _on_workers(num_workers: int) -> str:
    return "" if num_workers == 1 else f" on {num_workers} workers"


def _wanted(takes: Resources, num_workers: int) -> dict[str, float]:
    return {"CPU": takes.cpus * num_workers, "GPU": takes.gpus * num_workers}
