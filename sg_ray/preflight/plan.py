"""Checks of the plan itself: its folder, its seeds."""

from sg_ray.preflight.context import Context
from sg_ray.preflight.finding import Finding
from sg_ray.preflight.readiness import check_folder, what_has_changed
from sg_ray.records.race import attainable_p


def check_sweep_folder(context: Context) -> Finding:
    """The folders can be written; the sweep's is new, or it can be gone on with."""
    experiment = context.experiment
    check_folder(experiment)
    if not experiment.folder.is_sweep:
        return Finding.ok(f"{experiment.output_dir / experiment.name} is new")
    begun = f"{experiment.folder} was begun with these settings"
    return Finding.ok(f"{begun}: the sweep would go on")


def check_records(context: Context) -> Finding:
    """What is on record was made with these data and this code."""
    folder = context.experiment.folder
    change = what_has_changed(folder, list(context.models.values()), context.data.fingerprint)
    if change is None:
        return Finding.ok("all that is on record counts")
    return Finding.warn(f"{change.told}. {change.ways_on}.")


def check_seeds(context: Context) -> Finding:
    """The seeds are enough for a difference between two configurations to be shown."""
    experiment = context.experiment
    found = attainable_p(len(experiment.replicate.all_seeds), len(experiment.all_models))
    said = "; ".join(found)
    return Finding.ok(said) if len(found) == 1 else Finding.warn(said)
