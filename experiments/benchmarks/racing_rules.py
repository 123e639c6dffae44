"""The rules that ``racing.py`` compares, each vectorised over synthetic sweeps.

Scores are [S, K, n], higher is better. A claim (a, b) says that a beats b.
"""

from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sg_ray.statistics.multiple import holm
from sg_ray.statistics.racing import cannot_win
from sg_ray.statistics.sequential import beats_e_process, two_sided_p

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

ALPHA_CLAIM = 0.05
ALPHA_DROP = 0.1
_NUM_FLIPS = 999
_SWEEPS_AT_ONCE = 250


class Choice(NamedTuple):
    """What a way of spending seeds came to in S sweeps of K configurations."""

    picked: Counts
    """[S]"""
    num_trials: Counts
    """[S]"""
    against: Counts
    """[S, K]: the configuration for which each was given up, or -1."""

    @property
    def given_up(self) -> NDArray[np.bool_]:
        """[S, K]."""
        return self.against >= 0


def pairs_of(num_configs: int) -> list[tuple[int, int]]:
    """Return all pairs of configurations."""
    return list(combinations(range(num_configs), 2))


def paired_differences(scores: Array) -> Array:
    """Return [S, pairs, n]."""
    first, second = np.array(pairs_of(scores.shape[1])).T
    return scores[:, first] - scores[:, second]


def decided_by_e_process(differences: Array) -> Array:
    """Return [S, pairs, n]: +1 or -1 where the pair is decided by then, Holm over pairs; else 0."""
    better, worse = beats_e_process(differences), beats_e_process(-differences)
    rejected = _holm_over_pairs(two_sided_p(better, worse)[..., 1:]) <= ALPHA_CLAIM
    return np.where(rejected, np.sign(_at_peak(better, worse)[..., 1:]), 0.0)


def _at_peak(better: Array, worse: Array) -> Array:
    """Return better - worse at the largest better + worse so far."""
    total = better + worse
    order = np.arange(total.shape[-1])
    is_peak = total >= np.maximum.accumulate(total, axis=-1)
    peak = np.maximum.accumulate(np.where(is_peak, order, 0), axis=-1)
    return np.take_along_axis(better - worse, peak, axis=-1)


def decided_by_t_test(differences: Array) -> Array:
    """Return the same for the paired t-test that is made anew after each seed from the third."""
    decided = np.zeros_like(differences)
    for num in range(3, differences.shape[-1] + 1):
        result = stats.ttest_1samp(differences[..., :num], 0.0, axis=-1)
        rejected = _holm_over_pairs(result.pvalue[..., None])[..., 0] <= ALPHA_CLAIM
        decided[..., num - 1] = np.where(rejected, np.sign(result.statistic), 0.0)
    return decided


def decided_by_permutations(differences: Array) -> Array:
    """Return the same for the sign-flip test (999 random flips) from the sixth seed on."""
    rng = np.random.default_rng(0)
    decided = np.zeros_like(differences)
    for num in range(6, differences.shape[-1] + 1):
        flips = rng.choice([-1.0, 1.0], size=(num, _NUM_FLIPS))
        p = _by_chunks(lambda part, flips=flips: _flip_p(part, flips), differences[..., :num])
        rejected = _holm_over_pairs(p[..., None])[..., 0] <= ALPHA_CLAIM
        signs = np.sign(differences[..., :num].sum(axis=-1))
        decided[..., num - 1] = np.where(rejected, signs, 0.0)
    return decided


def _flip_p(differences: Array, flips: Array) -> Array:
    observed = np.abs(differences.sum(axis=-1, keepdims=True))
    return (1 + (np.abs(differences @ flips) >= observed - 1e-9).sum(axis=-1)) / (1 + _NUM_FLIPS)


def wilcoxon_prunes(trial: Array, best: Array, p_threshold: float = 0.1) -> NDArray[np.bool_]:
    """Return [S, n]: whether Optuna's WilcoxonPruner would prune ``trial`` [S, n] after each seed.

    The rule of optuna.pruners.WilcoxonPruner (5.0) with its defaults, for maximisation and a best
    trial that has all seeds: signed-rank test, alternative "less", zero_method "zsplit", from the
    second seed on, unless the best trial's mean is below the trial's. A test checks it against
    the class.
    """
    prunes = np.zeros(trial.shape, dtype=np.bool_)
    for num in range(2, trial.shape[1] + 1):
        differences = trial[:, :num] - best[:, :num]
        p = stats.wilcoxon(differences, alternative="less", zero_method="zsplit", axis=-1).pvalue
        best_is_better = best.mean(axis=-1) > trial[:, :num].mean(axis=-1)
        prunes[:, num - 1] = (p < p_threshold) & best_is_better
    return prunes


def prune_by_wilcoxon(scores: Array) -> Choice:
    """Spend seeds as Optuna does with WilcoxonPruner: one configuration after the other."""
    return _against_the_best(scores, wilcoxon_prunes)


def smac_rejects(challenger: Array, incumbent: Array) -> NDArray[np.bool_]:
    """Return [S, n]: whether SMAC3 rejects ``challenger`` [S, n] after each seed.

    The rule of AbstractIntensifier.update_incumbents in SMAC3 2.x: after each trial, the
    challenger's mean cost over its seeds against the incumbent's over the same; not better, and it
    is rejected for good. If it is better on all of the incumbent's seeds, it takes its place.
    """
    return np.cumsum(challenger - incumbent, axis=-1) <= 0


def intensify_as_smac(scores: Array) -> Choice:
    """Spend seeds as SMAC3's intensifier does, with an incumbent that has all seeds."""
    return _against_the_best(scores, smac_rejects)


def _against_the_best(
    scores: Array, gives_up: Callable[[Array, Array], NDArray[np.bool_]]
) -> Choice:
    """Run configurations one by one; the best is the highest mean of those that were finished."""
    num_sweeps, num_configs, num_seeds = scores.shape
    sweeps = np.arange(num_sweeps)
    best = np.zeros(num_sweeps, dtype=np.int64)
    num_trials = np.full(num_sweeps, num_seeds)
    against = np.full((num_sweeps, num_configs), -1)
    for config in range(1, num_configs):
        stops = gives_up(scores[:, config], scores[sweeps, best])
        given_up = stops.any(axis=-1)
        against[:, config] = np.where(given_up, best, -1)
        num_trials += np.where(given_up, stops.argmax(axis=-1) + 1, num_seeds)
        better = scores[:, config].mean(axis=-1) > scores[sweeps, best].mean(axis=-1)
        best = np.where(better & ~given_up, config, best)
    return Choice(best, num_trials, against)


def replicate_all(scores: Array) -> Choice:
    """Give every configuration all seeds and take the highest mean."""
    num_sweeps, num_configs, num_seeds = scores.shape
    num_trials = np.full(num_sweeps, num_configs * num_seeds)
    against = np.full((num_sweeps, num_configs), -1)
    return Choice(scores.mean(axis=-1).argmax(axis=-1), num_trials, against)


def race(scores: Array, alpha: float = ALPHA_DROP, max_trials: int | None = None) -> Choice:
    """Race over all seeds in ``scores``, or as many as ``max_trials`` pay for in whole rounds."""
    drops = _by_chunks(lambda part: np.stack(cannot_win(part, alpha)[:2], axis=-1), scores)
    after, against = drops[..., 0], drops[..., 1]
    num_sweeps, _, num_seeds = scores.shape
    rounds = np.arange(1, num_seeds + 1)
    racing = (after == 0)[:, :, None] | (after[:, :, None] >= rounds)  # gets this round's seed
    racing &= racing.sum(axis=1, keepdims=True) > 1  # else nothing is left to decide
    spent = np.cumsum(racing.sum(axis=1), axis=-1)
    affordable = spent <= (spent[:, -1:] if max_trials is None else max_trials)
    num_rounds = (affordable & racing.any(axis=1)).sum(axis=-1)
    dropped = (after > 0) & (after <= num_rounds[:, None])
    means = np.cumsum(scores, axis=-1)[np.arange(num_sweeps), :, num_rounds - 1]
    return Choice(
        picked=np.where(dropped, -np.inf, means).argmax(axis=-1),
        num_trials=spent[np.arange(num_sweeps), num_rounds - 1],
        against=np.where(dropped, against, -1),
    )


def _holm_over_pairs(p: Array) -> Array:
    """Return p [S, pairs, looks] adjusted over pairs."""
    if p.shape[1] == 1:
        return p
    rows = np.moveaxis(p, 1, -1).reshape(-1, p.shape[1])
    adjusted = np.ones_like(rows)
    could_reject = rows.min(axis=-1) * p.shape[1] <= ALPHA_CLAIM  # else Holm rejects none of them
    adjusted[could_reject] = [holm(row) for row in rows[could_reject]] or np.empty((0, p.shape[1]))
    return np.moveaxis(adjusted.reshape(p.shape[0], p.shape[2], p.shape[1]), -1, 1)


def _by_chunks(rule: Callable[[Array], NDArray], scores: Array) -> NDArray:
    """Apply ``rule`` to some sweeps at a time: it needs memory for all their pairs."""
    starts = range(0, len(scores), _SWEEPS_AT_ONCE)
    return np.concatenate([rule(scores[at : at + _SWEEPS_AT_ONCE]) for at in starts])
