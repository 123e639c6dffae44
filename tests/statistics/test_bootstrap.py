import math
import tracemalloc

import numpy as np
import pytest
from crossed_trials import Population, draw_items
from scipy import stats

from sg_ray.errors import InputError
from sg_ray.statistics.bootstrap import (
    PairedDifference,
    compare,
    mean_interval,
    score_interval,
)
from sg_ray.statistics.resampling import ResampledScores, resample_scores
from sg_ray.statistics.scores import Scale, score_function

ACCURACY = score_function("val_accuracy")
ROC_AUC = score_function("val_roc_auc")
ANYTHING = Scale(-math.inf, math.inf)


def trials(num_seeds: int, num_items: int = 300, seed: int = 0, **population):
    rng = np.random.default_rng(seed)
    labels, items = draw_items(num_items, rng)
    return labels, Population(**population).probabilities(labels, items, num_seeds, rng)


def difference_of(labels, a, b, score, *, score_b=None) -> PairedDifference:
    scores_a = resample_scores(labels, a, score, seed=0)
    return compare(scores_a, resample_scores(labels, b, score_b or score, seed=0), score.scale)


def delong_standard_error(labels: np.ndarray, scores: np.ndarray) -> float:
    """DeLong et al. 1988, by the mean over pairs of each item."""
    wins = (scores[labels == 1][:, None] > scores[labels == 0]).astype(float)
    of_positives, of_negatives = wins.mean(axis=1), wins.mean(axis=0)
    return math.sqrt(
        of_positives.var(ddof=1) / len(of_positives) + of_negatives.var(ddof=1) / len(of_negatives)
    )


def test_accuracy_of_one_seed_has_the_quantiles_of_the_binomial():
    labels, probabilities = trials(1)
    interval = score_interval(labels, probabilities, ACCURACY, num_resamples=20_000, seed=1)
    right = stats.binom(300, interval.estimate)
    expected = right.ppf([0.025, 0.975]) / 300
    assert [interval.low, interval.high] == pytest.approx(expected, abs=1 / 300)


def test_roc_auc_of_one_seed_has_delongs_standard_error():
    labels, probabilities = trials(1)
    interval = score_interval(labels, probabilities, ROC_AUC, num_resamples=20_000, seed=1)
    expected = 2 * 1.96 * delong_standard_error(labels, probabilities[0])
    assert interval.high - interval.low == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("num_seeds", [2, 3, 10])
def test_without_a_variance_of_items_it_is_the_t_interval(num_seeds):
    observed = np.random.default_rng(0).normal(0.7, 0.02, num_seeds)
    scores = ResampledScores(observed, np.tile(observed, (4000, 1)))
    interval = mean_interval(scores, ANYTHING)
    expected = stats.ttest_1samp(observed, 0.0).confidence_interval(0.95)
    assert [interval.low, interval.high] == pytest.approx(list(expected), rel=0.01)


def test_seeds_that_agree_exactly_leave_the_interval_of_one():
    labels, probabilities = trials(1)
    one, five = (
        score_interval(labels, np.repeat(probabilities, s, axis=0), ROC_AUC, seed=3) for s in (1, 5)
    )
    assert [five.estimate, five.low, five.high] == pytest.approx(
        [one.estimate, one.low, one.high], abs=1e-12
    )


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
@pytest.mark.parametrize("seed_sd", [0.0, 0.3])
def test_intervals_hold_the_truth_about_as_often_as_stated(num_seeds, seed_sd):
    """400 runs: binomial SD 1.1 percent points. Percentiles over seeds would hold in 80 %."""
    better, worse = Population(0.8, seed_sd), Population(0.6, seed_sd)
    rng = np.random.default_rng(num_seeds)
    held = []
    for run in range(400):
        labels, items = draw_items(150, rng)
        a, b = (
            resample_scores(
                labels,
                population.probabilities(labels, items, num_seeds, rng),
                ACCURACY,
                num_resamples=200,
                seed=run,
            )
            for population in (better, worse)
        )
        of_mean = mean_interval(a, ACCURACY.scale)
        of_difference = compare(a, b, ACCURACY.scale).interval
        gain = better.accuracy - worse.accuracy
        held.append(
            (
                of_mean.low <= better.accuracy <= of_mean.high,
                of_difference.low <= gain <= of_difference.high,
            )
        )
    assert np.mean(held, axis=0) == pytest.approx(0.955, abs=0.03)


def test_the_level_sets_the_width():
    labels, probabilities = trials(4)
    widths = []
    for level in (0.5, 0.9, 0.99):
        interval = score_interval(labels, probabilities, ROC_AUC, level=level, seed=0)
        assert interval.level == level
        assert interval.low < interval.estimate < interval.high
        widths.append(interval.high - interval.low)
    assert widths == sorted(widths)


def test_the_same_seed_gives_the_same_interval():
    labels, probabilities = trials(3)
    first, again, other = (
        score_interval(labels, probabilities, ROC_AUC, num_resamples=200, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_limits_stay_among_the_values_of_the_metric():
    labels = np.array([0, 1] * 20)
    scores = resample_scores(labels, np.where(labels == 1, 0.9, 0.1)[None], ROC_AUC, seed=0)
    perfect = mean_interval(scores, ROC_AUC.scale)
    assert (perfect.low, perfect.high) == (1.0, 1.0)
    nearly = ResampledScores(np.array([1.0, 0.8]), np.tile([1.0, 0.8], (100, 1)))
    assert mean_interval(nearly, ROC_AUC.scale).high == 1.0


def test_resamples_of_one_label_are_left_out():
    labels = np.zeros(30, dtype=np.int8)
    labels[:2] = 1
    probabilities = np.random.default_rng(0).random((3, 30))
    scores = resample_scores(labels, probabilities, ROC_AUC, seed=0)
    undefined = np.isnan(scores.resampled).any(axis=1).mean()
    assert undefined == pytest.approx((28 / 30) ** 30, abs=0.04)
    interval = mean_interval(scores, ROC_AUC.scale)
    assert 0 <= interval.low < interval.high <= 1


def test_pairing_removes_what_both_share():
    rng = np.random.default_rng(0)
    labels, items = draw_items(400, rng)
    a, b = (
        Population(strength, seed_sd=0.02, shared=0.98).probabilities(labels, items, 6, rng)
        for strength in (0.9, 0.7)
    )
    difference = difference_of(labels, a, b, ROC_AUC).interval
    alone = score_interval(labels, a, ROC_AUC, seed=0)
    assert difference.low > 0
    assert difference.high - difference.low < (alone.high - alone.low) / 3
    by_hand = ROC_AUC(labels, a).mean() - ROC_AUC(labels, b).mean()
    assert difference.estimate == pytest.approx(by_hand)


def test_swapping_the_sides_mirrors_the_result():
    labels, a = trials(5, seed=1)
    b = np.clip(a + np.random.default_rng(2).normal(0, 0.1, a.shape), 0, 1)
    forth = difference_of(labels, a, b, ROC_AUC)
    back = difference_of(labels, b, a, ROC_AUC)
    assert forth.interval.estimate == -back.interval.estimate
    assert forth.interval.low == pytest.approx(-back.interval.high, rel=0.1)
    assert forth.probability_better + back.probability_better == pytest.approx(1.0)


def test_a_lower_loss_is_a_positive_difference():
    labels, worse = trials(4)
    better = np.where(labels == 1, 0.9, 0.1) * np.ones_like(worse)
    result = difference_of(labels, better, worse, score_function("val_loss"))
    assert result.interval.low > 0
    assert result.probability_better > 0.999


def test_a_configuration_does_not_beat_itself():
    labels, probabilities = trials(3)
    result = difference_of(labels, probabilities, probabilities, ROC_AUC)
    assert (result.interval.low, result.interval.high) == (0.0, 0.0)
    assert result.probability_better == 0.5


def test_probability_better_counts_a_new_seed_as_the_seeds_at_hand():
    """SD 0.3 around a mean of 0.3: P = Phi(1). Both seeds favour a, and a third may not."""
    observed = 0.3 + np.array([-1.0, 1.0]) * 0.3 / math.sqrt(2)
    a, zero = (ResampledScores(row, np.tile(row, (50, 1))) for row in (observed, np.zeros(2)))
    assert compare(a, zero, ANYTHING).probability_better == pytest.approx(stats.norm.cdf(1.0))


def test_probability_better_is_that_of_a_new_seed_on_new_items():
    """Normal differences: P(a > b) = Phi(mean / SD of seed and items)."""
    rng = np.random.default_rng(0)
    mean, over_seeds, over_items = 0.6, 1.0, 0.8
    observed = stats.norm.ppf((np.arange(400) + 0.5) / 400, mean, over_seeds)
    a = ResampledScores(observed, observed + rng.normal(0, over_items, (4000, 1)))
    zero = ResampledScores(np.zeros(400), np.zeros((4000, 400)))
    expected = stats.norm.cdf(mean / math.hypot(over_seeds, over_items))
    assert compare(a, zero, ANYTHING).probability_better == pytest.approx(expected, abs=0.01)


def test_thresholds_of_each_side():
    labels, a = trials(2)
    at_half = score_function("val_accuracy_at_threshold", [0.5, 0.5])
    at_fifth = score_function("val_accuracy_at_threshold", [0.2, 0.2])
    result = difference_of(labels, a, a, at_half, score_b=at_fifth)
    expected = np.mean(at_half(labels, a) - at_fifth(labels, a))
    assert result.interval.estimate == pytest.approx(expected)
    assert expected > 0


def test_scores_of_some_seeds_are_those_of_their_rows():
    labels, probabilities = trials(5)
    some = resample_scores(labels, probabilities, ROC_AUC, num_resamples=50, seed=0).of_seeds(
        [3, 1]
    )
    alone = resample_scores(labels, probabilities[[3, 1]], ROC_AUC, num_resamples=50, seed=0)
    assert some.observed.tolist() == alone.observed.tolist()
    assert some.resampled.tolist() == alone.resampled.tolist()


def test_a_resample_holds_as_many_items_as_there_are():
    """With labels all 1 and predictions all wrong but one, accuracy counts that item's copies."""
    probabilities = np.zeros((1, 50))
    probabilities[0, 7] = 1.0
    scores = resample_scores(np.ones(50, dtype=int), probabilities, ACCURACY, seed=0)
    copies = scores.resampled[:, 0] * 50
    assert copies == pytest.approx(copies.round())
    expected = stats.binom(50, 1 / 50).pmf(range(4))
    shares = [np.mean(copies.round() == number) for number in range(4)]
    assert shares == pytest.approx(expected.tolist(), abs=0.04)


def test_memory_does_not_grow_with_the_number_of_resamples():
    labels, probabilities = trials(4, num_items=2732)
    tracemalloc.start()
    resample_scores(labels, probabilities, ROC_AUC, num_resamples=600, seed=0)
    peak_mb = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    assert peak_mb < 8  # all weights at once would be 12.5 MB


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_a_level_outside_0_to_1_is_refused(level):
    labels, probabilities = trials(2)
    with pytest.raises(InputError, match="level"):
        score_interval(labels, probabilities, ROC_AUC, level=level, num_resamples=10, seed=0)


def test_what_cannot_be_resampled_is_refused():
    labels, probabilities = trials(2)
    with pytest.raises(InputError, match="num_resamples: 1 give no interval"):
        resample_scores(labels, probabilities, ROC_AUC, num_resamples=1, seed=0)
    with pytest.raises(InputError, match="val_roc_auc has no value"):
        resample_scores(np.ones_like(labels), probabilities, ROC_AUC, seed=0)
    with pytest.raises(InputError, match="cannot be paired"):
        difference_of(labels, probabilities, probabilities[:1], ROC_AUC)
