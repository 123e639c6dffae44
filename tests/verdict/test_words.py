"""What is said about comparisons, questions and the sweep."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from made_sweep import SEARCH_SEED, MadeSweep, hash_of

from sg_ray.sweep_folder import SweepFolder
from sg_ray.verdict.assemble import build_verdict
from sg_ray.verdict.words.in_brief import in_brief
from sg_ray.verdict.words.sentences import duration, listed, metric_name, p_value

SEEDS = tuple(range(1, 11))


def level(base: float, num_fresh: int = 10, *, spread: float = 0.001) -> dict[int, float]:
    """Scores around ``base``: the search's seed is the luckiest, fresh ones alternate."""
    moves = spread * (-1.0) ** np.arange(num_fresh)
    fresh = {seed: base + float(move) for seed, move in zip(SEEDS, moves, strict=False)}
    return {SEARCH_SEED: base + 0.005, **fresh}


def growing(base: float) -> dict[int, float]:
    """Scores that differ more and more from ``base``: the clearest of wins."""
    steps = {seed: base + 0.01 * 1.5**place for place, seed in enumerate(SEEDS)}
    return {SEARCH_SEED: base + 0.3, **steps}


@pytest.fixture
def made(tmp_path) -> MadeSweep:
    return MadeSweep(tmp_path, seeds=(SEARCH_SEED, *SEEDS))


def said(made: MadeSweep) -> dict[str, str]:
    """Each comparison's sentence by its two families."""
    verdict = build_verdict(made.folder)
    return {
        f"{one.a.model} {one.b.model}": one.sentence
        for question in verdict.questions
        for one in question.comparisons
    }


def test_a_win_is_told_with_its_size_p_and_seeds(made):
    made.add("gnn", "a", growing(0.1))
    made.add("lexical", "floor", level(0.1))
    told = said(made)["gnn lexical"]
    assert told.startswith(
        f"gnn {hash_of('gnn', 'a')} beats the floor: +11.3 points accuracy, p = "
    )
    assert told.endswith(" (Holm), 10 seeds.")


def test_the_floor_wins_with_a_capital(made):
    made.add("gnn", "a", level(0.1))
    made.add("lexical", "floor", growing(0.1))
    assert said(made)["lexical gnn"].startswith("The floor beats gnn ")
    verdict = build_verdict(made.folder)
    assert verdict.questions[0].answer.startswith("The floor beats gnn (p = ")
    assert verdict.headline == (
        f"gnn {hash_of('gnn', 'a')} is the best-ranked model, but the floor beats it "
        f"({p_value(verdict.questions[0].comparisons[0].p_holm)}, 10 fresh seeds)."
    )


def test_what_is_open_is_told_with_what_would_close_it(tmp_path):
    made = MadeSweep(tmp_path, seeds=(SEARCH_SEED, *SEEDS))
    moves = [0.012, -0.004, 0.009, 0.011, -0.003, 0.007, 0.002, 0.01, -0.006, 0.008]
    fresh = {seed: 0.7 + move for seed, move in zip(SEEDS, moves, strict=True)}
    made.add("gnn", "a", {SEARCH_SEED: 0.7, **fresh})
    made.add("gnn", "b", dict.fromkeys((SEARCH_SEED, *SEEDS), 0.7))
    (told,) = said(made).values()
    a, b = hash_of("gnn", "a"), hash_of("gnn", "b")
    assert told.startswith(f"gnn {a} against gnn {b} is undecided: +0.46 points accuracy, p = ")
    (question,) = build_verdict(SweepFolder(tmp_path)).questions
    more = question.comparisons[0].more_seeds
    assert told.endswith(f"10 seeds; about {more} more seeds, {2 * more}.0 hours of training.")
    assert (
        question.answer == f"{a} leads, but whether it is best is undecided after 10 fresh seeds."
    )


def test_gpu_hours_are_called_so(tmp_path):
    made = MadeSweep(tmp_path, seeds=(SEARCH_SEED, 1, 2), resources={"gpus": 1})
    for name, base in (("a", 0.8), ("b", 0.7)):
        made.add("gnn", name, level(base, 2), environment={"device": "cuda"}, train_time_s=180.0)
    (told,) = said(made).values()
    assert "2 seeds cannot decide it; about " in told
    assert told.endswith(" GPU-minutes.")


def test_a_loss_is_told_as_a_loss(tmp_path):
    made = MadeSweep(tmp_path, objective="val_loss", seeds=(SEARCH_SEED, 1, 2))
    for name, base in (("a", 0.8), ("b", 0.7)):
        made.add("gnn", name, level(base, 2))
    (told,) = said(made).values()
    assert f"gnn {hash_of('gnn', 'b')} against" in told
    assert "0.1000 less loss" in told


def test_the_winner_that_beats_everybody_wins(made):
    made.add("fusion", "a", growing(0.5))
    made.add("gnn", "a", level(0.4))
    made.add("lexical", "floor", level(0.3))
    verdict = build_verdict(made.folder)
    own = [one for one in verdict.questions[0].comparisons if one.a.model == "fusion"]
    p = max(one.p_holm for one in own)
    assert verdict.headline == (
        f"fusion {hash_of('fusion', 'a')} wins: it beats gnn and the floor "
        f"({p_value(p, '<=')}, 10 fresh seeds)."
    )


def test_a_family_may_win_while_its_best_is_not_known(made):
    made.add("fusion", "a", growing(0.7))
    made.add("fusion", "b", {**growing(0.7), 1: 0.705, 2: 0.73})
    made.add("gnn", "a", level(0.4))
    verdict = build_verdict(made.folder)
    assert verdict.headline.startswith("fusion wins: it beats gnn (p ")
    assert "which of its configurations is best is undecided" in verdict.headline


def test_a_leader_says_whom_it_does_not_beat_yet(made):
    made.add("fusion", "a", growing(0.5))
    close = {**growing(0.5), 1: 0.5, 2: 0.52, 3: 0.51}
    made.add("transformer", "a", close)
    made.add("lexical", "floor", level(0.3))
    verdict = build_verdict(made.folder)
    assert verdict.headline.startswith(
        f"fusion {hash_of('fusion', 'a')} leads: it beats the floor ("
    )
    assert verdict.headline.endswith(
        "; against transformer it is undecided, and 100 seeds would probably not tell."
    )


def test_case_40_a_floor_that_is_ranked_first_is_told_first(tmp_path):
    made = MadeSweep(tmp_path, seeds=(SEARCH_SEED,))
    made.add("gnn", "a", {SEARCH_SEED: 0.4722})
    made.add("lexical", "floor", {SEARCH_SEED: 0.4861})
    verdict = build_verdict(SweepFolder(tmp_path))
    assert [one.model for one in verdict.standings] == ["lexical", "gnn"]
    assert verdict.headline == (
        f"The floor is ranked first (0.4861), above gnn {hash_of('gnn', 'a')} (0.4722); there is "
        "no fresh seed to tell."
    )
    assert verdict.questions[0].answer.startswith("The floor leads, but there is no fresh seed")


def test_case_40_a_floor_ranked_first_may_be_behind_on_fresh_seeds(tmp_path):
    made = MadeSweep(tmp_path, seeds=(SEARCH_SEED, *SEEDS[:7]))
    made.add("gnn", "a", {**level(0.61, 7, spread=0.02), SEARCH_SEED: 0.1})
    made.add("lexical", "floor", dict.fromkeys((SEARCH_SEED, *SEEDS[:7]), 0.6))
    headline = build_verdict(SweepFolder(tmp_path)).headline
    assert headline.startswith("The floor is ranked first (0.6000), above gnn ")
    assert headline.endswith(f"; gnn {hash_of('gnn', 'a')} is ahead of it on these.")
    assert "leads" not in headline


def test_case_40_nobody_leads_from_behind(tmp_path):
    """What is first in the table is beaten, and the next is only undecided against the third."""
    made = MadeSweep(tmp_path, seeds=(SEARCH_SEED, *SEEDS))
    lucky = {SEARCH_SEED: 6.0, **{seed: score - 0.5 for seed, score in growing(0.5).items()}}
    made.add("fusion", "a", {**lucky, SEARCH_SEED: 6.0})
    made.add("gnn", "a", growing(0.5))
    made.add("transformer", "a", {**growing(0.5), 1: 0.5, 2: 0.53, 3: 0.53})
    verdict = build_verdict(SweepFolder(tmp_path))
    assert verdict.standings[0].model == "fusion"
    assert verdict.questions[0].answer.startswith("transformer is not beaten")


def test_in_brief_the_headline_is_not_repeated(tmp_path):
    made = MadeSweep(tmp_path, seeds=(SEARCH_SEED, 1, 2))
    made.add("gnn", "a", level(0.9, 2))
    made.add("gnn", "b", level(0.8, 2))
    made.add("lexical", "floor", level(0.5, 2))
    verdict = build_verdict(SweepFolder(tmp_path))
    families, gnn = verdict.questions
    brief = in_brief(verdict, tmp_path)
    assert families.text not in brief
    assert brief.splitlines()[1] == f"  {gnn.text} {gnn.answer}"


def test_a_rival_that_is_ahead_on_fresh_seeds_is_named(tmp_path):
    made = MadeSweep(tmp_path, seeds=(SEARCH_SEED, *SEEDS[:7]))
    made.add("gnn", "a", {SEARCH_SEED: 0.9, **dict.fromkeys(SEEDS[:7], 0.7)})
    made.add("fusion", "a", {**level(0.71, 7, spread=0.02), SEARCH_SEED: 0.71})
    verdict = build_verdict(SweepFolder(tmp_path))
    assert verdict.headline == (
        f"gnn {hash_of('gnn', 'a')} is the best-ranked model, but whether it is best is undecided "
        "after 7 fresh seeds; fusion is ahead of it."
    )


def test_two_fresh_seeds_cannot_decide_and_the_least_number_is_told(tmp_path):
    made = MadeSweep(tmp_path, seeds=(SEARCH_SEED, 1, 2))
    made.add("fusion", "a", level(0.9, 2))
    made.add("lexical", "floor", level(0.5, 2))
    verdict = build_verdict(SweepFolder(tmp_path))
    assert verdict.headline == (
        f"fusion {hash_of('fusion', 'a')} leads, but 2 fresh seeds cannot decide anything: it "
        "takes at least 6."
    )
    assert any("2 fresh seeds cannot decide anything" in note for note in verdict.notes)
    brief = in_brief(verdict, tmp_path).splitlines()
    assert brief[0] == verdict.headline  # which is the answer to the only question
    assert re.match(
        r"To tell .+ from .+ \((about|at least) \d+ more seeds?\): "
        r"\S*sg-ray extend .+ replicate\.max_seeds=\d+$",
        brief[1],
    )


def test_one_family_alone_is_told_by_its_finalists(tmp_path):
    made = MadeSweep(tmp_path, seeds=(SEARCH_SEED, 1, 2))
    made.add("gnn", "a", level(0.9, 2))
    assert build_verdict(SweepFolder(tmp_path)).headline == (
        f"gnn {hash_of('gnn', 'a')} has nobody to be compared with."
    )
    made.add("gnn", "b", level(0.8, 2))
    assert build_verdict(SweepFolder(tmp_path)).headline == (
        f"gnn: {hash_of('gnn', 'a')} leads, but 2 fresh seeds cannot decide anything: it takes at "
        "least 6."
    )


def test_luck_of_the_search_failures_and_missing_predictions_are_noted(made):
    made.add("gnn", "a", {**level(0.7), SEARCH_SEED: 0.75, 4: None})
    made.add("gnn", "b", level(0.6))
    notes = " ".join(build_verdict(made.folder).notes)
    assert f"chosen on seed {SEARCH_SEED}" in notes
    assert "flattered the finalists: +2.7 points accuracy" in notes
    assert f"Failed: gnn {hash_of('gnn', 'a')} seed 4." in notes
    assert "21 of 21 trials left no predictions" in notes


def notes_of(made: MadeSweep) -> list[str]:
    return [note for note in build_verdict(made.folder).notes if "trained alike" in note]


def test_case_57_seeds_that_were_not_trained_alike_are_told(tmp_path):
    made = MadeSweep(tmp_path)
    one, two = ({"device": "cpu", "num_workers": n} for n in (1, 2))
    made.add("gnn", "a", {SEARCH_SEED: 0.7, 1: 0.7}, environment=one)
    assert notes_of(made) == []
    made.add("gnn", "a", {2: 0.6, 3: 0.6}, environment=two)
    (note,) = notes_of(made)
    assert note.startswith(
        "gnn was not always trained alike: seeds 42 and 1 by 1 worker, seeds 2 and 3 by 2 workers."
    )
    assert "not the same arithmetic" in note


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"device": "cuda", "device_name": "NVIDIA H100"}, "seed 1 on NVIDIA H100"),
        ({"precision": "bf16"}, "seed 42 in fp32, seed 1 in bf16"),
        ({"torch": "2.14.0"}, "seed 42 with torch 2.13.0, seed 1 with torch 2.14.0"),
        ({"device_name": "EPYC 9654"}, "seed 42 on a CPU, seed 1 on EPYC 9654"),
        ({"cpu_capability": "AVX512"}, "seed 42 by AVX2, seed 1 by AVX512"),
    ],
)
def test_case_57_every_kind_of_arithmetic_is_compared(tmp_path, change, told):
    made = MadeSweep(tmp_path)
    usual = {"device": "cpu", "num_workers": 1, "precision": "fp32", "torch": "2.13.0"}
    usual["cpu_capability"] = "AVX2"
    made.add("gnn", "a", {SEARCH_SEED: 0.7}, environment=usual)
    made.add("gnn", "a", {1: 0.7}, environment={**usual, **change})
    (note,) = notes_of(made)
    assert told in note


def test_case_57_gpus_of_one_kind_may_have_other_cuda(tmp_path):
    made = MadeSweep(tmp_path)
    usual = {"device": "cuda", "device_name": "H100", "cpu_capability": "AVX2", "cuda": "12.6"}
    made.add("gnn", "a", {SEARCH_SEED: 0.7}, environment=usual)
    made.add("gnn", "a", {1: 0.7}, environment={**usual, "cpu_capability": "AVX512"})
    assert notes_of(made) == []
    made.add("gnn", "a", {2: 0.7}, environment={**usual, "cuda": "13.0"})
    (note,) = notes_of(made)
    assert "seeds 42 and 1 with CUDA 12.6, seed 2 with CUDA 13.0." in note


def test_case_57_families_may_differ_and_the_unknown_is_not_held_against_a_seed(tmp_path):
    made = MadeSweep(tmp_path)
    made.add("gnn", "a", {SEARCH_SEED: 0.7}, environment={"num_workers": 2, "precision": "fp32"})
    made.add("gnn", "a", {1: 0.7}, environment={"num_workers": 2})
    made.add("fusion", "a", {SEARCH_SEED: 0.7, 1: 0.7}, environment={"num_workers": 1})
    assert notes_of(made) == []


def test_a_search_that_was_not_lucky_is_not_blamed(made):
    made.add("gnn", "a", {**level(0.7), SEARCH_SEED: 0.69})
    assert not any("flattered" in note for note in build_verdict(made.folder).notes)


def test_small_words():
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert p_value(0.0312) == "p = 0.031"
    assert p_value(0.0502) == "p = 0.0502"
    assert p_value(0.0002, "<=") == "p < 0.001"
    assert p_value(1.0) == "p = 1"
    assert metric_name("val_roc_auc") == "ROC-AUC"
    assert metric_name("val_f1_at_threshold") == "F1 at the tuned threshold"
    assert duration(0.001, uses_gpu=False) == "1 minute of training"
    assert duration(1.25, uses_gpu=True) == "1.2 GPU-hours"


def test_case_40_who_beats_the_floor_says_so_if_the_table_has_the_floor_first(tmp_path):
    """The table's mean is over all seeds, the search's unlucky one included."""
    made = MadeSweep(tmp_path, seeds=(SEARCH_SEED, *SEEDS))
    made.add("gnn", "a", {**growing(0.5), SEARCH_SEED: -3.0})
    made.add("lexical", "floor", level(0.5))
    verdict = build_verdict(SweepFolder(tmp_path))
    assert verdict.standings[0].is_floor
    assert verdict.headline.startswith(f"gnn {hash_of('gnn', 'a')} wins: it beats the floor (p = ")
    assert re.search(
        r"; over all seeds the floor is ranked first \(0\.50\d+, gnn 0\.2848\)\.$", verdict.headline
    )


def test_case_40_a_floor_above_a_better_mean_is_explained_by_failures(tmp_path):
    made = MadeSweep(tmp_path)
    made.add("gnn", "a", {SEARCH_SEED: 0.9, 1: 0.9, 2: None, 3: 0.9})
    made.add("lexical", "floor", dict.fromkeys((SEARCH_SEED, 1, 2, 3), 0.7))
    assert build_verdict(SweepFolder(tmp_path)).headline.startswith(
        f"The floor is ranked first (0.7000), above gnn {hash_of('gnn', 'a')} (0.9000, 1 of 4 "
        "seeds failed); "
    )


@pytest.mark.parametrize("seeds", [(SEARCH_SEED,), (SEARCH_SEED, 1, 2)])
@pytest.mark.parametrize("family", ["gnn", "transformer"])  # sorted before the floor, and after
def test_case_40_nobody_leads_who_is_level(tmp_path, family, seeds):
    made = MadeSweep(tmp_path, seeds=seeds)
    made.add(family, "a", dict.fromkeys(seeds, 0.5))
    made.add("lexical", "floor", dict.fromkeys(seeds, 0.5))
    verdict = build_verdict(SweepFolder(tmp_path))
    assert "level with" in verdict.headline
    assert "level with" in verdict.questions[0].answer
    assert "lead" not in verdict.headline + verdict.questions[0].answer
    assert "above" not in verdict.headline


def test_no_seeds_are_advised_for_what_has_failed_with_all_it_had(tmp_path):
    made = MadeSweep(tmp_path, seeds=(SEARCH_SEED, 1))
    made.add("gnn", "a", {SEARCH_SEED: None, 1: None})
    made.add("lexical", "floor", {SEARCH_SEED: 0.7, 1: 0.7})
    (question,) = build_verdict(SweepFolder(tmp_path)).questions
    (one,) = question.comparisons
    assert one.command is None
    assert one.sentence.endswith(f"; no trial of gnn {hash_of('gnn', 'a')} has completed.")


def test_in_brief_nothing_is_said_twice_after_failures_only(tmp_path):
    made = MadeSweep(tmp_path, seeds=(SEARCH_SEED, 1))
    made.add("gnn", "a", {SEARCH_SEED: None, 1: None})
    made.add("lexical", "floor", {SEARCH_SEED: None, 1: None})
    told = in_brief(build_verdict(SweepFolder(tmp_path)), tmp_path)
    assert told == "No trial has completed: nothing can be said yet."


def test_in_brief_the_command_finds_the_sweep_from_wherever_it_is_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs" / "made"
    made = MadeSweep(folder, seeds=(SEARCH_SEED, 1))
    made.add("gnn", "a", {SEARCH_SEED: 0.9, 1: 0.9})
    made.add("lexical", "floor", {SEARCH_SEED: 0.7, 1: 0.7})
    verdict = build_verdict(SweepFolder(folder))
    assert "sg-ray extend made replicate.max_seeds=" in in_brief(verdict, folder)
    assert "sg-ray extend made replicate.max_seeds=" in in_brief(verdict, Path("outputs/made"))
    monkeypatch.chdir(tmp_path / "outputs")
    assert "sg-ray extend made replicate" in in_brief(verdict, Path("made"))
    (tmp_path / "else where").mkdir()
    monkeypatch.chdir(tmp_path / "else where")
    told = in_brief(verdict, Path("../outputs/made"))
    assert f"sg-ray extend {shlex.quote(str(folder))} replicate.max_seeds=" in told


def test_in_brief_a_sweep_may_be_called_as_a_command_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = MadeSweep(tmp_path / "elsewhere" / "extend", seeds=(SEARCH_SEED, 1), name="extend")
    made.add("gnn", "a", {SEARCH_SEED: 0.9, 1: 0.9})
    made.add("lexical", "floor", {SEARCH_SEED: 0.7, 1: 0.7})
    folder = made.folder.path
    told = in_brief(build_verdict(SweepFolder(folder)), folder)
    assert "sg-ray extend elsewhere/extend replicate.max_seeds=" in told
