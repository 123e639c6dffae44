"""What one should know beside the comparisons: luck of the search, failures, missing files."""

import shlex
from collections.abc import Iterator, Sequence
from statistics import fmean

from sg_ray.models.families import builds_on
from sg_ray.records.race import CLAIM_ALPHA
from sg_ray.statistics.seeds_needed import seeds_for_anytime_p
from sg_ray.verdict.model import MODELS, Question, Standing
from sg_ray.verdict.trials import Contender, Results, Trial
from sg_ray.verdict.words.arithmetic import Arithmetic, mixtures
from sg_ray.verdict.words.sentences import amount, count_of, listed, metric_name

_NUM_LISTED = 5


def notes(
    results: Results,
    asked: Sequence[Question],
    standings: Sequence[Standing],
    unmeasured: str = "",
) -> Iterator[str]:
    """Yield the notes that apply, each one or two sentences.

    ``unmeasured`` is why the objective could not be measured on resamples.
    """
    if any(not standing.is_floor for standing in standings):
        yield (
            f"Configurations were chosen on seed {results.search_seed}, the search's: it counts in "
            "no comparison, and for the leaderboard's mean only."
        )
    yield from _chosen_branches(results)
    yield from _too_few_seeds(asked)
    yield from _best_of_several(results, asked)
    yield from _intervals_without_zero(asked)
    yield from _intervals_with_zero(asked)
    yield from _luck_of_the_search(results, standings)
    yield from _failures(results)
    yield from _mixed_arithmetic(results)
    yield from _missing_predictions(results)
    if unmeasured:
        yield (
            f"{metric_name(results.objective)} is a metric of your own and could not be measured "
            f"here: {unmeasured}. What needs it on other functions (intervals, ensembles) is left "
            f"out; to have it: sg-ray report {shlex.quote(results.place)} --metric "
            f"{shlex.quote(results.metric_code or 'CODE')}"
        )


def _chosen_branches(results: Results) -> Iterator[str]:
    """Say that what a model builds on was chosen by seeds that it is compared on as well."""
    families = {model: members[0].row.family for model, members in results.models.items()}
    there = set(families.values())
    builders = [model for model, family in families.items() if there & set(builds_on(family))]
    if builders:
        yield (
            f"{listed(builders)} builds on the best of the other models over the planned seeds, "
            "and has the same seeds: of many finalists the luckiest would flatter it a little."
        )


def _too_few_seeds(asked: Sequence[Question]) -> Iterator[str]:
    """Say in which questions no outcome could have decided anything, and what it would take."""
    hopeless = [
        question
        for question in asked
        if all(one.smallest_p > CLAIM_ALPHA for one in question.comparisons)
    ]
    if not hopeless:
        return
    needed = [
        f"{seeds_for_anytime_p(CLAIM_ALPHA / len(question.comparisons))} {_where(question)}"
        for question in hopeless
    ]
    num_seeds = max(len(one.seeds) for question in hopeless for one in question.comparisons)
    yield (
        f"{count_of(num_seeds, 'fresh seed')} cannot decide anything, whatever the scores: it "
        f"takes at least {listed(needed)}."
    )


def _where(question: Question) -> str:
    if question.name == MODELS:
        return f"between models ({count_of(len(question.comparisons), 'comparison')})"
    return f"within {question.name}"


def _best_of_several(results: Results, asked: Sequence[Question]) -> Iterator[str]:
    several = [model for model, members in results.models.items() if len(members) > 1]
    if several and any(question.name == MODELS for question in asked):
        yield (
            "p between models is about the best of their finalists, whichever that is, but for "
            "those that the race gave up. Difference and interval are those of the finalists that "
            "are ranked first, picked on the same seeds: that flatters them a little."
        )


def _intervals_without_zero(asked: Sequence[Question]) -> Iterator[str]:
    compared = [one for question in asked for one in question.comparisons]
    if any(one.outcome != "a" and one.interval and one.interval.low > 0 for one in compared):
        yield (
            "Some intervals leave out 0 where p is undecided: an interval is about one comparison, "
            "looked at once; p is about all comparisons of its question and any number of looks."
        )


def _intervals_with_zero(asked: Sequence[Question]) -> Iterator[str]:
    compared = [one for question in asked for one in question.comparisons]
    if any(one.outcome == "a" and one.interval and one.interval.low <= 0 for one in compared):
        yield (
            "Some intervals hold 0 where p is decided: p is about other seeds on these validation "
            "functions, an interval about other functions too. More functions would narrow it, "
            "more seeds would not."
        )


def _luck_of_the_search(results: Results, standings: Sequence[Standing]) -> Iterator[str]:
    """Say how far the search's seed flattered the finalists, if by more than seeds differ."""
    chosen = [one for one in standings if one.selection_gap is not None and one.sd is not None]
    if not chosen:
        return
    sign = -1.0 if results.lower_is_better else 1.0
    gap = fmean(sign * (one.selection_gap or 0.0) for one in chosen)
    if gap > fmean(one.sd or 0.0 for one in chosen) and gap > 0:
        yield (
            f"The search's seed flattered the finalists: {amount(gap, results.objective)} on "
            "average against their fresh seeds. That is mostly luck for which they were chosen."
        )


def _failures(results: Results) -> Iterator[str]:
    failed = [
        f"{contender.row.title} seed {trial.seed}"
        for contender in results.contenders
        for trial in contender.trials
        if trial.score is None
    ]
    if failed:
        more = "" if len(failed) <= _NUM_LISTED else ", ..."
        yield (
            f"Failed: {', '.join(failed[:_NUM_LISTED])}{more}. In comparisons a failed seed counts "
            "as the worst score that any configuration of the question reached; means leave it out."
        )


def _mixed_arithmetic(results: Results) -> Iterator[str]:
    """Say where seeds of one model were not trained alike: rounding then differs with them."""
    of_key = {record.trial_key: Arithmetic.of(record) for record in results.records}
    for model, members in results.models.items():
        trained = [
            (_seed_of(trial, one, len(members)), of_key[trial.key])
            for one in members
            for trial in one.trials
            if trial.score is not None
        ]
        for mixture in mixtures(trained):
            yield (
                f"{model} was not always trained alike: {mixture}. That is not the same "
                "arithmetic, so a difference between these seeds may be the machine's."
            )


def _seed_of(trial: Trial, contender: Contender, num_members: int) -> str:
    seed = str(trial.seed)
    return seed if num_members == 1 else f"{seed} of {contender.row.config_hash}"


def _missing_predictions(results: Results) -> Iterator[str]:
    trials = [trial for contender in results.contenders for trial in contender.trials]
    scored = [trial for trial in trials if trial.score is not None]
    num_missing = sum(trial.predictions is None for trial in scored)
    if num_missing:
        yield (
            f"{num_missing} of {count_of(len(scored), 'trial')} left no predictions: what needs "
            "them (intervals, ensembles, calibration) is not known of their configurations."
        )
