"""What a search would have found with fewer trials."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from sg_ray.errors import InputError


@dataclass(frozen=True)
class ExpectedBestCurve:
    """``trials[i]`` trials cost ``hours[i]`` and reach ``expected[i]`` on average."""

    trials: Sequence[int]
    hours: Sequence[float]
    expected: Sequence[float]


def expected_best_curve(
    values: Sequence[float], trial_hours: Sequence[float], *, lower_is_better: bool = False
) -> ExpectedBestCurve:
    """Return the expected best of 1, 2, ... all trials against their cost.

    ``values`` are the objectives of the trials that have one, ``trial_hours`` the hours of all
    trials, failed ones too: a trial costs their mean.

    Raises InputError for values that are not finite, or values without hours.
    """
    if len(values) and not len(trial_hours):
        raise InputError("trial_hours: there are none. Pass the hours of every trial.")
    trials = range(1, len(values) + 1)
    hours_each = float(np.mean(trial_hours)) if len(trial_hours) else 0.0
    expected = expected_best(values, lower_is_better=lower_is_better)
    return ExpectedBestCurve(
        trials=tuple(trials),
        hours=tuple(num_trials * hours_each for num_trials in trials),
        expected=tuple(expected.tolist()),
    )


def expected_best(values: Sequence[float], *, lower_is_better: bool = False) -> NDArray[np.float64]:
    """Return the expected best of n random ``values`` of N, for n = 1..N, shape [N].

    The n are drawn without replacement, which has no bias (Tang et al. 2020, "Showing Your Work
    Doesn't Always Work", ACL). Dodge et al. 2019, "Show Your Work: Improved Reporting of
    Experimental Results" (EMNLP), draw with replacement, which understates what n trials find.

    Exact for trials that are independent, as those of a random search. A search that learns gets
    the average over all orders of its trials.

    Raises InputError for a value that is not finite.
    """
    ranked = np.sort(np.asarray(values, dtype=np.float64))
    if not np.isfinite(ranked).all():
        raise InputError("values: not all are finite. Leave out the trials that failed.")
    if lower_is_better:
        ranked = -ranked[::-1]
    best = _shares(len(ranked)) @ ranked
    return -best if lower_is_better else best


def _shares(num_values: int) -> NDArray[np.float64]:
    """Return P(the highest of n draws has rank i), shape [n = 1..N, i = 1..N].

    It is choose(i - 1, n - 1) / choose(N, n).
    """
    num_drawn = np.arange(1, num_values + 1)[:, None]
    rank = np.arange(1, num_values + 1)
    possible = rank >= num_drawn
    log_share = (
        gammaln(rank)
        - gammaln(num_drawn)
        - gammaln(np.where(possible, rank - num_drawn + 1, 1))
        - _log_choose(num_values, num_drawn)
    )
    return np.where(possible, np.exp(np.where(possible, log_share, 0.0)), 0.0)


def _log_choose(num_values: int, num_drawn: NDArray[np.integer]) -> NDArray[np.float64]:
    return np.asarray(
        gammaln(num_values + 1) - gammaln(num_drawn + 1) - gammaln(num_values - num_drawn + 1)
    )
