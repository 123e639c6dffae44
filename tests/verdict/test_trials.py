"""What is read from a sweep's folder, and which seeds two configurations have in common."""

import numpy as np
import pytest
from made_sweep import SEARCH_SEED, MadeSweep, draw_labels, hash_of, probabilities

from sg_ray.errors import InputError
from sg_ray.sweep_folder import SweepFolder
from sg_ray.verdict.trials import read_results


@pytest.fixture
def made(tmp_path) -> MadeSweep:
    return MadeSweep(tmp_path)


def contender(results, family, name):
    wanted = (family, hash_of(family, name))
    return next(c for c in results.contenders if (c.model, c.row.config_hash) == wanted)


def test_contenders_are_the_leaderboards_rows_with_their_trials_in_the_order_of_seeds(made):
    made.add("gnn", "a", {3: 0.7, 1: None, SEARCH_SEED: 0.8, 2: 0.6})
    made.add("lexical", "floor", {SEARCH_SEED: 0.5, 2: 0.5, 1: 0.5})
    results = read_results(made.folder)
    assert [c.model for c in results.contenders] == ["gnn", "lexical"]
    gnn = contender(results, "gnn", "a")
    assert [trial.seed for trial in gnn.trials] == [SEARCH_SEED, 1, 2, 3]
    assert [trial.score for trial in gnn.fresh] == [None, 0.6, 0.7]
    assert [trial.score for trial in gnn.judged] == [0.6, 0.7]
    floor = contender(results, "lexical", "floor")
    assert [trial.seed for trial in floor.fresh] == [SEARCH_SEED, 1, 2]


def test_extra_seeds_come_after_the_planned_ones(tmp_path):
    made = MadeSweep(tmp_path, replicate={"seeds": [SEARCH_SEED, 7], "max_seeds": 4})
    made.add("gnn", "a", {2: 0.6, SEARCH_SEED: 0.8, 1: 0.7, 7: 0.7})
    results = read_results(made.folder)
    assert results.seeds == (SEARCH_SEED, 7, 1, 2)
    assert [trial.seed for trial in contender(results, "gnn", "a").fresh] == [7, 1, 2]


def test_what_the_race_dropped_is_told_as_the_leaderboard_has_it(tmp_path):
    seeds = [SEARCH_SEED, 1, 2, 3, 4, 5]
    made = MadeSweep(tmp_path, seeds=seeds)
    made.add("gnn", "a", {seed: 0.8 + seed / 1000 for seed in seeds})
    made.add("gnn", "b", {seed: 0.5 - seed / 1000 for seed in seeds[:5]})
    results = read_results(made.folder)
    assert contender(results, "gnn", "a").is_in_race
    dropped = contender(results, "gnn", "b").row.dropped
    assert dropped is not None
    assert dropped.after_seeds == 4
    without = MadeSweep(tmp_path, replicate={"seeds": seeds, "race_alpha": None})
    assert contender(read_results(without.folder), "gnn", "b").is_in_race


def test_a_seed_counts_once_both_have_all_before_it(made):
    made.add("gnn", "a", {SEARCH_SEED: 0.8, 1: 0.7, 2: 0.7, 3: 0.7})
    made.add("gnn", "b", {SEARCH_SEED: 0.8, 1: None, 3: 0.6})
    results = read_results(made.folder)
    a, b = contender(results, "gnn", "a"), contender(results, "gnn", "b")
    assert results.common_seeds(a, b) == (1,)
    made.add("gnn", "b", {2: 0.6})
    results = read_results(made.folder)
    a, b = contender(results, "gnn", "a"), contender(results, "gnn", "b")
    assert results.common_seeds(a, b) == (1, 2, 3)


def test_finalists_have_fresh_seeds_and_a_family_without_any_has_its_best(made):
    for name, score in (("a", 0.7), ("b", 0.8), ("c", 0.75)):
        made.add("gnn", name, {SEARCH_SEED: score})
        made.add("fusion", name, {SEARCH_SEED: score})
    made.add("fusion", "a", {1: 0.7})
    made.add("fusion", "c", {1: 0.9})
    models = read_results(made.folder).models
    assert [c.row.configuration.values["name"] for c in models["gnn"]] == ["b"]
    assert [c.row.configuration.values["name"] for c in models["fusion"]] == ["c", "a"]


def test_trials_that_vary_one_stream_and_pruned_ones_are_no_seeds(made):
    made.add("gnn", "a", {SEARCH_SEED: 0.8, 1: 0.7})
    made.write("gnn", "a", 1, 0.1, stage="variance", streams={"init": 8})
    made.write("gnn", "b", SEARCH_SEED, 0.9, status="pruned")
    results = read_results(made.folder)
    (gnn,) = results.contenders
    assert [trial.score for trial in gnn.trials] == [0.8, 0.7]
    assert [record.streams for record in results.variants] == [{"init": 8}]


def test_hours_are_multiplied_by_gpus_where_a_trial_used_any(tmp_path):
    made = MadeSweep(
        tmp_path,
        resources={"gpus": 1, "num_workers": 2},
        models={"gnn": {"resources": {"gpus": 0.25}}},
    )
    cuda = {"device": "cuda"}
    made.add("gnn", "a", {SEARCH_SEED: 0.8, 1: 0.7}, environment=cuda)
    made.add("fusion", "a", {SEARCH_SEED: 0.8, 1: 0.7}, environment=cuda)
    made.add("transformer", "a", {SEARCH_SEED: 0.8, 1: 0.7}, train_time_s=1800.0)
    contenders = {c.model: c for c in read_results(SweepFolder(tmp_path)).contenders}
    hours = {family: contender.trial_hours for family, contender in contenders.items()}
    assert hours == {"gnn": 0.25, "fusion": 2.0, "transformer": 0.5}
    assert not contenders["transformer"].uses_gpu
    assert contenders["gnn"].uses_gpu


def test_predictions_and_thresholds_come_with_the_trials(made):
    labels = draw_labels(50)
    rows = probabilities(np.random.default_rng(0), labels, 1.0)
    made.predict("gnn", "a", SEARCH_SEED, labels, rows, threshold=0.3)
    made.add("gnn", "a", {1: 0.7})
    first, second = read_results(made.folder).contenders[0].trials
    np.testing.assert_array_equal(first.predictions.probabilities, rows)
    assert first.threshold == 0.3
    assert second.predictions is None
    assert second.threshold == 0.5


def test_a_folder_without_settings_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"sweep\.yaml: no such file"):
        read_results(SweepFolder(tmp_path))
