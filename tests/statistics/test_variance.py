import numpy as np
import pytest
from crossed_trials import Population, draw_items

from sg_ray.statistics.resampling import ResampledScores, resample_scores
from sg_ray.statistics.scores import score_function
from sg_ray.statistics.variance import SeedVarianceSplit, split_seed_variance, split_variance

ACCURACY = score_function("val_accuracy")
NUM_ITEMS = 150


def true_variances(population: Population) -> tuple[float, float]:
    """Return (seed, sampling) by brute force: pairs of seeds on 10,000 samples of items."""
    rng = np.random.default_rng(100)
    pairs = []
    for _ in range(10_000):
        labels, items = draw_items(NUM_ITEMS, rng)
        pairs.append(ACCURACY(labels, population.probabilities(labels, items, 2, rng))[0])
    first, second = np.transpose(pairs)
    return float(np.mean((first - second) ** 2) / 2), float(np.cov(first, second)[0, 1])


@pytest.mark.parametrize("num_seeds", [2, 5])
@pytest.mark.parametrize(
    "population", [Population(0.8, seed_sd=0.3, shared=0.9), Population(0.8, 0.1, 0.5)]
)
def test_both_parts_are_right_on_average(population, num_seeds):
    rng = np.random.default_rng(num_seeds)
    parts = []
    for run in range(200):
        labels, items = draw_items(NUM_ITEMS, rng)
        probabilities = population.probabilities(labels, items, num_seeds, rng)
        scores = resample_scores(labels, probabilities, ACCURACY, num_resamples=200, seed=run)
        parts.append((scores.variance_parts().over_seeds, scores.variance_parts().items))
    seed_variance, sampling_variance = np.mean(parts, axis=0)
    true_seed, true_sampling = true_variances(population)
    assert seed_variance == pytest.approx(true_seed, rel=0.25)
    assert sampling_variance == pytest.approx(true_sampling, rel=0.1)


def test_shares_add_up_and_belong_to_the_sds():
    rng = np.random.default_rng(0)
    labels, items = draw_items(NUM_ITEMS, rng)
    probabilities = Population().probabilities(labels, items, 5, rng)
    scores = resample_scores(labels, probabilities, ACCURACY, seed=0)
    split = split_variance(scores)
    assert split.seed_sd == pytest.approx(scores.observed.std(ddof=1))
    assert split.seed_share + split.sampling_share == pytest.approx(1.0)
    ratio = (split.seed_sd / split.sampling_sd) ** 2
    assert split.seed_share / split.sampling_share == pytest.approx(ratio)


def test_a_sampling_part_below_0_is_0():
    """Items move the seeds in opposite directions: all that is theirs is interaction."""
    change = np.random.default_rng(0).normal(0, 0.01, 500)
    resampled = 0.7 + np.stack([change, -change], axis=1)
    split = split_variance(ResampledScores(np.array([0.7, 0.72]), resampled))
    assert (split.sampling_sd, split.sampling_share, split.seed_share) == (0.0, 0.0, 1.0)


def test_one_seed_and_no_variance_have_no_shares():
    same = np.full((10, 3), 0.5)
    assert split_variance(ResampledScores(same[0], same)) is None
    assert (
        split_variance(ResampledScores(np.ones(1), np.random.default_rng(0).random((9, 1)))) is None
    )


def test_streams_share_the_variance_of_seeds():
    # Variances 1 and 4.
    assert split_seed_variance([1.0, 2.0, 3.0], [0.0, 2.0, 4.0]) == SeedVarianceSplit(0.2, 0.8)
    assert split_seed_variance([1.0, 1.0], [0.0, 2.0]) == SeedVarianceSplit(0.0, 1.0)


@pytest.mark.parametrize(
    ("init", "order"), [([1.0], [1.0, 2.0]), ([1.0, 1.0], [2.0, 2.0]), ([], [])]
)
def test_too_few_or_equal_values_split_nothing(init, order):
    assert split_seed_variance(init, order) is None
