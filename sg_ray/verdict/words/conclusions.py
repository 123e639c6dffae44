"""What the comparisons of a question say together: its answer, and the sweep's headline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sg_ray.config import FLOOR
from sg_ray.records.leaderboard import is_number, ranked_value
from sg_ray.records.race import CLAIM_ALPHA
from sg_ray.statistics.seeds_needed import seeds_for_anytime_p
from sg_ray.verdict.model import MODELS, Comparison, Question, Side
from sg_ray.verdict.teams import Team
from sg_ray.verdict.trials import Contender, Results
from sg_ray.verdict.words.sentences import count_of, listed, p_value, starting

NOTHING_COMPLETED = "No trial has completed: nothing can be said yet."


class Headline(NamedTuple):
    """A sweep's first sentence."""

    text: str
    answers: str | None = None
    """The question whose answer says the same, so that nobody need read both."""


@dataclass(frozen=True)
class _Tally:
    """The comparisons of one side with the others, by what came out."""

    side: Side
    won: Sequence[Comparison]
    lost: Sequence[Comparison]
    undecided: Sequence[Comparison]

    @property
    def ahead(self) -> list[Comparison]:
        """The undecided ones in which the other has the better mean over fresh seeds.

        A comparison names the side with the better mean first. Its difference is 0 where both are
        level, and None without a fresh seed.
        """
        return [
            one for one in self.undecided if one.b == self.side and one.difference not in (None, 0)
        ]

    def rivals(self, compared: Sequence[Comparison], *, by_model: bool) -> str:
        """Return the names of the others, e.g. "gnn and the floor"."""
        others = [one.b if one.a == self.side else one.a for one in compared]
        return listed([name_of(side, by_model=by_model) for side in others])


def answer(
    question: str, teams: Sequence[Team], compared: Sequence[Comparison], objective: str
) -> str:
    """Return a question's answer: about the first of ``teams`` (best first) that nobody beats.

    One without a score is never the answer.
    """
    tallies = [_tally(team.side, compared) for team in teams if team.best.judged]
    if not tallies:
        return NOTHING_COMPLETED
    first = next((tally for tally in tallies if not tally.lost), tallies[0])
    by_model = question == MODELS
    is_first = first is tallies[0]
    place = "is ranked first" if is_first else "is not beaten"
    name = name_of(first.side, by_model=by_model)
    level = _level_with(first, teams, objective)
    if level:
        place += f", level with {first.rivals(level, by_model=by_model)}"
    leads = is_first and not first.ahead and not level
    return starting(
        _position(name, place, first, len(compared), by_model=by_model, leads=leads) + "."
    )


def headline(results: Results, asked: Sequence[Question]) -> Headline:
    """Return one sentence: what won and how sure that is. It never contradicts the leaderboard."""
    winner = results.winner
    if winner is None:
        return _without_model(results, asked)
    by_name = {question.name: question for question in asked}
    models, within = by_name.get(MODELS), by_name.get(winner.model)
    name = winner.row.title
    if models is None:
        if within is None:
            return Headline(f"{name} has nobody to be compared with.")
        return Headline(f"{winner.model}: {within.answer}", answers=within.name)
    tally = _tally(_side_of(winner.model, models), models.comparisons)
    level = _level_with(tally, _teams(results), results.objective)
    above = _floor_above(results, tally)
    if above is not None:
        num = len(models.comparisons)
        return Headline(
            _below_the_floor(results, name, winner, above, num, is_level=above in level)
        )
    though = _though_the_floor_is_first(results, winner, tally)
    if tally.undecided or tally.lost:
        place = "is the best-ranked model"
        if level:
            place += f", level with {tally.rivals(level, by_model=True)}"
        leads = not (tally.ahead or level or though)
        told = _position(name, place, tally, len(models.comparisons), by_model=True, leads=leads)
        # One that leads is also the first that nobody beats, of whom the answer tells.
        same = leads and not tally.lost
        return Headline(f"{told}{though}.", answers=MODELS if same else None)
    victory = f"wins: it beats {tally.rivals(tally.won, by_model=True)} ({_evidence(tally.won)})"
    if within is None or _beats_all(winner.row.config_hash, within):
        return Headline(f"{name} {victory}{though}.")
    return Headline(
        f"{winner.model} {victory}{though}; which of its configurations is best is undecided, "
        f"{winner.row.title.removeprefix(f'{winner.model} ')} is ranked first of them."
    )


def _without_model(results: Results, asked: Sequence[Question]) -> Headline:
    """Return the headline where no model has a score: the floor may have one."""
    floor = next((one for one in results.contenders if one.row.is_floor and one.judged), None)
    if floor is None:
        return Headline(NOTHING_COMPLETED, answers=asked[0].name if asked else None)
    score = _score(results, floor)
    tried = list(dict.fromkeys(r.model for r in results.records if r.model != floor.model))
    if tried:
        return Headline(
            f"Only the floor has a score ({score}): no trial of {listed(tried)} has completed."
        )
    return Headline(f"Only the floor was trained ({score}): there is no model to compare with it.")


def _floor_above(results: Results, tally: _Tally) -> Comparison | None:
    """Return the undecided comparison with the floor if the floor stands first in the table."""
    if not results.contenders[0].row.is_floor:
        return None
    sides = ((one, (one.a, one.b)) for one in tally.undecided)
    return next((one for one, pair in sides if any(s.model == FLOOR for s in pair)), None)


def _though_the_floor_is_first(results: Results, winner: Contender, tally: _Tally) -> str:
    """Say, of one that beats the floor on fresh seeds, if the table has the floor above it."""
    first = results.contenders[0]
    if not first.row.is_floor or not any(one.b.model == FLOOR for one in tally.won):
        return ""
    return (
        f"; over all seeds the floor is ranked first ({_score(results, first)}, "
        f"{winner.model} {_score(results, winner)})"
    )


def _below_the_floor(
    results: Results,
    name: str,
    winner: Contender,
    compared: Comparison,
    num_in_question: int,
    *,
    is_level: bool,
) -> str:
    floor_score, score = _score(results, results.contenders[0]), _score(results, winner)
    place = "level with" if is_level else "above"
    start = f"The floor is ranked first ({floor_score}), {place} {name} ({score}); "
    if not compared.seeds:
        return f"{start}there is no fresh seed to tell."
    is_ahead = compared.difference and compared.a.model != FLOOR
    end = f"; {name} is ahead of it on these" if is_ahead else ""
    return f"{start}{_why_undecided([compared], num_in_question)}{end}."


def _score(results: Results, contender: Contender) -> str:
    """Return a configuration's mean as the leaderboard shows it, and what else it is ranked by."""
    row = contender.row
    num_failed, num_seeds = len(row.failed_seeds), len(row.failed_seeds) + len(row.seeds)
    failed = f", {num_failed} of {count_of(num_seeds, 'seed')} failed" if num_failed else ""
    return f"{row.means[results.objective]:.4f}{failed}"


def _teams(results: Results) -> list[Team]:
    return [Team(tuple(members)) for members in results.models.values()]


def _level_with(tally: _Tally, teams: Sequence[Team], objective: str) -> list[Comparison]:
    """Return the comparisons with those that no digit shown tells apart from a side."""
    shown = {team.side: _shown(ranked_value(team.best.row, objective)) for team in teams}
    own = shown[tally.side]
    return [
        one
        for one in tally.undecided
        if own is not None
        and shown[one.a] == shown[one.b]
        and _shown(one.difference) in (None, _shown(0.0))
    ]


def _shown(value: float | None) -> str | None:
    return f"{abs(value):.4f}" if is_number(value) else None


def name_of(side: Side, *, by_model: bool) -> str:
    """Return the model or, among those of one model, the configuration's name and hash."""
    if side.model == FLOOR:
        return "the floor"
    return side.model if by_model else side.name_in_model


def _tally(side: Side, compared: Sequence[Comparison]) -> _Tally:
    own = [one for one in compared if side in (one.a, one.b)]
    decided = [one for one in own if one.outcome == "a"]
    return _Tally(
        side=side,
        won=[one for one in decided if one.a == side],
        lost=[one for one in decided if one.b == side],
        undecided=[one for one in own if one.outcome != "a"],
    )


def _position(
    name: str, place: str, tally: _Tally, num_in_question: int, *, by_model: bool, leads: bool
) -> str:
    """Return where a side stands, as a sentence without its full stop.

    ``leads`` says that nobody stands above it, neither in the table nor on fresh seeds.
    """
    if tally.lost:
        beaten_by = tally.rivals(tally.lost, by_model=by_model)
        verb = "beats" if len(tally.lost) == 1 else "beat"
        return f"{name} {place}, but {beaten_by} {verb} it ({_evidence(tally.lost)})"
    won = tally.rivals(tally.won, by_model=by_model) if tally.won else ""
    if not tally.undecided:
        return f"{name} beats {won} ({_evidence(tally.won)})"
    start, end = f"{name} leads" if leads else f"{name} {place}", ""
    if tally.ahead:
        verb = "is" if len(tally.ahead) == 1 else "are"
        end = f"; {tally.rivals(tally.ahead, by_model=by_model)} {verb} ahead of it"
    if won:
        against = tally.rivals(tally.undecided, by_model=by_model)
        evidence = _evidence(tally.won)
        more = _would_not_do(tally.undecided)
        return f"{start}: it beats {won} ({evidence}); against {against} it is undecided{more}{end}"
    return f"{start}, but {_why_undecided(tally.undecided, num_in_question)}{end}"


def _would_not_do(compared: Sequence[Comparison]) -> str:
    """Say so if no reasonable number of seeds would decide any of the comparisons."""
    hopeless = all(one.difference and one.more_seeds is None for one in compared)
    return ", and 100 seeds would probably not tell" if hopeless else ""


def _why_undecided(compared: Sequence[Comparison], num_in_question: int) -> str:
    seeds = _num_seeds(compared)
    if any(one.smallest_p <= CLAIM_ALPHA for one in compared):
        return f"whether it is best is undecided after {seeds}{_would_not_do(compared)}"
    least = seeds_for_anytime_p(CLAIM_ALPHA / num_in_question)
    if not any(one.seeds for one in compared):
        return f"there is no fresh seed to tell: it takes at least {least}"
    return f"{seeds} cannot decide anything: it takes at least {least}"


def _evidence(compared: Sequence[Comparison]) -> str:
    """Return e.g. "p <= 0.031, 8 fresh seeds", the largest p of several."""
    sign = "=" if len(compared) == 1 else "<="
    return f"{p_value(max(one.p_holm for one in compared), sign)}, {_num_seeds(compared)}"


def _num_seeds(compared: Sequence[Comparison]) -> str:
    least, most = (pick(len(one.seeds) for one in compared) for pick in (min, max))
    return count_of(most, "fresh seed") if least == most else f"{least} to {most} fresh seeds"


def _side_of(model: str, question: Question) -> Side:
    sides = (side for one in question.comparisons for side in (one.a, one.b))
    return next(side for side in sides if side.model == model)


def _beats_all(config_hash: str, question: Question) -> bool:
    own = [c for c in question.comparisons if config_hash in (c.a.config_hash, c.b.config_hash)]
    return all(one.outcome == "a" and one.a.config_hash == config_hash for one in own)
