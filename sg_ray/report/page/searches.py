"""A model's search as its records and Optuna's journal tell it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sg_ray.records.leaderboard import is_number
from sg_ray.records.record import RunRecord
from sg_ray.report.page.content import Sweep
from sg_ray.sweep_folder import SweepFolder
from sg_ray.training.metrics import direction

LEAST_TRIALS = 8
"""Importance from fewer completed trials would be a guess."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchTrial:
    """One trial of a search: its place in the order of suggestions (from 1), and its record."""

    number: int
    record: RunRecord
    score: float | None
    """The objective, None if the trial did not complete with one."""


@dataclass(frozen=True)
class SearchDimension:
    """One hyperparameter of a search and the values that were tried, one a trial."""

    name: str
    is_log: bool
    is_choice: bool
    values: Sequence[Any]


@dataclass(frozen=True)
class ModelSearchView:
    """The search of one model, trials in the order of suggestions."""

    model: str
    objective: str
    trials: Sequence[SearchTrial]
    dimensions: Sequence[SearchDimension]
    is_numbered_by_study: bool

    @property
    def completed(self) -> list[SearchTrial]:
        """The trials that have a score."""
        return [trial for trial in self.trials if trial.score is not None]

    @property
    def maximises(self) -> bool:
        """Whether a higher objective is better."""
        return direction(self.objective) == "maximise"


def read_search(sweep: Sweep, model: str) -> ModelSearchView | None:
    """Return a model's search; None if no trial of it is on record."""
    records = [r for r in sweep.records if r.model == model and r.stage == "search"]
    if not records:
        return None
    numbers = suggestion_numbers(sweep.folder, model)
    is_numbered = all(record.trial_key in numbers for record in records)
    if is_numbered:
        numbered = [(numbers[record.trial_key] + 1, record) for record in records]
    else:
        by_start = sorted(records, key=lambda r: (r.started_at_ms, r.trial_key))
        numbered = list(enumerate(by_start, start=1))
    trials = [
        SearchTrial(number, record, _score(record, sweep.objective))
        for number, record in sorted(numbered, key=lambda pair: pair[0])
    ]
    return ModelSearchView(
        model, sweep.objective, trials, _dimensions(sweep, model, trials), is_numbered
    )


def suggestion_numbers(folder: SweepFolder, model: str) -> dict[str, int]:
    """Return by trial key the number (from 0) under which Optuna suggested it first.

    Empty if the journal is missing or cannot be read: a page is no reason to fail.
    """
    path = folder.search(model)
    if not path.exists():
        return {}
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
        trials = optuna.load_study(study_name=model, storage=storage).get_trials(deepcopy=False)
    except (OSError, ValueError, KeyError, AssertionError) as error:
        _LOG.warning("%s: cannot be read (%s); trials are numbered by start", path, error)
        return {}
    numbers: dict[str, int] = {}
    for trial in trials:
        if "trial_key" in trial.user_attrs:
            numbers.setdefault(trial.user_attrs["trial_key"], trial.number)
    return numbers


def importances(search: ModelSearchView) -> dict[str, float]:
    """Return each hyperparameter's share of the variance over the search, the largest first.

    fANOVA (Hutter et al., 2014) by Optuna, on completed trials and over the values that were tried;
    shares add up to 1. Empty if the trials do not differ in score.
    """
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if search.maximises else "minimize")
    study.add_trials([_frozen(search, trial) for trial in search.completed])
    try:
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    except RuntimeError:  # no variance in any tree
        return {}
    return {name: float(share) for name, share in shares.items()}


def _frozen(search: ModelSearchView, trial: SearchTrial) -> Any:
    import optuna

    distributions = {one.name: _distribution(one) for one in search.dimensions}
    params = {name: trial.record.configuration.values[name] for name in distributions}
    return optuna.trial.create_trial(params=params, distributions=distributions, value=trial.score)


def _distribution(dimension: SearchDimension) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if dimension.is_choice:
        return CategoricalDistribution(_choices(dimension.values))
    low, high = min(dimension.values), max(dimension.values)
    return FloatDistribution(low, high, log=dimension.is_log)


def _dimensions(sweep: Sweep, model: str, trials: Sequence[SearchTrial]) -> list[SearchDimension]:
    """Return what the search varied: the space's names or, without one, what differs."""
    space: Mapping[str, Any] = sweep.model_settings(model).get("space") or {}
    configs = [trial.record.configuration.values for trial in trials]
    names = [
        name
        for name in (space or configs[0])
        if all(_is_plain(config.get(name, ())) for config in configs)
    ]
    columns = {name: [config[name] for config in configs] for name in names}
    return [
        _dimension(name, values, space.get(name) or {})
        for name, values in columns.items()
        if len({repr(value) for value in values}) > 1
    ]


def _dimension(name: str, values: Sequence[Any], kind: Mapping[str, Any]) -> SearchDimension:
    are_numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return SearchDimension(
        name=name,
        is_log=are_numbers and min(values) > 0 and _is_log(values, kind),
        is_choice="choice" in kind or not are_numbers,
        values=values,
    )


def _is_log(values: Sequence[float], kind: Mapping[str, Any]) -> bool:
    """Whether a space is logarithmic or, where none is on record, its values look like it."""
    return "log_uniform" in kind if kind else max(values) >= 10 * min(values)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, int | float | str)


def _choices(values: Sequence[Any]) -> list[Any]:
    return list({repr(value): value for value in values}.values())


def _score(record: RunRecord, objective: str) -> float | None:
    value = record.metrics.get(objective)
    return value if record.status == "completed" and is_number(value) else None
