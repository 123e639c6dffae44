"""What a sweep would do, in words: ``--dry-run``."""

from collections import Counter

from sg_ray.config import Experiment, resolved_yaml
from sg_ray.config.hardware import describe, this_machine
from sg_ray.errors import InputError
from sg_ray.sweep.begin import check_same_sweep
from sg_ray.sweep.race import attainable_p
from sg_ray.sweep.records import read_records
from sg_ray.trial import code_version


def describe_plan(experiment: Experiment, *, extends: bool = False) -> str:
    """Return what is on record, the stages, trials and resources, and the p its seeds can reach.

    ``extends`` is as of ``begin``. Raises InputError if the sweep's folder holds a record that
    cannot be read.
    """
    lines = [
        f"sweep {experiment.name} -> {experiment.sweep_dir}",
        *_on_record(experiment, extends),
        describe(this_machine(experiment.resources.gpus)),
        "",
        "family        lr range  search  replicate    per trial",
        *(_family_line(experiment, family) for family in experiment.all_families),
        "",
        _in_all(experiment, extends),
        *attainable_p(len(experiment.replicate.all_seeds), len(experiment.all_families)),
        "",
        resolved_yaml(experiment),
    ]
    return "\n".join(lines)


def _on_record(experiment: Experiment, extends: bool) -> list[str]:
    """Say what an earlier start left under this name, and what becomes of it."""
    if not (experiment.sweep_dir / "sweep.yaml").exists():
        return []
    try:
        check_same_sweep(experiment, extends=extends)
    except InputError as error:
        return ["  a start would be refused:", *(f"  {line}" for line in str(error).splitlines())]
    records = read_records(experiment.sweep_dir).values()
    counts = Counter(record.status for record in records)
    on_record = ", ".join(f"{count} {status}" for status, count in counts.items())
    if any(record.code_version != code_version() for record in records):
        return [f"  on record: {on_record}, by another version of the code: starts anew"]
    return [f"  on record: {on_record or 'nothing yet'}; the rest of the plan will be run"]


def _family_line(experiment: Experiment, family: str) -> str:
    takes = experiment.resources_of(family)
    per_trial = f"{takes.num_workers} x ({takes.cpus:g} CPU, {takes.gpus:g} GPU)"
    num_points, num_planned, num_extra = _num_trials(experiment, family)
    trials = _up_to(num_planned, num_extra)
    if not num_points:
        return f"{family:<14}{'-':<10}{'-':<8}{trials:<13}{per_trial}"
    lr_range = "yes" if experiment.lr_range.enabled else "no"
    return f"{family:<14}{lr_range:<10}{num_points:<8}{trials:<13}{per_trial}"


def _num_trials(experiment: Experiment, family: str) -> tuple[int, int, int]:
    """Return a family's trials in the search, over the planned seeds, and at most beyond them."""
    replicate = experiment.replicate
    num_seeds, num_extra = len(replicate.seeds), len(replicate.extra_seeds)
    if family == experiment.all_families[0]:  # the floor has nothing to search
        return 0, num_seeds, num_extra
    num_finalists = experiment.num_finalists(family)
    planned, extra = num_finalists * (num_seeds - 1), num_finalists * num_extra
    return experiment.num_points(family), planned, extra


def _in_all(experiment: Experiment, extends: bool) -> str:
    trials = [_num_trials(experiment, family) for family in experiment.all_families]
    num_variance = experiment.replicate.num_variance_trials
    num_planned = sum(searched + planned for searched, planned, _ in trials) + num_variance
    text = f"in all {_up_to(num_planned, sum(extra for *_, extra in trials))} trials"
    if experiment.replicate.race_alpha is not None:
        text += ", fewer where the race gives finalists up"
    if extends:
        text += ", more where a longer search finds other finalists"
    if num_variance:
        text += f"; {num_variance} of them split the winner's variance by source"
    return text


def _up_to(num_trials: int, num_extra: int) -> str:
    """Return the planned trials, and how many there may be of what they leave undecided."""
    return f"{num_trials} to {num_trials + num_extra}" if num_extra else str(num_trials)
