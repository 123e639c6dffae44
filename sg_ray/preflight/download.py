"""What a sweep would fetch when it starts, fetched before: for machines without the internet."""

from sg_ray.config import Experiment
from sg_ray.prepare.prepare import pinned, read_data


def download(experiment: Experiment) -> None:
    """Bring data into the cache, encoders and tokenizers into that of the hub, as a sweep does.

    Raises InputError, with what to do, for what can neither be found nor fetched.
    """
    read_data(experiment.data, experiment.cache_dir, experiment.objective)
    pinned(experiment.all_models)
