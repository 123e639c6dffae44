"""How each configuration stands over its seeds, and where the variance of its score comes from."""

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import fmean

import numpy as np

from sg_ray.records.record import RunRecord
from sg_ray.statistics.bootstrap import mean_interval
from sg_ray.statistics.calibration import expected_calibration_error, reliability
from sg_ray.statistics.decisions import ensemble, flip_share
from sg_ray.statistics.scores import Score
from sg_ray.statistics.seed_summaries import interquartile_mean, sample_sd
from sg_ray.statistics.variance import SeedVarianceSplit, split_seed_variance, split_variance
from sg_ray.training.metrics import confusion
from sg_ray.verdict.model import Confusion, Interval, ReliabilityBin, Standing, VarianceShares
from sg_ray.verdict.predicted import PredictedSeeds, predicted_seeds
from sg_ray.verdict.trials import Contender, Results, Trial, score_of
from sg_ray.verdict.validation_scores import ValidationScores


def standing(contender: Contender, scores: ValidationScores, objective: str) -> Standing:
    """Return how a configuration stands; what needs predictions of all its seeds may be None."""
    values = values_of(contender.judged)
    row, measurable = contender.row, None if scores.unmeasured else objective
    return Standing(
        configuration=row.configuration,
        config_hash=row.config_hash,
        is_floor=row.is_floor,
        dropped_after=None if row.dropped is None else row.dropped.after_seeds,
        seeds=_seeds(contender.trials, failed=False),
        fresh_seeds=_seeds(contender.fresh, failed=False),
        failed_seeds=_seeds(contender.trials, failed=True),
        mean=fmean(values) if values else None,
        sd=sample_sd(values) if len(values) > 1 else None,
        interquartile_mean=interquartile_mean(values) if values else None,
        interval=_interval(contender, scores),
        selection_gap=_selection_gap(contender),
        trial_hours=contender.trial_hours,
    ).model_copy(update=_decisions(predicted_seeds(contender.judged), measurable))


def values_of(trials: Sequence[Trial]) -> list[float]:
    """Return the scores of the trials that have one."""
    return [trial.score for trial in trials if trial.score is not None]


def variance_shares(
    results: Results, scores: ValidationScores, contenders: Sequence[Contender]
) -> Iterator[VarianceShares]:
    """Yield where the variance comes from, for those with predictions of several fresh seeds."""
    for contender in contenders:
        resampled = scores.of(contender.judged)
        split = None if resampled is None else split_variance(resampled)
        if split is None:
            continue
        streams = _seed_split(results, contender)
        yield VarianceShares(
            model=contender.model,
            config_hash=contender.row.config_hash,
            seed_sd=split.seed_sd,
            sampling_sd=split.sampling_sd,
            seed_share=split.seed_share,
            sampling_share=split.sampling_share,
            init_share=streams.init_share * split.seed_share if streams else None,
            data_order_share=streams.data_order_share * split.seed_share if streams else None,
        )


def _seeds(trials: Sequence[Trial], *, failed: bool) -> tuple[int, ...]:
    return tuple(trial.seed for trial in trials if (trial.score is None) == failed)


def _interval(contender: Contender, scores: ValidationScores) -> Interval | None:
    """Return the interval over seeds and functions; one seed says nothing of the next."""
    resampled = scores.of(contender.judged)
    if resampled is None or resampled.num_seeds < 2:
        return None
    found = mean_interval(resampled, scores.scale)
    return Interval(low=found.low, high=found.high, level=found.level)


def _selection_gap(contender: Contender) -> float | None:
    """Return the score on the search's seed minus the mean of the fresh ones."""
    chosen_on = [trial for trial in contender.trials if trial.seed == contender.chosen_on]
    searched, fresh = values_of(chosen_on), values_of(contender.fresh)
    return searched[0] - fmean(fresh) if searched and fresh else None


def _decisions(predicted: PredictedSeeds | None, objective: str | None) -> dict[str, object]:
    """Return the fields of a Standing that need predictions; none without them.

    ``objective`` is None if it cannot be measured.
    """
    if predicted is None:
        return {}
    labels, rows = predicted.labels, predicted.probabilities
    pooled = reliability(np.tile(labels, len(rows)), rows.ravel())
    return {
        "ensemble_score": _ensemble_score(predicted, objective),
        "flip_share": flip_share(predicted.decisions) if len(rows) > 1 else None,
        "calibration_error": fmean(expected_calibration_error(labels, row) for row in rows),
        "reliability": tuple(
            ReliabilityBin(
                num_samples=one.num_samples,
                mean_probability=one.mean_probability,
                positive_share=one.positive_share,
            )
            for one in pooled
        ),
        "confusion": _mean_confusion(predicted),
    }


def _ensemble_score(predicted: PredictedSeeds, objective: str | None) -> float | None:
    """Return the objective of the mean probability; a tuned threshold is each seed's own."""
    if len(predicted.probabilities) < 2 or objective is None or Score(objective).needs_thresholds:
        return None
    mean = ensemble(predicted.probabilities)[None]
    return float(Score(objective)(predicted.labels, mean)[0, 0])


def _mean_confusion(predicted: PredictedSeeds) -> Confusion:
    counts = [confusion(predicted.labels, decided) for decided in predicted.decisions]
    return Confusion(
        true_positives=fmean(float(one.true_positives) for one in counts),
        false_positives=fmean(float(one.false_positives) for one in counts),
        false_negatives=fmean(float(one.false_negatives) for one in counts),
        true_negatives=fmean(float(one.true_negatives) for one in counts),
    )


def _seed_split(results: Results, contender: Contender) -> SeedVarianceSplit | None:
    """Split the variance over seeds by trials that vary one stream each of the same seed."""
    variants = [
        record
        for record in results.variants
        if (record.model, record.config_hash) == (contender.model, contender.row.config_hash)
    ]
    num_variants = Counter(record.seed for record in variants)
    base = max(contender.trials, key=lambda trial: num_variants[trial.seed])
    init, order = (
        [*values_of([base]), *_varying(variants, base.seed, stream, results.objective)]
        for stream in ("init", "order")
    )
    return split_seed_variance(init, order)


def _varying(
    variants: Sequence[RunRecord], seed: int, stream: str, objective: str
) -> Iterator[float]:
    for record in variants:
        score = score_of(record, objective)
        if record.seed == seed and set(record.streams) == {stream} and score is not None:
            yield score
