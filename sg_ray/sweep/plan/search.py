"""Search of one model: Optuna's TPE through ask and tell, on a journal in the sweep folder.

The journal is the state: which points were asked for, what each epoch reported, how each ended.
A restart reads it and goes on. The sampler is seeded anew for every point from (seed, number), so
that a restart neither repeats a suggestion nor changes the next one.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from sg_ray.config import Model, SearchSettings
from sg_ray.records.search_journal import mend_search_journal, unreadable
from sg_ray.space import narrowed
from sg_ray.training.metrics import direction

_TRIAL_KEY = "trial_key"
_REPEATED = "repeated"
_PRUNED = "pruned"
_MAX_REPEATED_SHARE = 5
_DIRECTIONS = {"minimise": StudyDirection.MINIMIZE, "maximise": StudyDirection.MAXIMIZE}
_STATES = {
    "completed": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


@dataclass(frozen=True)
class Point:
    """One point of the search: its number in the study, and the values it overrides."""

    number: int
    values: Mapping[str, Any]


class ModelSearch:
    """The study of one model."""

    def __init__(
        self,
        journal: Path,
        model: Model,
        settings: SearchSettings,
        *,
        objective: str,
        learning_rate: float | None,
    ) -> None:
        """Open or create the study.

        The experiment's own values are always the first point. A ``learning_rate`` from the range
        test narrows its interval and makes the second point.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        journal.parent.mkdir(parents=True, exist_ok=True)
        self._settings = settings
        own_values = {name: model.baseline.values[name] for name in model.space}
        self._space = narrowed(model.space, own_values, learning_rate)
        first_points = self._first_points(own_values, learning_rate)
        mend_search_journal(journal, first_points)
        self._study = _open_study(journal, model.name, _DIRECTIONS[direction(objective)], settings)
        self._trials: dict[int, Trial] = {}
        known = self._known()
        self._unfinished = [t.number for t in known if t.state is TrialState.RUNNING]
        # Counted here once: Optuna gives them all or none, and plans are asked many times a second.
        self._num_asked = sum(t.state is not TrialState.WAITING for t in known)
        self._repeated = {t.number for t in known if _REPEATED in t.user_attrs}
        self._finished = {t.number for t in known if t.state.is_finished()}
        self._reported = {n: set(known[n].intermediate_values) for n in self._unfinished}
        self._pruned = {t.number: t.user_attrs[_PRUNED] for t in known if _PRUNED in t.user_attrs}
        self._owners: dict[str, set[int]] = {}
        for trial in known:
            if _TRIAL_KEY in trial.user_attrs:
                self._owners.setdefault(trial.user_attrs[_TRIAL_KEY], set()).add(trial.number)
        if not known:
            for values in first_points:
                self._study.enqueue_trial(values)

    @property
    def num_trials(self) -> int:
        """How many points there will be: one if there is nothing to search over."""
        return self._settings.num_trials if self._space else 1

    @property
    def exhausted(self) -> bool:
        """True once there is nothing more to ask for."""
        enough = self._num_asked - len(self._repeated) >= self.num_trials
        # A small discrete space runs out of new points: stop looking for them at some point.
        hopeless = len(self._repeated) >= _MAX_REPEATED_SHARE * self.num_trials
        return not self._unfinished and (enough or hopeless)

    def ask(self) -> Point | None:
        """Return a point that an interruption left unfinished, else the next; None at the end."""
        if self._unfinished:
            number = self._unfinished.pop(0)
            self._study.sampler = self._sampler(number)
            trial = Trial(self._study, self._known()[number]._trial_id)
        elif not self.exhausted:
            self._study.sampler = self._sampler(self._num_asked)
            trial = self._study.ask()
            self._num_asked += 1
        else:
            return None
        self._trials[trial.number] = trial
        values = {name: dimension.suggest(trial, name) for name, dimension in self._space.items()}
        return Point(trial.number, values)

    def finished_points(self) -> dict[str, Point]:
        """Return the points that were tried to an end, by the trial that did."""
        finished = [t for t in self._known() if t.state.is_finished()]
        return {
            trial.user_attrs[_TRIAL_KEY]: Point(trial.number, trial.params)
            for trial in finished
            if _TRIAL_KEY in trial.user_attrs
        }

    def assign(self, number: int, trial_key: str) -> None:
        """Note which trial tries a point."""
        self._trials[number].set_user_attr(_TRIAL_KEY, trial_key)
        self._owners.setdefault(trial_key, set()).add(number)

    def mark_if_repeated(self, number: int, trial_key: str) -> None:
        """Note that another point has that trial: this one does not count, one more may be asked.

        The point may also be the one that the trial was trained for, if a kill came between the
        trial's record and ``tell``, or if the journal was lost: then it is the first to have it.
        """
        owners = self._owners.get(trial_key)
        if not owners:
            self.assign(number, trial_key)
        elif owners != {number}:
            self._trials[number].set_user_attr(_REPEATED, True)
            self._repeated.add(number)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Note an epoch's objective; return True if the point should be given up."""
        if number in self._pruned:  # decided before an interruption; asked twice, Optuna's
            return bool(epoch >= self._pruned[number])  # pruner would look at the next rung
        if number in self._finished:  # trained again, for its record was deleted
            return False
        trial, reported = self._trials[number], self._reported.setdefault(number, set())
        if epoch not in reported:
            reported.add(epoch)
            trial.report(value, epoch)
        if not trial.should_prune():
            return False
        trial.set_user_attr(_PRUNED, epoch)
        self._pruned[number] = epoch
        return True

    def tell(self, number: int, status: str, value: float | None) -> None:
        """Note how a point ended; telling it twice is harmless."""
        state = _STATES[status] if value is not None or status != "completed" else TrialState.FAIL
        values = value if state is TrialState.COMPLETE else None
        self._study.tell(number, values, state=state, skip_if_finished=True)
        self._finished.add(number)
        self._reported.pop(number, None)
        self._trials.pop(number, None)

    def _known(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _first_points(
        self, own_values: Mapping[str, Any], learning_rate: float | None
    ) -> list[dict[str, Any]]:
        own = dict(own_values)
        dimension = self._space.get("learning_rate")
        if learning_rate is None or dimension is None:
            return [own]
        nearest = dimension.clip(learning_rate)
        return [own, {**own, "learning_rate": nearest}] if dimension.contains(nearest) else [own]

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        num_random = max(2, min(10, self._settings.num_trials // 3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                seed=(self._settings.seed * 100_003 + number) % 2**32,
                n_startup_trials=num_random,
                multivariate=True,
                constant_liar=True,
            )


def _open_study(
    journal: Path, name: str, wanted: StudyDirection, settings: SearchSettings
) -> optuna.Study:
    """Open or create the study. Raises InputError for a journal that does not hold together."""
    is_new = not journal.exists()
    try:
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal))),
            study_name=name,
            direction=wanted,
            pruner=_pruner(settings),
            load_if_exists=True,
        )
    except (LookupError, ValueError, TypeError, AttributeError) as error:  # a line is missing
        if is_new:
            raise
        raise unreadable(journal, f"{type(error).__name__}: {error}") from error


def _pruner(settings: SearchSettings) -> BasePruner:
    pruning = settings.pruning
    if not pruning.enabled:
        return NopPruner()
    return SuccessiveHalvingPruner(
        min_resource=pruning.min_epochs, reduction_factor=pruning.reduction_factor
    )
