"""How a configuration stands, against numbers that are computed here by other means."""

from itertools import combinations

import numpy as np
import pytest
from made_sweep import SEARCH_SEED, MadeSweep, draw_labels, probabilities
from scipy import stats
from sklearn.metrics import confusion_matrix, roc_auc_score

from sg_ray.sweep_folder import SweepFolder
from sg_ray.verdict.standings import standing, variance_shares
from sg_ray.verdict.trials import read_results
from sg_ray.verdict.validation_scores import resample_validation

FRESH = (1, 2, 3)


def stood(folder, place=0):
    results = read_results(folder)
    return standing(results.contenders[place], resample_validation(results), results.objective)


def shares(folder):
    results = read_results(folder)
    return list(variance_shares(results, resample_validation(results), results.contenders))


@pytest.fixture
def predicted(tmp_path):
    """A finalist with predictions of every seed, and a floor that is the same for all."""
    made = MadeSweep(tmp_path, objective="val_roc_auc", seeds=(SEARCH_SEED, *FRESH, 4))
    labels, rng, rows = draw_labels(300), np.random.default_rng(1), {}
    for seed in (SEARCH_SEED, *FRESH):
        rows[seed] = probabilities(rng, labels, 0.6 + rng.normal(0, 0.1))
        made.predict("gnn", "a", seed, labels, rows[seed], threshold=0.45)
    floor = probabilities(rng, labels, 0.1)
    for seed in (SEARCH_SEED, *FRESH):
        made.predict("lexical", "floor", seed, labels, floor)
    return made, labels, rows


def test_means_are_over_fresh_seeds_and_the_gap_is_the_searchs_luck(tmp_path):
    made = MadeSweep(tmp_path, seeds=(SEARCH_SEED, 1, 2, 3, 4, 5))
    made.add("gnn", "a", {SEARCH_SEED: 0.9, 1: 0.7, 2: 0.6, 3: None, 4: 0.71, 5: 0.2})
    one = stood(SweepFolder(tmp_path))
    fresh = [0.7, 0.6, 0.71, 0.2]
    assert one.fresh_seeds == (1, 2, 4, 5)
    assert one.seeds == (SEARCH_SEED, 1, 2, 4, 5)
    assert one.failed_seeds == (3,)
    assert one.mean == pytest.approx(np.mean(fresh))
    assert one.sd == pytest.approx(np.std(fresh, ddof=1))
    assert one.interquartile_mean == pytest.approx((0.6 + 0.7) / 2)
    assert one.selection_gap == pytest.approx(0.9 - np.mean(fresh))
    assert one.trial_hours == 1.0
    assert (one.interval, one.ensemble_score, one.flip_share, one.confusion) == (None,) * 4
    assert (one.calibration_error, one.reliability) == (None, ())


def test_all_seeds_of_the_floor_are_fresh(tmp_path):
    MadeSweep(tmp_path).add("lexical", "floor", {SEARCH_SEED: 0.5, 1: 0.7})
    one = stood(SweepFolder(tmp_path))
    assert one.is_floor
    assert one.fresh_seeds == (SEARCH_SEED, 1)
    assert one.mean == pytest.approx(0.6)
    assert one.selection_gap is None


def test_without_fresh_seeds_the_searchs_seed_is_all_there_is(tmp_path):
    MadeSweep(tmp_path).add("gnn", "a", {SEARCH_SEED: 0.9, 1: None})
    one = stood(SweepFolder(tmp_path))
    assert one.fresh_seeds == ()
    assert (one.mean, one.sd, one.selection_gap) == (0.9, None, None)


def test_a_configuration_that_always_failed_has_no_mean(tmp_path):
    MadeSweep(tmp_path).add("gnn", "a", {SEARCH_SEED: None, 1: None})
    one = stood(SweepFolder(tmp_path))
    assert (one.mean, one.sd, one.interquartile_mean) == (None, None, None)
    assert set(one.failed_seeds) == {SEARCH_SEED, 1}


def test_the_interval_is_over_seeds_and_functions(predicted):
    made, labels, rows = predicted
    one = stood(made.folder)
    values = [roc_auc_score(labels, rows[seed]) for seed in FRESH]
    assert one.mean == pytest.approx(np.mean(values))
    rng = np.random.default_rng(3)
    moved = []
    for _ in range(400):
        drawn = rng.integers(len(labels), size=len(labels))
        moved.append(np.mean([roc_auc_score(labels[drawn], rows[s][drawn]) for s in FRESH]))
    errors = stats.t.rvs(2, size=400, random_state=1) * stats.sem(values)
    low, high = np.quantile(moved + errors, [0.025, 0.975])
    assert (one.interval.low, one.interval.high) == pytest.approx((low, high), abs=0.03)


def test_decisions_are_those_at_the_tuned_thresholds_of_the_fresh_seeds(predicted):
    made, labels, rows = predicted
    one = stood(made.folder)
    decided = [rows[seed] >= 0.45 for seed in FRESH]
    flips = np.mean([np.mean(x != y) for x, y in combinations(decided, 2)])
    assert one.flip_share == pytest.approx(flips)
    mean = np.mean([rows[seed] for seed in FRESH], axis=0)
    assert one.ensemble_score == pytest.approx(roc_auc_score(labels, mean))
    counts = np.mean([confusion_matrix(labels, one_of) for one_of in decided], axis=0)
    found = one.confusion
    assert [
        [found.true_negatives, found.false_positives],
        [found.false_negatives, found.true_positives],
    ] == pytest.approx(counts)


def test_calibration_is_the_mean_over_seeds_and_bins_hold_all_of_them(predicted):
    made, labels, rows = predicted
    one = stood(made.folder)
    errors = []
    for seed in FRESH:
        bins = np.ceil(rows[seed] * 15)
        errors.append(
            sum(abs(rows[seed][bins == b].sum() - labels[bins == b].sum()) for b in np.unique(bins))
            / len(labels)
        )
    assert one.calibration_error == pytest.approx(np.mean(errors))
    assert sum(part.num_samples for part in one.reliability) == 3 * len(labels)
    positives = sum(part.num_samples * part.positive_share for part in one.reliability)
    assert positives == pytest.approx(3 * labels.sum())


def test_a_seed_without_predictions_leaves_only_what_records_tell(predicted):
    made, _, _ = predicted
    made.add("gnn", "a", {4: 0.7})
    one = stood(made.folder)
    assert one.fresh_seeds == (*FRESH, 4)
    assert one.sd is not None
    assert (one.interval, one.confusion, one.flip_share) == (None, None, None)


def test_predictions_of_other_functions_do_not_count(predicted):
    made, labels, rows = predicted
    made.predict("gnn", "a", 3, 1 - labels, rows[3])
    one = stood(made.folder, place=0)
    assert one.interval is None
    assert one.confusion is None


def test_a_tuned_threshold_has_no_ensemble(tmp_path):
    made = MadeSweep(tmp_path, objective="val_f1_at_threshold")
    labels, rng = draw_labels(200), np.random.default_rng(0)
    for seed in (SEARCH_SEED, *FRESH):
        made.predict("gnn", "a", seed, labels, probabilities(rng, labels, 1.0), threshold=0.3)
    one = stood(SweepFolder(tmp_path))
    assert one.ensemble_score is None
    assert one.interval.low < one.mean < one.interval.high


def test_the_variance_is_split_into_seeds_and_functions(predicted):
    made, labels, rows = predicted
    gnn, floor = shares(made.folder)
    values = [roc_auc_score(labels, rows[seed]) for seed in FRESH]
    assert gnn.seed_sd == pytest.approx(np.std(values, ddof=1))
    assert gnn.seed_share + gnn.sampling_share == pytest.approx(1)
    assert gnn.seed_share == pytest.approx(gnn.seed_sd**2 / (gnn.seed_sd**2 + gnn.sampling_sd**2))
    assert (gnn.init_share, gnn.data_order_share) == (None, None)
    assert (floor.seed_share, floor.sampling_share) == (0, 1)


def test_trials_that_vary_one_stream_split_the_share_of_the_seeds(predicted):
    made, labels, rows = predicted
    base = roc_auc_score(labels, rows[1])
    varied = {"init": [base + 0.02, base - 0.01], "order": [base + 0.01, base]}
    for stream, values in varied.items():
        for number, value in enumerate(values):
            made.write("gnn", "a", 1, value, stage="variance", streams={stream: 100 + number})
    made.write("gnn", "a", 1, None, stage="variance", streams={"init": 200})
    made.write("gnn", "b", 1, 0.1, stage="variance", streams={"init": 200})
    gnn = shares(made.folder)[0]
    init, order = (np.var([base, *values], ddof=1) for values in varied.values())
    assert gnn.init_share == pytest.approx(gnn.seed_share * init / (init + order))
    assert gnn.init_share + gnn.data_order_share == pytest.approx(gnn.seed_share)
    assert stood(made.folder).seeds == (SEARCH_SEED, *FRESH)
