"""verdict.json of whole folders, the odd ones among them."""

from dataclasses import replace

import numpy as np
import pytest
from made_sweep import SEARCH_SEED, MadeSweep, draw_labels, hash_of, probabilities

from sg_ray.cli import main
from sg_ray.report.page.content import read_sweep
from sg_ray.report.page.html import build_report
from sg_ray.statistics.expected_best import expected_best
from sg_ray.statistics.racing import Drop
from sg_ray.sweep_folder import SweepFolder
from sg_ray.verdict import assemble as build
from sg_ray.verdict.assemble import build_verdict, write_verdict
from sg_ray.verdict.model import Verdict
from sg_ray.verdict.trials import read_results
from sg_ray.verdict.words.in_brief import in_brief


def write_predicted_sweep(folder, num_functions=200, num_seeds=3) -> MadeSweep:
    """A whole sweep: a floor, three families of two finalists, a test of the winner."""
    seeds = (SEARCH_SEED, *range(1, num_seeds))
    made = MadeSweep(folder, objective="val_roc_auc", seeds=seeds)
    labels, rng = draw_labels(num_functions), np.random.default_rng(0)
    floor = probabilities(rng, labels, 0.1)
    for seed in seeds:
        made.predict("lexical", "floor", seed, labels, floor)
    for family, strength in (("transformer", 0.5), ("gnn", 0.4), ("fusion", 0.7)):
        for name, more in (("a", 0.0), ("b", 0.05)):
            records = [
                made.predict(
                    family, name, seed, labels, probabilities(rng, labels, strength + more)
                )
                for seed in seeds
            ]
    made.test(records, labels, np.stack([probabilities(rng, labels, 0.6) for _ in seeds]))
    return made


@pytest.fixture
def folder(tmp_path):
    write_predicted_sweep(tmp_path)
    return tmp_path


def test_the_file_holds_everything_and_is_the_same_when_made_again(folder):
    path = write_verdict(SweepFolder(folder))
    first = path.read_bytes()
    assert path == folder / "verdict.json"
    assert first.isascii()
    verdict = Verdict.model_validate_json(first)
    families, *others = verdict.questions
    assert families.name == "models"
    assert {question.name for question in others} == {"transformer", "gnn", "fusion"}
    assert len(families.comparisons) == 6
    assert len(verdict.standings) == 7
    assert all(one.interval is not None for one in verdict.standings)
    assert verdict.test.model == "fusion"
    assert len(verdict.variance) == len(verdict.expected_best) == 3
    assert write_verdict(SweepFolder(folder)).read_bytes() == first


def test_the_page_is_built_from_it(folder):
    verdict = build_verdict(SweepFolder(folder))
    write_verdict(SweepFolder(folder))
    page = build_report(SweepFolder(folder)).read_text(encoding="utf-8")
    assert verdict.headline in page
    assert all(question.answer in page for question in verdict.questions)
    standings = {(one.model, one.config_hash) for one in verdict.standings}
    assert standings == {
        (row.model, row.config_hash) for row in read_sweep(SweepFolder(folder)).rows
    }


def test_the_report_command_makes_it_anew(folder, capsys):
    (folder / "verdict.json").write_text("{")
    assert main(["report", str(folder)]) == 0
    assert "report.html" in capsys.readouterr().out
    verdict = Verdict.model_validate_json((folder / "verdict.json").read_text())
    assert verdict.headline in (folder / "report.html").read_text(encoding="utf-8")


def test_a_sweep_without_any_trial_says_so(tmp_path):
    MadeSweep(tmp_path)
    verdict = build_verdict(SweepFolder(tmp_path))
    assert verdict.headline == "No trial has completed: nothing can be said yet."
    lists = (verdict.questions, verdict.standings, verdict.notes, verdict.variance)
    assert list(map(len, lists)) == [0, 0, 0, 0]
    assert verdict.test is None
    write_verdict(SweepFolder(tmp_path))
    assert verdict.headline in build_report(SweepFolder(tmp_path)).read_text(encoding="utf-8")


@pytest.mark.parametrize("status", ["pruned", "failed"])
def test_a_sweep_in_which_nothing_completed_says_so(tmp_path, status):
    made = MadeSweep(tmp_path)
    score = None if status == "failed" else 0.6
    made.write("gnn", "a", SEARCH_SEED, score, status=status)
    made.add("lexical", "floor", dict.fromkeys((SEARCH_SEED, 1, 2, 3), 0.5))
    verdict = build_verdict(SweepFolder(tmp_path))
    assert verdict.headline == (
        "Only the floor has a score (0.5000): no trial of gnn has completed."
    )
    assert "gnn leads" not in in_brief(verdict, tmp_path)
    write_verdict(SweepFolder(tmp_path))
    assert verdict.headline in build_report(SweepFolder(tmp_path)).read_text(encoding="utf-8")


def test_case_40_the_floor_alone_is_told_with_its_score(tmp_path):
    MadeSweep(tmp_path).add("lexical", "floor", dict.fromkeys((SEARCH_SEED, 1), 0.5))
    assert build_verdict(SweepFolder(tmp_path)).headline == (
        "Only the floor was trained (0.5000): there is no model to compare with it."
    )


def test_case_40_after_failures_only_nobody_leads(tmp_path):
    made = MadeSweep(tmp_path)
    for family in ("gnn", "lexical"):
        made.add(family, "a", dict.fromkeys((SEARCH_SEED, 1, 2), None))
    told = in_brief(build_verdict(SweepFolder(tmp_path)), tmp_path)
    assert told.startswith("No trial has completed: nothing can be said yet.")
    assert not {"leads", "first", "beaten"} & set(told.split())


def test_a_search_that_is_under_way_has_a_verdict(tmp_path):
    made = MadeSweep(tmp_path)
    made.add("lexical", "floor", dict.fromkeys((SEARCH_SEED, 1, 2, 3), 0.5))
    for number in range(5):
        made.add("gnn", str(number), {SEARCH_SEED: 0.6 + 0.01 * number})
    verdict = build_verdict(SweepFolder(tmp_path))
    assert verdict.headline == (
        f"gnn {hash_of('gnn', '4')} leads, but there is no fresh seed to tell: it takes at least 6."
    )
    assert len(verdict.standings) == 6
    assert len(verdict.questions) == 1
    write_verdict(SweepFolder(tmp_path))
    assert verdict.headline in build_report(SweepFolder(tmp_path)).read_text(encoding="utf-8")


def test_one_seed_one_finalist_and_no_floor_is_enough(tmp_path):
    MadeSweep(tmp_path, seeds=(SEARCH_SEED,)).add("gnn", "a", {SEARCH_SEED: 0.6})
    verdict = build_verdict(SweepFolder(tmp_path))
    assert verdict.headline.endswith("has nobody to be compared with.")
    (one,) = verdict.standings
    assert (one.mean, one.fresh_seeds) == (0.6, ())


def test_a_family_that_always_fails_loses(tmp_path):
    seeds = tuple(range(1, 9))
    made = MadeSweep(tmp_path, seeds=(SEARCH_SEED, *seeds))
    made.add("gnn", "a", {SEARCH_SEED: 0.6, **{s: 0.6 + 0.1 * 1.3**s / 8 for s in seeds}})
    made.add("lexical", "floor", dict.fromkeys((SEARCH_SEED, *seeds), 0.5))
    made.add("fusion", "a", dict.fromkeys((SEARCH_SEED, *seeds)))
    verdict = build_verdict(SweepFolder(tmp_path))
    by_pair = {(c.a.model, c.b.model): c for c in verdict.questions[0].comparisons}
    assert by_pair["gnn", "fusion"].difference == by_pair["gnn", "lexical"].difference
    assert any("Failed: fusion" in note for note in verdict.notes)


def test_what_the_race_gave_up_is_listed(folder, monkeypatch):
    results = read_results(SweepFolder(folder))
    name = next(c.row.config_hash for c in reversed(results.contenders) if c.model == "gnn")
    best = next(c.row.config_hash for c in results.contenders if c.model == "gnn")
    drop = Drop(name, best, 2, evidence=12.0, threshold=10.0, difference=0.05)
    contenders = [
        replace(c, row=replace(c.row, dropped=drop)) if c.row.config_hash == name else c
        for c in results.contenders
    ]
    monkeypatch.setattr(build, "read_results", lambda _: replace(results, contenders=contenders))
    verdict = build_verdict(SweepFolder(folder))
    (dropped,) = verdict.dropped
    assert (dropped.config_hash, dropped.against, dropped.after_seeds) == (name, best, 2)
    assert (dropped.evidence, dropped.threshold, dropped.difference) == (12.0, 10.0, -0.05)
    standing = next(one for one in verdict.standings if one.config_hash == name)
    assert standing.dropped_after == 2


def test_the_expected_best_is_over_completed_and_pruned_trials_at_the_cost_of_all(tmp_path):
    made = MadeSweep(tmp_path, objective="val_loss")
    made.write("gnn", "a", SEARCH_SEED, 0.5)
    made.write("gnn", "b", SEARCH_SEED, 0.7, status="pruned", train_time_s=1800.0)
    made.write("gnn", "c", SEARCH_SEED, None, train_time_s=900.0)
    made.add("gnn", "a", {1: 0.1})
    (curve,) = build_verdict(SweepFolder(tmp_path)).expected_best
    assert curve.trials == (1, 2)
    assert curve.expected == pytest.approx(expected_best([0.5, 0.7], lower_is_better=True))
    assert curve.hours == pytest.approx((1.75 / 3, 3.5 / 3))


def test_a_claim_about_seeds_is_told_apart_from_one_about_functions(tmp_path):
    """One function of 60 makes the difference, with every seed: sure of seeds, not of functions."""
    seeds = (SEARCH_SEED, *range(1, 10))
    made = MadeSweep(tmp_path, seeds=seeds)
    labels = draw_labels(60)
    floor = np.where(np.arange(60) < 20, 1.0 - labels, labels)  # 40 right
    better = floor.copy()
    better[0] = labels[0]
    for seed in seeds:
        made.predict("lexical", "floor", seed, labels, floor)
        made.predict("gnn", "a", seed, labels, better)
    verdict = build_verdict(SweepFolder(tmp_path))
    (comparison,) = verdict.questions[0].comparisons
    assert comparison.outcome == "a"
    assert comparison.interval.low <= 0 < comparison.interval.high
    assert any("Some intervals hold 0 where p is decided" in note for note in verdict.notes)
