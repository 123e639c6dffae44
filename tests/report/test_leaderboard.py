import csv
import json
import math
import statistics
from dataclasses import replace
from itertools import permutations

import pytest
from sample_sweep import SEEDS, make_record, sample_records

from sg_ray.records.leaderboard import format_table, rank, ranked_value, write_leaderboard
from sg_ray.report.page.content import read_sweep
from sg_ray.report.page.sections.leaderboard_section import section
from sg_ray.sweep_folder import SweepFolder

SMALL, LARGE, WIDE = {"width": 1}, {"width": 2}, {"width": 3}


def scored(value, config=SMALL, seed=42, family="gnn", **changes):
    metrics = {"val_f1": value, "val_loss": 1 - value, "val_mcc": None}
    return make_record(family, config, seed, **{"metrics": metrics, **changes})


def failed(config=SMALL, seed=42, **changes):
    return make_record("gnn", config, seed, status="failed", **changes)


def widths(rows):
    return [row.configuration.values["width"] for row in rows]


def f1_rank(records, **changes):
    return rank(records, **{"objective": "val_f1", "seeds": SEEDS, **changes})


def test_mean_and_sample_standard_deviation_over_seeds():
    values = (0.70, 0.72, 0.77)
    (row,) = f1_rank([scored(v, seed=s) for v, s in zip(values, SEEDS, strict=True)])
    assert row.means["val_f1"] == pytest.approx(statistics.mean(values))
    assert row.sds["val_f1"] == pytest.approx(statistics.stdev(values))
    assert row.seeds == (7, 42, 2025)
    assert row.means["val_mcc"] is None


def test_learning_rate_in_the_csv_is_the_setting(tmp_path):
    metrics = {"val_f1": 0.7, "scheduled_learning_rate": 1e-9}
    config = {"learning_rate": 5e-4}
    write_leaderboard(tmp_path / "a.csv", f1_rank([scored(0.7, config, metrics=metrics)]))
    with (tmp_path / "a.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["learning_rate"] == "0.0005"
    assert not any(name.startswith("learning_rate_") for name in row)


def test_the_order_of_records_does_not_matter():
    records = [scored(0.7, seed=42), scored(0.8, seed=7), scored(0.75, LARGE, 42), failed(LARGE, 7)]
    expected = f1_rank(records)
    assert all(f1_rank(order) == expected for order in permutations(records))


@pytest.mark.parametrize(("objective", "best"), [("val_f1", 2), ("val_loss", 2)])
def test_each_objective_is_ranked_in_its_direction(objective, best):
    records = [scored(v, c, s) for v, c in ((0.7, SMALL), (0.8, LARGE)) for s in (42, 7)]
    assert widths(f1_rank(records, objective=objective))[0] == best


def test_a_failed_seed_outweighs_a_better_mean():
    records = [
        scored(0.6, SMALL, 42),
        scored(0.6, SMALL, 7),
        scored(0.9, LARGE, 42),
        failed(LARGE, 7),
    ]
    rows = f1_rank(records)
    assert widths(rows) == [1, 2]
    assert (rows[1].seeds, rows[1].failed_seeds) == ((42,), (7,))
    explained = "in the ranking they count as the worst value"
    assert format_table(rows, "val_f1").endswith(explained)
    assert explained not in format_table(rows[:1], "val_f1")


def test_one_failure_of_many_seeds_is_no_verdict():
    seeds = range(10)
    records = [failed(LARGE, 0), *(scored(0.9, LARGE, seed) for seed in seeds[1:])]
    records += [scored(0.7, SMALL, seed) for seed in seeds]
    rows = f1_rank(records, seeds=seeds)
    assert widths(rows) == [2, 1]
    assert ranked_value(rows[0], "val_f1") == pytest.approx(0.9 * 9 / 10)
    by_loss = f1_rank(records, seeds=seeds, objective="val_loss")
    assert widths(by_loss) == [1, 2]  # there is no worst loss to count it as


def test_a_completed_seed_without_the_objective_counts_as_failed():
    records = [scored(0.6, seed=42), scored(0.6, seed=7, metrics={"val_f1": math.nan})]
    assert f1_rank(records)[0].failed_seeds == (7,)


def test_replicated_configurations_shut_out_those_of_search_alone():
    records = [scored(0.6, SMALL, 42), scored(0.6, SMALL, 7), scored(0.9, LARGE, 42)]
    assert widths(f1_rank(records)) == [1]


def test_without_replication_all_that_completed_are_ranked():
    records = [scored(0.6, SMALL), scored(0.9, LARGE), failed(WIDE)]
    rows = f1_rank(records)
    assert widths(rows) == [2, 1]
    assert rows[0].sds["val_f1"] is None


def test_a_family_that_only_failed_does_not_disappear():
    rows = f1_rank([scored(0.6, family="transformer"), failed()])
    assert [row.family for row in rows] == ["transformer", "gnn"]
    assert rows[1].means == {}


def test_pruned_trials_and_unplanned_seeds_do_not_count():
    pruned = make_record("gnn", SMALL, 7, status="pruned")
    assert f1_rank([scored(0.6), pruned, scored(0.99, seed=1)])[0].seeds == (42,)


def test_the_newest_record_of_a_seed_counts():
    old, new = scored(0.5, finished_at_ms=1), scored(0.6, finished_at_ms=2, trial_key="retrained")
    assert f1_rank([new, old])[0].means["val_f1"] == 0.6


def test_test_metrics_go_to_the_configuration_that_was_tested():
    records = [scored(v, c, s) for v, c in ((0.7, SMALL), (0.8, LARGE)) for s in (42, 7)]
    best, other = f1_rank(records)
    tested = {("gnn", other.config_hash): {"test_f1": 0.66}}
    assert [dict(row.test) for row in f1_rank(records, test_metrics=tested)] == [
        {},
        {"test_f1": 0.66},
    ]
    assert best.config_hash != other.config_hash


def test_the_floor_is_a_row_and_is_marked():
    rows = rank(sample_records(), objective="val_roc_auc", seeds=SEEDS)
    assert [row.family for row in rows if row.is_floor] == ["lexical"]
    assert [row.rank for row in rows] == list(range(1, 8))
    table = format_table(rows, "val_roc_auc")
    assert "lexical *" in table
    assert table.isascii()


def test_the_file_reads_back(tmp_path):
    path = tmp_path / "leaderboard.csv"
    records = [scored(0.7), scored(0.8, seed=7), failed(seed=2025)]
    (row,) = f1_rank(records)
    tested = {("gnn", row.config_hash): {"test_f1": math.nan}}
    write_leaderboard(path, f1_rank(records, test_metrics=tested))
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert list(row)[:7] == [
        "rank",
        "name",
        "model",
        "family",
        "config_hash",
        "num_seeds",
        "num_failed",
    ]
    assert (row["num_seeds"], row["num_failed"]) == ("2", "1")
    assert float(row["val_f1_mean"]) == pytest.approx(0.75)
    assert float(row["val_f1_sd"]) == pytest.approx(0.0707107)
    assert (row["val_mcc_mean"], row["test_f1"]) == ("", "")
    assert json.loads(row["config"]) == SMALL


def test_no_records_make_an_empty_board(tmp_path):
    write_leaderboard(tmp_path / "leaderboard.csv", f1_rank([]))
    assert (tmp_path / "leaderboard.csv").read_text() == (
        "rank,name,model,family,config_hash,num_seeds,num_failed,config\n"
    )
    assert "rank" in format_table([], "val_f1")


@pytest.mark.parametrize(("name", "is_explained"), [("gnn lr 5e-3", False), ("gnn +4", True)])
def test_settings_that_a_name_has_no_room_for_are_explained(name, is_explained, tmp_path):
    record = scored(0.7)
    named = record.configuration.model_copy(update={"short_name": name})
    rows = f1_rank([record.model_copy(update={"configuration": named})])
    assert ("+N at a name's end" in format_table(rows, "val_f1")) == is_explained
    sweep = replace(read_sweep(SweepFolder(tmp_path)), rows=rows)
    assert section(sweep).content.hides_settings == is_explained
