"""The race over seeds as records tell it: who cannot win any more, and what is undecided.

All functions are of the records alone, so that planner, leaderboard and verdict agree, and a
resumed sweep decides as the uninterrupted one.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from sg_ray.records.record import RunRecord
from sg_ray.statistics.racing import Drop, race
from sg_ray.statistics.seeds_needed import seeds_for_anytime_p, smallest_anytime_p
from sg_ray.statistics.sequential import Claim, claims, family_e_process
from sg_ray.training.metrics import direction

CLAIM_ALPHA = 0.05
"""The probability of any false "A beats B" among the comparisons of one question."""

Trials = Mapping[str, Mapping[int, RunRecord]]
"""Finished trials of one model: by the configuration's hash, then by seed."""


def drops(
    trials: Trials, rounds: Sequence[int], objective: str, alpha: float | None
) -> dict[str, Drop]:
    """Return which of a model's configurations the race has dropped, and why.

    ``rounds`` are the seeds in order, without the one on which the configurations were chosen.
    ``alpha`` None: nobody is dropped.
    """
    if alpha is None or len(trials) < 2:
        return {}
    scores = {name: scores_by_round(of_seed, rounds, objective) for name, of_seed in trials.items()}
    return {drop.config: drop for drop in race(scores, alpha).dropped}


def scores_by_round(
    trials: Mapping[int, RunRecord], rounds: Sequence[int], objective: str
) -> list[float]:
    """Return a configuration's scores, higher is better: -inf if it failed, NaN if not known."""
    return [_score(trials.get(seed), objective) for seed in rounds]


def model_claims(
    trials: Mapping[str, Trials],
    dropped: Mapping[str, Collection[str]],
    rounds: Sequence[int],
    objective: str,
) -> dict[tuple[str, str], Claim]:
    """Return what may be said of each pair of models, corrected for the number of pairs.

    Model F beats G if the best of F's configurations is better than all of G's that are still in
    the race: the evidence is that of ``sequential.family_e_process``, but for G's ``dropped`` ones.
    Those get no seeds any more, and with them no claim could be made again. What is claimed is
    false if G has dropped its best, and that one is as good as F's: the race keeps the former
    below ``race_alpha``.
    """
    table = {
        model: np.array([scores_by_round(t, rounds, objective) for t in of_config.values()])
        for model, of_config in trials.items()
        if of_config
    }
    in_race = {
        model: np.array([name not in dropped.get(model, ()) for name in of_config])
        for model, of_config in trials.items()
    }
    worst = _worst(list(table.values()))
    filled = {model: np.where(np.isneginf(rows), worst, rows) for model, rows in table.items()}
    return claims(
        {
            (f, g): (
                _evidence(filled[f], filled[g][in_race[g]]),
                _evidence(filled[g], filled[f][in_race[f]]),
            )
            for f, g in combinations(filled, 2)
        }
    )


def attainable_p(num_seeds: int, num_models: int) -> list[str]:
    """Say, in sentences, what the planned seeds can show at best.

    ``num_models`` are all that are compared, the floor included. Seeds are counted with the one
    on which configurations were chosen, which no comparison uses.
    """
    num_fresh = num_seeds - 1
    questions = {
        "two configurations": 1,
        f"{num_models} models, the floor included": max(1, comb(num_models, 2)),
    }
    smallest = smallest_anytime_p(num_fresh)
    found = ", ".join(
        f"{min(1.0, num_pairs * smallest):.2g} for {name}" for name, num_pairs in questions.items()
    )
    lines = [
        f"{num_seeds} seeds, of which {num_fresh} had no part in choosing: the smallest p that "
        f"they can reach is {found}"
    ]
    needed = {n: seeds_for_anytime_p(CLAIM_ALPHA / pairs) + 1 for n, pairs in questions.items()}
    if num_seeds < max(needed.values()):
        takes = ", ".join(f"{num} for {name}" for name, num in needed.items())
        lines.append(
            f"a difference at p <= {CLAIM_ALPHA:g} takes at least {takes}; replicate.max_seeds=N "
            "gives what is undecided so many"
        )
    return lines


def _score(record: RunRecord | None, objective: str) -> float:
    if record is None:
        return math.nan
    value = record.metrics.get(objective)
    if record.status != "completed" or value is None or not math.isfinite(value):
        return -math.inf
    return -value if direction(objective) == "minimise" else value


def _worst(tables: Sequence[NDArray[np.float64]]) -> float:
    """Return the least score of any configuration, which stands for a failure; 0 without one."""
    finite = [table[np.isfinite(table)] for table in tables]
    return float(min((values.min() for values in finite if len(values)), default=0.0))


def _evidence(better: NDArray[np.float64], worse: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the evidence [n + 1] that the best of [F, n] beats all of [G, n].

    A pair counts up to the first seed that one of the two lacks, e.g. two seeds of the differences
    0.1, 0.2, NaN, 0.3: what comes after a gap would be chosen by which trials happened to end.
    """
    differences = better[:, None] - worse[None]
    after_a_gap = np.maximum.accumulate(np.isnan(differences), axis=-1)
    return family_e_process(np.where(after_a_gap, 0.0, differences))
