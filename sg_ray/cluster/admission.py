"""What can be known to be wrong before a sweep begins: nothing is written, no Ray is started."""

from collections.abc import Mapping

from sg_ray.cluster.chosen_address import LOCAL
from sg_ray.config import Resources
from sg_ray.errors import InputError
from sg_ray.host.cpus import count_cpus

TakesByModel = Mapping[str, Resources]
"""What one trial of each model takes."""


def check_before_start(takes: TakesByModel, address: str) -> None:
    """Raise InputError if no cluster answers, or if no trial or no Ray fits here."""
    if address == LOCAL:
        from sg_ray.cluster.trouble import refuse_what_cannot_hold_ray

        num_fitting_here(takes)
        refuse_what_cannot_hold_ray()
    else:
        from sg_ray.cluster.ray_address import check_address

        check_address(address)


def processors() -> dict[str, int]:
    """Return the CPUs and GPUs that this process may use, by Ray's names."""
    import torch

    return {"CPU": count_cpus().num_usable, "GPU": torch.cuda.device_count()}


def num_fitting_here(takes: TakesByModel) -> int:
    """Return how many trials fit at once into what this process may use.

    Raises InputError if not even one does.
    """
    try:
        return num_fitting_trials(takes, processors())
    except InputError as error:
        cpus = count_cpus()
        if cpus.num_usable == cpus.num_present:
            raise
        raise InputError(f"{error} This process has {cpus}.") from error


def num_fitting_trials(takes: TakesByModel, have: Mapping[str, float]) -> int:
    """Return how many trials fit into ``have`` (CPU, GPU) at once, whichever models they are.

    Raises InputError if not even one does.
    """
    return min(_num_fitting(one, model, have) for model, one in takes.items())


def shortage(takes: Resources, num_workers: int, have: Mapping[str, float]) -> str | None:
    """Return what a trial on so many workers lacks, e.g. ``4 GPUs, there are 0``; None if none."""
    for name, amount in _wanted(takes, num_workers).items():
        if amount > have.get(name, 0):
            return f"{amount:g} {name}s, there are {have.get(name, 0):g}"
    return None


def any_group(takes: TakesByModel) -> bool:
    """Return True if a model's trials run on several workers."""
    return any(one.is_group for one in takes.values())


def _num_fitting(takes: Resources, model: str, have: Mapping[str, float]) -> int:
    num_workers = takes.min_workers or takes.num_workers
    if lacks := shortage(takes, num_workers, have):
        raise InputError(
            f"resources: a {model} trial{_on_workers(num_workers)} takes {lacks}. Lower "
            "resources.cpus, resources.gpus or resources.num_workers, or add nodes."
        )
    wanted = _wanted(takes, num_workers)
    return min(int(have[name] / amount) for name, amount in wanted.items() if amount > 0)


def _on_workers(num_workers: int) -> str:
    return "" if num_workers == 1 else f" on {num_workers} workers"


def _wanted(takes: Resources, num_workers: int) -> dict[str, float]:
    return {"CPU": takes.cpus * num_workers, "GPU": takes.gpus * num_workers}
