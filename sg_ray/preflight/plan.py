"""Checks of the plan itself: its folder, its seeds."""

from itertools import count

from sg_ray.config import load_experiment
from sg_ray.preflight.context import Context
from sg_ray.preflight.finding import Finding
from sg_ray.sweep.folders import require_writable

_SIGNIFICANT = 0.05


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
    """The seeds are enough for a difference between two configurations to count as significant."""
    num_seeds = len(context.experiment.replicate.seeds)
    found = (
        f"{num_seeds} seeds: the smallest p that a two-sided exact paired permutation test can "
        f"reach is {smallest_p(num_seeds):g}"
    )
    if smallest_p(num_seeds) < _SIGNIFICANT:
        return Finding.ok(found)
    enough = next(number for number in count(1) if smallest_p(number) < _SIGNIFICANT)
    return Finding.warn(f"{found}; p < {_SIGNIFICANT:g} takes at least {enough}")


def smallest_p(num_pairs: int) -> float:
    """Return the least p of a two-sided sign-flip test: 2 of the 2^n outcomes are as extreme.

    Fisher 1935, The Design of Experiments, section 21.
    """
    return min(1.0, 2.0 * 0.5**num_pairs)
