"""What a sweep would do, in words: ``--dry-run``."""

from collections import Counter

from sg_ray.config import Experiment, load_experiment, resolved_yaml
from sg_ray.config.hardware import describe, this_machine
from sg_ray.sweep.race import attainable_p
from sg_ray.sweep.records import read_records
from sg_ray.trial import code_version


def describe_plan(experiment: Experiment) -> str:
    """Return what is on record, the stages, trials and resources, and the p its seeds can reach.

    Raises InputError if the sweep's folder holds a record that cannot be read.
    """
    lines = [
        f"sweep {experiment.name} -> {experiment.sweep_dir}",
        *_on_record(experiment),
        describe(this_machine(experiment.resources.gpus)),
        "",
        "family        lr range  search  replicate    per trial",
        *(_family_line(experiment, family) for family in experiment.all_families),
        "",
        *attainable_p(len(experiment.replicate.all_seeds), len(experiment.all_families)),
        "",
        resolved_yaml(experiment),
    ]
    return "\n".join(lines)


def _on_record(experiment: Experiment) -> list[str]:
    """Say what an earlier start left under this name, and what becomes of it."""
    begun = experiment.sweep_dir / "sweep.yaml"
    if not begun.exists():
        return []
    if load_experiment(begun).identity_hash != experiment.identity_hash:
        return ["  was begun with other settings: a start would be refused, and name them"]
    records = read_records(experiment.sweep_dir).values()
    counts = Counter(record.status for record in records)
    on_record = ", ".join(f"{count} {status}" for status, count in counts.items())
    if any(record.code_version != code_version() for record in records):
        return [f"  on record: {on_record}, by another version of the code: starts anew"]
    return [f"  on record: {on_record or 'nothing yet'}; the rest of the plan will be run"]


def _family_line(experiment: Experiment, family: str) -> str:
    replicate, takes = experiment.replicate, experiment.resources_of(family)
    num_seeds, num_extra = len(replicate.seeds), len(replicate.extra_seeds)
    per_trial = f"{takes.num_workers} x ({takes.cpus:g} CPU, {takes.gpus:g} GPU)"
    if family == experiment.all_families[0]:
        return f"{family:<14}{'-':<10}{'-':<8}{_up_to(num_seeds, num_extra):<13}{per_trial}"
    num_points = experiment.search.num_trials if experiment.space(family) else 1
    num_finalists = min(replicate.top_k, num_points)
    trials = _up_to(num_finalists * (num_seeds - 1), num_finalists * num_extra)
    lr_range = "yes" if experiment.lr_range.enabled else "no"
    return f"{family:<14}{lr_range:<10}{num_points:<8}{trials:<13}{per_trial}"


def _up_to(num_trials: int, num_extra: int) -> str:
    """Return the planned trials, and how many there may be of what they leave undecided."""
    return f"{num_trials} to {num_trials + num_extra}" if num_extra else str(num_trials)
