"""How long a sweep will still take: what is planned, at the pace of what has been seen."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from sg_ray.config import FLOOR
from sg_ray.live.progress import Progress

SHORTEST_S = 1.0
"""While anything is to come, time is left."""


def time_left_s(progress: Progress) -> tuple[float, float] | None:
    """Return the seconds left, at least and at most; None while too little has been seen."""
    if progress.status:
        return None
    paces = _Paces.of(progress)
    least = _work_s(progress, paces, [least for _, (least, _) in progress.to_come()])
    most = _work_s(progress, paces, [most for _, (_, most) in progress.to_come()])
    if least is None or most is None:
        return None
    under_way_s = _under_way_s(progress, paces)
    return _shared_s(progress, least - under_way_s), _shared_s(progress, most - under_way_s)


@dataclass(frozen=True)
class _Paces:
    """Seconds that one trial of each model takes; ``usual_s`` is the mean but for the floor's.

    A model without a trial to go by is taken for a usual one. The floor takes next to no time,
    so it stands for no other.
    """

    by_model_s: dict[str, float]
    usual_s: float | None

    @classmethod
    def of(cls, progress: Progress) -> "_Paces":
        """Return the paces of what has been seen."""
        models = {trial.model for trial in progress.trials.values()}
        paces_s = {model: _pace_s(progress, model) for model in models}
        known_s = {model: pace_s for model, pace_s in paces_s.items() if pace_s is not None}
        return cls(known_s, _mean(pace for model, pace in known_s.items() if model != FLOOR))

    def trial_s(self, model: str) -> float | None:
        """Return the seconds of one trial; None if nothing is known that it could resemble."""
        return self.by_model_s.get(model, 0.0 if model == FLOOR else self.usual_s)


def _pace_s(progress: Progress, model: str) -> float | None:
    """Return the mean of the trials that ended, else what the epochs of those that run foretell."""
    ended_s = progress.durations_s.get(model)
    if ended_s:
        return fmean(ended_s)
    return _mean(
        (trial.epoch_at_ms - trial.started_at_ms) / 1000 / trial.epoch * trial.num_epochs
        for trial in progress.running(model)
        if trial.epoch and trial.num_epochs
    )


def _work_s(progress: Progress, paces: _Paces, num_trials: Iterable[int]) -> float | None:
    """Return the seconds of all that is to come, one after the other; None if not known."""
    models = [model for (model, _), _ in progress.to_come()]
    work = [(f, n) for f, n in zip(models, num_trials, strict=True) if n]
    trials_s = [(paces.trial_s(model), number) for model, number in work]
    test_s = _mean(progress.range_tests_s)
    tests_s = [
        (test_s if test_s is not None else paces.trial_s(model), 1)
        for model in progress.range_tests_to_come
    ]
    total_s = 0.0
    for each_s, number in (*trials_s, *tests_s):
        if each_s is None:
            return None
        total_s += each_s * number
    return total_s


def _under_way_s(progress: Progress, paces: _Paces) -> float:
    """Return how much of that the running trials have behind them, by the clock of the events."""
    return sum(
        min((progress.now_ms - trial.started_at_ms) / 1000, paces.trial_s(trial.model) or 0.0)
        for trial in progress.with_status("running")
    )


def _shared_s(progress: Progress, seconds: float) -> float:
    return max(SHORTEST_S, seconds / progress.num_at_once)


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return fmean(known) if known else None
