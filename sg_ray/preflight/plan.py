"""Checks of the plan itself: its folder, its seeds."""

from sg_ray.config import load_experiment
from sg_ray.preflight.context import Context
from sg_ray.preflight.finding import Finding
from sg_ray.sweep.folders import require_writable
from sg_ray.sweep.race import attainable_p


def check_sweep_folder(context: Context) -> Finding:
    """The folders can be written; the sweep's is new, or was begun with the same settings."""
    experiment = context.experiment
    require_writable(experiment.output_dir, "output_dir")
    require_writable(experiment.cache_dir, "cache_dir")
    begun = experiment.sweep_dir / "sweep.yaml"
    if not begun.exists():
        return Finding.ok(f"{experiment.output_dir / experiment.name} is new")
    if load_experiment(begun).identity_hash != experiment.identity_hash:
        return Finding.fail(
            f"{begun.parent} was begun with other settings. Choose another name=..., or go on "
            f"with the old settings by --resume {experiment.name}"
        )
    return Finding.ok(f"{begun.parent} was begun with these settings: the sweep would go on")


def check_seeds(context: Context) -> Finding:
    """The seeds are enough for a difference between two configurations to be shown."""
    experiment = context.experiment
    found = attainable_p(len(experiment.replicate.all_seeds), len(experiment.all_families))
    said = "; ".join(found)
    return Finding.ok(said) if len(found) == 1 else Finding.warn(said)
