"""What can be known to be wrong before a sweep begins: nothing is written, no Ray is started."""

from collections.abc import Mapping

from sg_ray.config import Experiment, Resources
from sg_ray.data.sources import check_paths
from sg_ray.errors import InputError
from sg_ray.host.cpus import count_cpus


def check_before_start(experiment: Experiment, address: str) -> None:
    """Raise InputError if data are missing, no cluster answers, or here no trial or Ray fits."""
    check_paths(experiment.data)
    if address == "local":
        from sg_ray.cluster.trouble import refuse_what_cannot_hold_ray

        num_fitting_here(experiment)
        refuse_what_cannot_hold_ray()
    else:
        from sg_ray.cluster.ray_address import check_address

        check_address(address)


def processors() -> dict[str, int]:
    """Return the CPUs and GPUs that this process may use, by Ray's names."""
    import torch

    return {"CPU": count_cpus().num_usable, "GPU": torch.cuda.device_count()}


def num_fitting_here(experiment: Experiment) -> int:
    """Return how many trials fit at once into what this process may use.

    Raises InputError if not even one does.
    """
    try:
        return num_fitting_trials(experiment, processors())
    except InputError as error:
        cpus = count_cpus()
        if cpus.num_usable == cpus.num_present:
            raise
        raise InputError(f"{error} This process has {cpus}.") from error


def num_fitting_trials(experiment: Experiment, have: Mapping[str, float]) -> int:
    """Return how many trials fit into ``have`` (CPU, GPU) at once, whichever models they are.

    Raises InputError if not even one does.
    """
    return min(_fits(model.resources, model.name, have) for model in experiment.all_models)


def _fits(takes: Resources, model: str, have: Mapping[str, float]) -> int:
    num_workers = takes.min_workers or takes.num_workers
    wanted = {"CPU": takes.cpus * num_workers, "GPU": takes.gpus * num_workers}
    for name, amount in wanted.items():
        if amount > have.get(name, 0):
            raise InputError(
                f"resources: a {model} trial takes {amount:g} {name}s ({num_workers} "
                f"worker(s)), there are {have.get(name, 0):g}. Lower resources.cpus, "
                "resources.gpus or resources.num_workers, or add nodes."
            )
    return min(int(have[name] / amount) for name, amount in wanted.items() if amount > 0)


def any_group(experiment: Experiment) -> bool:
    """Return True if a model's trials run on several workers."""
    return any(model.resources.num_workers > 1 for model in experiment.all_models)
