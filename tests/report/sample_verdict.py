"""A plausible verdict for any sweep's folder: right in form, its numbers no statistics."""

from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev

from sg_ray.files import write_json
from sg_ray.records.leaderboard import Row
from sg_ray.report.page.content import Sweep, read_sweep
from sg_ray.sweep_folder import SweepFolder
from sg_ray.verdict.model import (
    Comparison,
    Confusion,
    Dropped,
    ExpectedBest,
    Interval,
    Question,
    ReliabilityBin,
    Side,
    Standing,
    TestScore,
    VarianceShares,
    Verdict,
)

HEADLINE = "fusion wins, decided against the floor; against <transformer> it is undecided."
COMMAND = "sg-ray extend demo replicate.max_seeds=12"


def write_sample_verdict(folder: Path) -> Verdict:
    """Write ``verdict.json`` beside the records of a sweep."""
    verdict = make_verdict(read_sweep(SweepFolder(folder)))
    write_json(folder / "verdict.json", verdict)
    return verdict


def make_verdict(sweep: Sweep) -> Verdict:
    """Return a verdict with every part that the model has."""
    standings = [_standing(sweep, row) for row in sweep.rows]
    winners = list({row.model: row for row in reversed(sweep.rows)}.values())[::-1]
    finalists = [row for row in sweep.rows if not row.is_floor]
    last = finalists[-1]
    best = sweep.winner or finalists[0]
    return Verdict(
        sweep=sweep.name,
        objective=sweep.objective,
        alpha=0.05,
        search_seed=42,
        headline=HEADLINE,
        notes=("Based on 4 fresh seeds a finalist.",),
        questions=[_question(sweep, "models", winners), _question(sweep, last.model, finalists)],
        standings=standings,
        dropped=[
            Dropped(
                model=last.model,
                config_hash=last.config_hash,
                after_seeds=2,
                against=next(r.config_hash for r in finalists if r.model == last.model),
                evidence=31.4,
                threshold=10.0,
                difference=-0.0312,
            )
        ],
        test=TestScore(
            model=best.model,
            config_hash=best.config_hash,
            metric="test_roc_auc",
            mean=0.7811,
            interval=Interval(low=0.752, high=0.808),
            validation_mean=0.8032,
            gap=0.0221,
        ),
        expected_best=[_expected_best(family) for family in ("transformer", "gnn", "fusion")],
        variance=[
            VarianceShares(
                model=best.model,
                config_hash=best.config_hash,
                seed_sd=0.0081,
                sampling_sd=0.0125,
                seed_share=0.3,
                sampling_share=0.7,
                init_share=0.2,
                data_order_share=0.1,
            )
        ],
    )


def _values(sweep: Sweep, row: Row) -> dict[int, float]:
    return sweep.seeds_of(row, sweep.objective)


def _standing(sweep: Sweep, row: Row) -> Standing:
    values = _values(sweep, row)
    fresh = {s: v for s, v in values.items() if row.is_floor or s != 42} or values
    mean = fmean(fresh.values()) if fresh else None
    sd = stdev(fresh.values()) if len(fresh) > 1 else None
    half = 0.012 + (sd or 0.0)
    return Standing(
        configuration=row.configuration,
        config_hash=row.config_hash,
        is_floor=row.is_floor,
        dropped_after=2 if row == [r for r in sweep.rows if not r.is_floor][-1] else None,
        seeds=row.seeds,
        fresh_seeds=tuple(fresh),
        failed_seeds=row.failed_seeds,
        mean=mean,
        sd=sd,
        interquartile_mean=mean,
        interval=None if mean is None else Interval(low=mean - half, high=min(1.0, mean + half)),
        selection_gap=None if mean is None or 42 not in values else values[42] - mean,
        ensemble_score=None if mean is None else min(1.0, mean + 0.01),
        flip_share=0.083,
        calibration_error=0.047,
        reliability=_bins(),
        confusion=Confusion(
            true_positives=171.4, false_positives=60.0, false_negatives=68.6, true_negatives=180.0
        ),
        trial_hours=0.02,
    )


def _bins() -> list[ReliabilityBin]:
    counts = (60, 80, 55, 30, 0, 28, 40, 70, 62, 55)
    return [
        ReliabilityBin(
            num_samples=count,
            mean_probability=(number + 0.5) / 10,
            positive_share=min(1.0, max(0.0, 0.1 + 0.8 * (number + 0.3) / 10)),
        )
        for number, count in enumerate(counts)
    ]


def _question(sweep: Sweep, name: str, rows: list[Row]) -> Question:
    own = [row for row in rows if name in ("models", row.model)]
    pairs = list(combinations(own, 2))
    return Question(
        name=name,
        text="Which model is best?" if name == "models" else f"Which {name} is best?",
        comparisons=[_comparison(sweep, a, b, name == "models") for a, b in pairs],
        answer=f"{own[0].model} leads; what is undecided is told below." if own else "Nobody.",
    )


def _comparison(sweep: Sweep, a: Row, b: Row, of_models: bool) -> Comparison:
    ours, theirs = _values(sweep, a), _values(sweep, b)
    seeds = tuple(sorted(set(ours) & set(theirs)))
    differences = [ours[s] - theirs[s] for s in seeds]
    difference = fmean(differences) if differences else None
    half = 0.015 + (stdev(differences) if len(differences) > 1 else 0.02)
    is_decided = difference is not None and difference > half
    hashes = ("", "") if of_models else (a.config_hash, b.config_hash)
    sides = [Side(model=r.model, config_hash=h) for r, h in zip((a, b), hashes, strict=True)]
    verb = "beats" if is_decided else "is not known to beat"
    return Comparison(
        a=sides[0],
        b=sides[1],
        seeds=seeds,
        difference=difference,
        interval=None
        if difference is None
        else Interval(low=difference - half, high=difference + half),
        probability_better=None if difference is None else (0.99 if is_decided else 0.74),
        p_anytime=0.0004 if is_decided else 0.21,
        p_holm=0.0008 if is_decided else 0.42,
        p_permutation=0.0625,
        smallest_p=0.031,
        minimum_detectable_difference=0.0213,
        mcnemar_p=0.0312,
        outcome="a" if is_decided else "undecided",
        more_seeds=None if is_decided else 6,
        more_trial_hours=None if is_decided else 0.24,
        command=None if is_decided else COMMAND,
        sentence=f"{sides[0].name.strip()} {verb} {sides[1].name.strip()} over {len(seeds)} seeds.",
    )


def _expected_best(family: str) -> ExpectedBest:
    top = {"transformer": 0.78, "gnn": 0.75, "fusion": 0.81}[family]
    trials = tuple(range(1, 10))
    return ExpectedBest(
        model=family,
        trials=trials,
        hours=tuple(0.05 * n for n in trials),
        expected=tuple(top - 0.05 / n for n in trials),
    )
