"""What a sweep would do, in words: ``--dry-run``."""

from sg_ray.config import Experiment, resolved_yaml

_SIGNIFICANT = 0.05


def describe_plan(experiment: Experiment) -> str:
    """Return the stages, trials and resources of an experiment, and the p its seeds can reach."""
    lines = [f"sweep {experiment.name} -> {experiment.sweep_dir}", ""]
    lines += ["family        lr range  search  replicate  per trial"]
    for family in experiment.all_families:
        lines.append(_family_line(experiment, family))
    lines += ["", *_seed_lines(len(experiment.replicate.seeds)), "", resolved_yaml(experiment)]
    return "\n".join(lines)


def _family_line(experiment: Experiment, family: str) -> str:
    num_seeds = len(experiment.replicate.seeds)
    takes = experiment.resources_of(family)
    per_trial = f"{takes.num_workers} x ({takes.cpus:g} CPU, {takes.gpus:g} GPU)"
    if family == experiment.all_families[0]:
        return f"{family:<14}{'-':<10}{'-':<8}{num_seeds:<11}{per_trial}"
    num_points = experiment.search.num_trials if experiment.space(family) else 1
    num_more = min(experiment.replicate.top_k, num_points) * (num_seeds - 1)
    lr_range = "yes" if experiment.lr_range.enabled else "no"
    return f"{family:<14}{lr_range:<10}{num_points:<8}{num_more:<11}{per_trial}"


def _seed_lines(num_seeds: int) -> list[str]:
    """An exact paired permutation test flips each pair's sign: 2^n outcomes, two-sided."""
    smallest_p = min(1.0, 2 / 2**num_seeds)
    lines = [
        f"{num_seeds} seeds: the smallest p a two-sided paired test can reach is {smallest_p:g}"
    ]
    if smallest_p >= _SIGNIFICANT:
        lines.append("  too few to show a difference at p < 0.05; that takes at least 6 seeds")
    return lines
