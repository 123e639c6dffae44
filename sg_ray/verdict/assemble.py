"""From a sweep's folder to its verdict."""

from collections.abc import Iterator
from pathlib import Path

from sg_ray.files import write_json
from sg_ray.records.leaderboard import is_number
from sg_ray.records.race import CLAIM_ALPHA
from sg_ray.statistics.expected_best import expected_best_curve
from sg_ray.sweep_folder import SweepFolder
from sg_ray.verdict.comparisons import questions
from sg_ray.verdict.held_out import score_on_test
from sg_ray.verdict.model import Dropped, ExpectedBest, Verdict
from sg_ray.verdict.standings import standing, variance_shares
from sg_ray.verdict.teams import Team
from sg_ray.verdict.trials import Results, cost_hours, read_results
from sg_ray.verdict.validation_scores import resample_validation
from sg_ray.verdict.words.conclusions import headline
from sg_ray.verdict.words.notes import notes


def write_verdict(folder: SweepFolder) -> Path:
    """Write verdict.json into a sweep's folder, atomically; return its path.

    Raises InputError as ``build_verdict`` does.
    """
    path = folder.verdict
    write_json(path, build_verdict(folder))
    return path


def build_verdict(folder: SweepFolder) -> Verdict:
    """Return what a sweep's folder says, and how sure that is. The sweep need not be finished.

    The same files give the same verdict. Raises InputError that names the file if sweep.yaml, a
    record or a file of predictions is missing or not valid.
    """
    results = read_results(folder)
    scores = resample_validation(results)
    asked = questions(results, scores)
    standings = [standing(one, scores, results.objective) for one in results.contenders]
    best = [Team(tuple(members)).best for members in results.models.values()]
    models = [contender for contender in best if not contender.row.is_floor]
    first = headline(results, asked)
    return Verdict(
        sweep=results.sweep,
        objective=results.objective,
        alpha=CLAIM_ALPHA,
        search_seed=results.search_seed,
        headline=first.text,
        headline_answers=first.answers,
        questions=asked,
        standings=standings,
        dropped=list(_dropped(results)),
        test=score_on_test(folder, results, measures=not scores.unmeasured),
        expected_best=list(_expected_best(results)),
        variance=list(variance_shares(results, scores, models)),
        notes=list(notes(results, asked, standings, scores.unmeasured)),
    )


def _dropped(results: Results) -> Iterator[Dropped]:
    """Yield what the race gave up, best first."""
    for contender in results.contenders:
        drop = contender.row.dropped
        if drop is None:
            continue
        yield Dropped(
            model=contender.model,
            config_hash=contender.row.config_hash,
            after_seeds=drop.after_seeds,
            against=drop.against,
            evidence=drop.evidence,
            threshold=drop.threshold,
            difference=-drop.difference,
        )


def _expected_best(results: Results) -> Iterator[ExpectedBest]:
    """Yield the curve of each model that was searched, over the trials that have a value.

    A pruned trial counts with the best that it reached: it was given up as one that would not win.
    """
    for model in dict.fromkeys(record.model for record in results.records):
        searched = [r for r in results.records if r.model == model and r.stage == "search"]
        values = [
            value
            for record in searched
            if record.status != "failed"
            and is_number(value := record.metrics.get(results.objective))
        ]
        if not values:
            continue
        curve = expected_best_curve(
            values,
            [cost_hours(results.takes, record) for record in searched],
            lower_is_better=results.lower_is_better,
        )
        yield ExpectedBest(
            model=model, trials=curve.trials, hours=curve.hours, expected=curve.expected
        )
