"""What a sweep would do, in words: ``--dry-run``."""

from collections import Counter
from collections.abc import Sequence

from sg_ray.config import Experiment, Model, ReplicateSettings
from sg_ray.config.auto import hardware_line
from sg_ray.records.begin import check_same_sweep
from sg_ray.records.planned import PlannedStage, planned_stages, up_to
from sg_ray.records.race import attainable_p
from sg_ray.records.record import read_records
from sg_ray.sweep.execute.executor import Executor
from sg_ray.sweep.execute.tune_executor import TuneExecutor
from sg_ray.sweep_folder import SweepFolder


def describe_plan(
    experiment: Experiment,
    executor: Executor | None = None,
    *,
    extends: bool = False,
    warnings: Sequence[str] = (),
) -> str:
    """Return what is on record, the stages, trials and resources, and the p its seeds can reach.

    ``executor`` says how many trials would run at once; None is Tune on this machine. ``extends``
    is as of ``begin``; ``warnings`` are those of ``check_ready``. Raises InputError if a start
    would be refused.
    """
    if experiment.folder.is_sweep:
        check_same_sweep(experiment, extends=extends)
    models, runs = experiment.all_models, executor or TuneExecutor()
    stages = planned_stages(models, experiment.rules)
    lines = [
        f"sweep {experiment.name} -> {experiment.folder}",
        *_on_record(experiment.folder),
        *(f"  warning: {warning}" for warning in warnings),
        hardware_line(experiment.resources.gpus, experiment.model_names),
        "",
        "model         lr range  search  replicate    per trial",
        *(_model_line(model, stages) for model in models),
        runs.told_at_once(experiment.resources_by_model, experiment.max_concurrent_trials),
        *_together(models),
        "",
        _in_all(stages, experiment.replicate, extends),
        *attainable_p(len(experiment.replicate.all_seeds), len(models)),
        "",
        experiment.without_unused_models().to_yaml(),
    ]
    return "\n".join(lines)


def _on_record(folder: SweepFolder) -> list[str]:
    """Say what an earlier start left under this name, and what becomes of it."""
    if not folder.is_sweep:
        return []
    records = read_records(folder).values()
    counts = Counter(record.status for record in records)
    on_record = ", ".join(f"{count} {status}" for status, count in counts.items())
    num_lost = sum(r.failure is not None and r.failure.is_infrastructure for r in records)
    if num_lost:
        on_record += f" ({num_lost} for want of a working machine: tried again)"
    return [f"  on record: {on_record or 'nothing yet'}; the rest of the plan will be run"]


def _model_line(model: Model, planned: Sequence[PlannedStage]) -> str:
    takes = model.resources
    per_trial = f"{takes.num_workers} x ({takes.cpus:g} CPU, {takes.gpus:g} GPU)"
    stages = {one.stage: one for one in planned if one.model == model.name}
    seeds = stages.get("floor") or stages["replicate"]
    trials = up_to(seeds.num_trials, seeds.num_trials + seeds.num_extra)
    if "search" not in stages:
        return f"{model.name:<14}{'-':<10}{'-':<8}{trials:<13}{per_trial}"
    lr_range = "yes" if "lr_range" in stages else "no"
    num_points = stages["search"].num_trials
    return f"{model.name:<14}{lr_range:<10}{num_points:<8}{trials:<13}{per_trial}"


def _together(models: Sequence[Model]) -> list[str]:
    """Say which seeds train as one."""
    told = [
        f"up to {one.max_stacked} of {one.name}{_IF_IT_PAYS[one.resources.stack_seeds == 'auto']}"
        for one in models
        if one.max_stacked > 1
    ]
    return [f"seeds of one configuration train as one: {', '.join(told)}"] if told else []


_IF_IT_PAYS = {True: " if that is measured to pay", False: ""}


def _in_all(planned: Sequence[PlannedStage], replicate: ReplicateSettings, extends: bool) -> str:
    stages = [one for one in planned if one.stage != "lr_range"]
    num_trials = sum(one.num_trials for one in stages)
    text = f"in all {up_to(num_trials, num_trials + sum(one.num_extra for one in stages))} trials"
    if replicate.race_alpha is not None:
        text += ", fewer where the race gives finalists up"
    if extends:
        text += ", more where a longer search finds other finalists"
    num_variance = replicate.num_variance_trials
    if num_variance:
        text += f"; {num_variance} of them split the winner's variance by source"
    return text
