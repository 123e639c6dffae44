"""The winner on the test split, beside its validation."""

from statistics import fmean

from sg_ray.records.leaderboard import is_number
from sg_ray.records.record import RunRecord
from sg_ray.records.winner_scores import ScoresOnTest, read_scores
from sg_ray.statistics.bootstrap import score_interval
from sg_ray.statistics.scores import score_function
from sg_ray.sweep_folder import TEST_PREDICTIONS, SweepFolder
from sg_ray.training.predictions import read_predictions
from sg_ray.verdict.model import Interval, TestScore
from sg_ray.verdict.predicted import stacked
from sg_ray.verdict.trials import Results, score_of, threshold_of
from sg_ray.verdict.validation_scores import RESAMPLING_SEED


def score_on_test(
    folder: SweepFolder, results: Results, *, measures: bool = True
) -> TestScore | None:
    """Return the winner's test score as test.json has it; None without the file or the metric.

    Validation is that of the same seeds, among them the one on which the winner was chosen: None
    too if one of them is not on record. The interval needs the test predictions of all,
    and ``measures``: that the objective can be measured here.
    """
    found = read_scores(folder)
    if found is None:
        return None
    metric = results.objective.replace("val_", "test_", 1)
    mean = found.metrics.get(metric)
    records = _scored_records(found, results)
    if not is_number(mean) or len(records) < len(found.seeds):
        return None
    scores = [score_of(record, results.objective) for record in records]
    validation_mean = fmean(score for score in scores if score is not None)
    sign = -1.0 if results.lower_is_better else 1.0
    return TestScore(
        model=found.model,
        config_hash=found.config_hash,
        metric=metric,
        mean=mean,
        interval=_interval(folder, records, results.objective) if measures else None,
        validation_mean=validation_mean,
        gap=sign * (validation_mean - mean),
    )


def _scored_records(found: ScoresOnTest, results: Results) -> list[RunRecord]:
    """Return the winner's newest completed record of each seed that was scored, in their order."""
    own = (found.model, found.config_hash)
    newest = {
        str(record.seed): record
        for record in results.records
        if (record.model, record.config_hash) == own
        and str(record.seed) in found.seeds
        and score_of(record, results.objective) is not None
    }
    return [newest[seed] for seed in found.seeds if seed in newest]


def _interval(folder: SweepFolder, records: list[RunRecord], objective: str) -> Interval | None:
    """Return the interval over seeds and functions; one seed says nothing of the next."""
    folders = [folder.trial(record.trial_key) for record in records]
    predicted = stacked(
        [read_predictions(folder / TEST_PREDICTIONS) for folder in folders],
        [threshold_of(record) for record in records],
    )
    if predicted is None or len(records) < 2:
        return None
    found = score_interval(
        predicted.labels,
        predicted.probabilities,
        score_function(objective, predicted.thresholds),
        seed=RESAMPLING_SEED,
    )
    return Interval(low=found.low, high=found.high, level=found.level)
