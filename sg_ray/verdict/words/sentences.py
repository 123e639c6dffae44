"""A comparison in words."""

from collections.abc import Sequence

from sg_ray.records.leaderboard import is_number
from sg_ray.records.race import CLAIM_ALPHA
from sg_ray.training.metrics import OBJECTIVES, direction
from sg_ray.verdict.model import Comparison
from sg_ray.verdict.teams import Duel, Team

_NAMES = {"roc_auc": "ROC-AUC", "pr_auc": "PR-AUC", "f1": "F1", "mcc": "MCC"}
_SMALLEST_P_SHOWN = 0.001


def comparison_sentence(comparison: Comparison, duel: Duel, objective: str) -> str:
    """Return what is known about two sides, and what it would take to know more.

    ``duel`` has the sides in the order of ``comparison``.
    """
    a, b = team_name(duel.a), team_name(duel.b)
    is_decided = comparison.outcome == "a"
    claim = f"{a} beats {b}" if is_decided else f"{a} against {b} is undecided"
    found = [
        *_effect(comparison, objective),
        p_value(comparison.p_holm) + " (Holm)",
        _seeds(comparison, duel),
    ]
    told = ", ".join(found) if comparison.seeds else "no fresh seed in common"
    rest = "" if is_decided else _what_it_takes(comparison, duel)
    return starting(f"{claim}: {told}{rest}.")


def team_name(team: Team) -> str:
    """Return e.g. "gnn 1f0c9a2b", "gnn (best of 2: 1f0c9a2b)" or "the floor"."""
    if team.is_floor:
        return "the floor"
    row = team.best.row
    if len(team.members) == 1:
        return row.title
    best = row.title.removeprefix(f"{row.model} ")
    return f"{row.model} (best of {len(team.members)}: {best})"


def starting(text: str) -> str:
    """Return ``text`` as the start of a sentence; names keep their small letters."""
    return text.replace("the floor", "The floor", 1) if text.startswith("the floor") else text


def listed(names: Sequence[str]) -> str:
    """Return e.g. "gnn, transformer and the floor"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def count_of(number: int, noun: str) -> str:
    """Return e.g. "1 seed" or "2 seeds"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def p_value(value: float, sign: str = "=") -> str:
    """Return e.g. "p = 0.031"; what is just above CLAIM_ALPHA is not rounded down to it."""
    if value < _SMALLEST_P_SHOWN:
        return f"p < {_SMALLEST_P_SHOWN:g}"
    digits = 3 if CLAIM_ALPHA < value < 1.1 * CLAIM_ALPHA else 2
    return f"p {sign} {value:.{digits}g}"


def amount(difference: float, objective: str) -> str:
    """Return how much better something is, e.g. "+1.3 points accuracy" or "0.0123 less loss"."""
    if not _is_share(objective):
        more = "less" if direction(objective) == "minimise" else "more"
        return f"{difference:.4f} {more} {metric_name(objective)}"
    return f"{_points([difference])[0]} points {metric_name(objective)}"


def _is_share(objective: str) -> bool:
    """Whether its values lie between 0 and 1 (or -1), and are told in points."""
    return objective in OBJECTIVES and objective != "val_loss"


def metric_name(objective: str) -> str:
    """Return the metric as one says it, e.g. "ROC-AUC" for ``val_roc_auc``."""
    metric, at_threshold, _ = objective.removeprefix("val_").partition("_at_threshold")
    name = _NAMES.get(metric, metric)
    return f"{name} at the tuned threshold" if at_threshold else name


def duration(hours: float, *, uses_gpu: bool) -> str:
    """Return e.g. "1.2 GPU-hours" or "11 minutes of training"."""
    if hours >= 1:
        return f"{hours:.1f} GPU-hours" if uses_gpu else f"{hours:.1f} hours of training"
    minutes = count_of(max(1, round(60 * hours)), "GPU-minute" if uses_gpu else "minute")
    return minutes if uses_gpu else f"{minutes} of training"


def _effect(comparison: Comparison, objective: str) -> list[str]:
    """Return the difference and, if it is known, its interval."""
    difference, interval = comparison.difference, comparison.interval
    if difference is None:
        return []
    if interval is None:
        return [amount(difference, objective)]
    level = f"{100 * interval.level:g} % interval"
    if not _is_share(objective):
        return [
            amount(difference, objective),
            f"{level} [{interval.low:.4f}, {interval.high:.4f}]",
        ]
    middle, low, high = _points([difference, interval.low, interval.high])
    return [
        f"{middle} points {metric_name(objective)}",
        f"{level} [{low.lstrip('+')}, {high.lstrip('+')}]",
    ]


def _points(values: Sequence[float]) -> list[str]:
    """Return values times 100 with their signs, finer if all are small."""
    decimals = 1 if max(abs(100 * value) for value in values) >= 1 else 2
    return [f"{100 * value:+.{decimals}f}" for value in values]


def _seeds(comparison: Comparison, duel: Duel) -> str:
    text = count_of(len(comparison.seeds), "seed")
    for team, trials in zip((duel.a, duel.b), duel.trials, strict=True):
        num_failed = sum(trial.score is None for trial in trials)
        if num_failed:
            text += f" ({num_failed} of {team_name(team)} failed: counted as the worst score)"
    return text


def _what_it_takes(comparison: Comparison, duel: Duel) -> str:
    """Return what would decide it, as the end of a sentence."""
    given_up = [team for team in (duel.a, duel.b) if not team.best.is_in_race]
    if given_up:
        return f"; the race gave {listed([team_name(team) for team in given_up])} up"
    silent = [team for team in (duel.a, duel.b) if team.is_silent]
    if silent:
        return f"; no trial of {listed([team_name(team) for team in silent])} has completed"
    more, num_seeds = comparison.more_seeds, len(comparison.seeds)
    if more is None:
        return "" if not comparison.difference else "; 100 seeds would probably not decide it"
    guess = "about" if num_seeds > 1 else "at least"
    text = f"{guess} {more} more {'seed' if more == 1 else 'seeds'}"
    if is_number(comparison.more_trial_hours):
        uses_gpu = duel.a.best.uses_gpu or duel.b.best.uses_gpu
        text += f", {duration(comparison.more_trial_hours, uses_gpu=uses_gpu)}"
    if num_seeds and comparison.smallest_p > CLAIM_ALPHA:
        return f"; {count_of(num_seeds, 'seed')} cannot decide it; {text}"
    return f"; {text}"
