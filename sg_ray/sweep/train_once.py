"""One trial without a sweep: ``sg-ray train``. Same numbers as the same trial in a sweep."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import ray
import torch

from sg_ray.config import Experiment
from sg_ray.errors import InputError
from sg_ray.features.packed import Features
from sg_ray.models.families import FAMILIES, get_family
from sg_ray.sweep.group import WorkerGroup
from sg_ray.sweep.prepare import Progress, make_planner, prepare
from sg_ray.sweep.ray_session import ray_session
from sg_ray.training.loop import EpochResult
from sg_ray.trial import TrialContext, TrialSpec, run_trial


def train_once(
    experiment: Experiment,
    family: str,
    seed: int,
    folder: Path,
    *,
    progress: Progress | None = None,
    on_epoch: Callable[[EpochResult], None],
) -> TrialSpec:
    """Train the experiment's own configuration of a family with one seed, in ``folder``.

    Goes on from ``folder/last.pt`` if it exists. Raises InputError if a branch is missing.
    """
    data, features = prepare(experiment, progress)
    plan = make_planner(experiment, data).plans[family]
    spec = plan.spec(experiment.baseline(family).model_dump(mode="json"), seed)
    _check_branches(spec)
    folder.mkdir(parents=True, exist_ok=True)
    if experiment.resources_of(family).num_workers > 1:
        _train_group(experiment, spec, features, folder, on_epoch)
        return spec
    takes = experiment.resources_of(family)
    uses_gpu = takes.gpus > 0 and torch.cuda.is_available()
    context = TrialContext(
        families=FAMILIES,
        features=features,
        cache_dir=experiment.cache_dir.absolute(),
        device=torch.device("cuda" if uses_gpu else "cpu"),
        num_threads=max(1, int(takes.cpus)),
    )
    for result in run_trial(spec, context, folder):
        on_epoch(result)
    return spec


def _train_group(
    experiment: Experiment,
    spec: TrialSpec,
    features: Features,
    folder: Path,
    on_epoch: Callable[[EpochResult], None],
) -> None:
    with ray_session("local", log=folder / "ray.log", several_workers=True):
        group = WorkerGroup(
            spec,
            experiment.resources_of(spec.family),
            features_ref=ray.put(features),
            families=FAMILIES,
            cache_dir=experiment.cache_dir.absolute(),
            folder=folder.absolute(),
            max_failures=experiment.max_failures,
        )
        with closing(group):
            for result in group:
                on_epoch(result)
                if result.stop_reason is not None:
                    return


def _check_branches(spec: TrialSpec) -> None:
    missing = [name for name in get_family(spec.family).branches if name not in spec.branches]
    if missing:
        raise InputError(
            f"{spec.family} builds on {' and '.join(missing)} trained with seed {spec.seed}. Train "
            "them in a sweep, then name it: branches_from=outputs/NAME "
            f"(e.g. python experiments/sweep.py families=[{','.join(missing)}] name=NAME "
            f"replicate.seeds=[{spec.seed}])."
        )
