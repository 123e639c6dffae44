"""The questions that a sweep answers: all pairs of models, all pairs of a model's finalists."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from sg_ray.records.race import CLAIM_ALPHA
from sg_ray.statistics.bootstrap import PairedDifference, compare
from sg_ray.statistics.decisions import mcnemar
from sg_ray.statistics.multiple import holm
from sg_ray.statistics.paired import permutation_p
from sg_ray.statistics.seed_summaries import sample_sd
from sg_ray.statistics.seeds_needed import detectable_effect, seeds_for_anytime_p, seeds_to_decide
from sg_ray.statistics.sequential import Claim, claims
from sg_ray.verdict.model import MODELS, Comparison, Interval, Question
from sg_ray.verdict.predicted import predicted_seeds
from sg_ray.verdict.teams import Duel, Team, duels
from sg_ray.verdict.trials import Results
from sg_ray.verdict.validation_scores import ValidationScores
from sg_ray.verdict.words.conclusions import answer
from sg_ray.verdict.words.sentences import comparison_sentence


@dataclass(frozen=True)
class Correction:
    """How many comparisons share the error rate, and how many of them are undecided.

    As those decided stay so, Holm's correction asks p <= CLAIM_ALPHA / num_open of the next one.
    """

    num_pairs: int
    num_open: int


@dataclass(frozen=True)
class Finding:
    """What the tests of a question say about one of its pairs.

    ``duel`` has the better one first: by the claim or, while it is undecided, by the mean.
    """

    duel: Duel
    claim: Claim
    smallest_p: float
    correction: Correction

    @property
    def is_decided(self) -> bool:
        """Whether one beats the other."""
        return self.claim.p_holm <= CLAIM_ALPHA

    @property
    def num_sharing(self) -> int:
        """How many finalists there are on the side that is ahead.

        Its evidence is the mean over them, so one that wins alone counts as one in so many.
        """
        return len(self.duel.a.members)


def questions(results: Results, scores: ValidationScores) -> list[Question]:
    """Return the questions with something to compare: models first, then within each model.

    Every question has an error rate of its own, CLAIM_ALPHA for any false claim.
    """
    asked = {MODELS: [Team(tuple(members)) for members in results.models.values()]}
    for model, members in results.models.items():
        asked[model] = [Team((member,)) for member in members if member.fresh]
    return [
        _question(name, teams, results, scores) for name, teams in asked.items() if len(teams) > 1
    ]


def _question(
    name: str, teams: Sequence[Team], results: Results, scores: ValidationScores
) -> Question:
    compared = [
        _comparison(finding, results, scores) for finding in findings(list(duels(teams, results)))
    ]
    return Question(
        name=name,
        text="Which model is best?" if name == MODELS else f"Which {name} is best?",
        comparisons=compared,
        answer=answer(name, teams, compared, results.objective),
    )


def findings(pairs: Sequence[Duel]) -> list[Finding]:
    """Return what the tests say about all pairs of one question, in their order."""
    claimed = claims({place: duel.evidence for place, duel in enumerate(pairs)})
    correction = Correction(
        num_pairs=len(pairs), num_open=sum(claim.p_holm > CLAIM_ALPHA for claim in claimed.values())
    )
    smallest = holm([duel.smallest_p for duel in pairs])
    return [
        Finding(_favouring_first(duel, claim), claim, least, correction)
        for duel, claim, least in zip(pairs, claimed.values(), smallest, strict=True)
    ]


def _favouring_first(duel: Duel, claim: Claim) -> Duel:
    if claim.p_holm <= CLAIM_ALPHA:
        return duel if claim.a_is_better else duel.swapped()
    return duel.swapped() if duel.differences.sum() < 0 else duel


def _comparison(finding: Finding, results: Results, scores: ValidationScores) -> Comparison:
    duel, differences = finding.duel, finding.duel.differences
    described = _described(duel, scores)
    more_seeds = _more_seeds(finding) if _can_tell_more(finding) else None
    draft = Comparison(
        a=duel.a.side,
        b=duel.b.side,
        seeds=duel.seeds,
        difference=float(differences.mean()) if len(differences) else None,
        interval=_interval(described) if described else None,
        probability_better=described.probability_better if described else None,
        p_anytime=finding.claim.p_anytime,
        p_holm=finding.claim.p_holm,
        p_permutation=_permutation_p(duel),
        smallest_p=finding.smallest_p,
        minimum_detectable_difference=_detectable(finding),
        mcnemar_p=_mcnemar_p(duel),
        outcome="a" if finding.is_decided else "undecided",
        more_seeds=more_seeds,
        more_trial_hours=None if more_seeds is None else more_seeds * _hours_of_a_seed(duel),
        command=None if more_seeds is None else _command(duel, more_seeds, results),
        sentence="",
    )
    sentence = comparison_sentence(draft, duel, results.objective)
    return draft.model_copy(update={"sentence": sentence})


def _described(duel: Duel, scores: ValidationScores) -> PairedDifference | None:
    """Return interval and P(a > b) over seeds and functions; one seed says nothing of the next."""
    a, b = (scores.of(trials, duel.worst) for trials in duel.trials)
    if a is None or b is None or a.num_seeds < 2:
        return None
    return compare(a, b, scores.scale)


def _interval(described: PairedDifference) -> Interval:
    found = described.interval
    return Interval(low=found.low, high=found.high, level=found.level)


def _permutation_p(duel: Duel) -> float | None:
    """Return the p of the two configurations; None if one was picked by the same seeds."""
    if not duel.seeds or max(len(team.members) for team in (duel.a, duel.b)) > 1:
        return None
    return permutation_p(duel.differences.tolist())


def _mcnemar_p(duel: Duel) -> float | None:
    """Return the p of the two models with the first common seed; None without predictions."""
    for a, b in zip(*duel.trials, strict=True):
        predicted = predicted_seeds([a, b])
        if predicted is not None:
            return mcnemar(predicted.labels, *predicted.decisions)
    return None


def _detectable(finding: Finding) -> float | None:
    """Return the difference that so many seeds decide; None if none, or if seeds do not differ."""
    differences = finding.duel.differences
    alpha = CLAIM_ALPHA / finding.correction.num_pairs / finding.num_sharing
    effect = detectable_effect(len(differences), alpha)
    sd = sample_sd(differences.tolist())
    return effect * sd if effect is not None and sd > 0 else None


def _can_tell_more(finding: Finding) -> bool:
    """Whether more seeds may decide it: not of one whose trials have all failed so far."""
    return not finding.is_decided and not (finding.duel.a.is_silent or finding.duel.b.is_silent)


def _more_seeds(finding: Finding) -> int | None:
    """Return how many more seeds would probably decide it; from fewer than 2, the least number.

    Where a model's finalists share the bet, those other than the one shown are taken to add
    nothing.
    """
    num_seeds = len(finding.duel.seeds)
    alpha = CLAIM_ALPHA / finding.correction.num_open
    if num_seeds < 2:
        return seeds_for_anytime_p(alpha) - num_seeds
    needed = seeds_to_decide(finding.duel.differences, alpha / finding.num_sharing)
    return None if needed is None else max(1, needed - num_seeds)


def _hours_of_a_seed(duel: Duel) -> float:
    return duel.a.best.trial_hours + duel.b.best.trial_hours


def _command(duel: Duel, more_seeds: int, results: Results) -> str | None:
    """Return what gets those seeds; None if one of the two will get none, as the race goes."""
    if not (duel.a.best.is_in_race and duel.b.best.is_in_race):
        return None
    name, num_seeds = shlex.quote(results.place), 1 + len(duel.seeds) + more_seeds
    if results.rules.replicate.budget_epochs is not None:
        at_least = max(num_seeds, len(results.seeds))
        return f"sg-ray extend {name} replicate.max_seeds={at_least} replicate.budget_epochs=null"
    if num_seeds <= len(results.seeds):
        return f"sg-ray sweep --resume {name}"
    return f"sg-ray extend {name} replicate.max_seeds={num_seeds}"
