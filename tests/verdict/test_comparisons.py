"""Comparisons against numbers that are computed here by other means."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from made_sweep import SEARCH_SEED, MadeSweep, draw_labels, hash_of, probabilities
from scipy import stats
from sklearn.metrics import accuracy_score

from sg_ray.config import Experiment
from sg_ray.configuration import Configuration
from sg_ray.records.leaderboard import Row
from sg_ray.statistics.racing import Drop, race
from sg_ray.statistics.seeds_needed import seeds_to_decide, smallest_anytime_p
from sg_ray.statistics.sequential import anytime_p, beats_e_process
from sg_ray.sweep_folder import SweepFolder
from sg_ray.verdict.comparisons import findings, questions
from sg_ray.verdict.teams import Team, duels
from sg_ray.verdict.trials import Contender, Results, Trial, read_results
from sg_ray.verdict.validation_scores import resample_validation

SEEDS = tuple(range(1, 11))


def asked(results: Results) -> dict:
    return {q.name: q for q in questions(results, resample_validation(results))}


def scores(base: float, offsets) -> dict[int, float]:
    """Scores of the search's seed and of fresh ones."""
    fresh = dict(zip(SEEDS, base + np.asarray(offsets), strict=False))
    return {SEARCH_SEED: base + 0.2, **{seed: float(score) for seed, score in fresh.items()}}


def dropped(results: Results, name: str, after: int, against: str) -> Results:
    """The results as if the race had given up the gnn called ``name``."""
    drop = Drop(hash_of("gnn", name), hash_of("gnn", against), after, 25.0, 20.0, 0.03)
    return replace(
        results,
        contenders=[
            replace(one, row=replace(one.row, dropped=drop))
            if one.row.config_hash == drop.config
            else one
            for one in results.contenders
        ],
    )


@pytest.fixture
def made(tmp_path) -> MadeSweep:
    return MadeSweep(tmp_path, seeds=(SEARCH_SEED, *SEEDS), families=["gnn", "transformer"])


def test_pairs_are_tested_on_their_fresh_seeds_and_corrected_for_their_number(made):
    noise = np.random.default_rng(4).normal(0, 0.01, (3, 10))
    given = {"a": 0.75 + noise[0], "b": 0.70 + noise[1], "c": 0.70 + noise[2]}
    for name, values in given.items():
        made.add("gnn", name, {SEARCH_SEED: 0.9, **dict(zip(SEEDS, values.tolist(), strict=True))})
    (question,) = asked(read_results(made.folder)).values()
    assert question.name == "gnn"
    expected = {}
    for x, y in combinations("abc", 2):
        expected[frozenset({x, y})] = anytime_p(given[x] - given[y])
    by_size = sorted(expected, key=expected.get)
    names = {hash_of("gnn", name): name for name in given}
    assert len(question.comparisons) == 3
    for one in question.comparisons:
        a, b = names[one.a.config_hash], names[one.b.config_hash]
        pair = frozenset({a, b})
        differences = given[a] - given[b]
        assert one.seeds == SEEDS
        assert one.difference == pytest.approx(differences.mean())
        assert one.difference > 0
        assert one.p_anytime == pytest.approx(expected[pair])
        assert one.p_holm == pytest.approx(
            max(
                (3 - place) * expected[other]
                for place, other in enumerate(by_size[: by_size.index(pair) + 1])
            )
        )
        exact = stats.permutation_test(
            (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        assert one.p_permutation == pytest.approx(exact.pvalue)
        assert one.smallest_p == pytest.approx(3 * smallest_anytime_p(10))
        assert one.outcome == ("undecided" if pair == frozenset("bc") else "a")
        assert one.interval is None  # there are no predictions


def test_what_would_decide_it_is_estimated_at_the_level_that_is_left(made):
    offsets = np.array([0.01, -0.004, 0.012, 0.006, 0.009, -0.003, 0.011, 0.002, 0.008, 0.005])
    made.add("gnn", "a", scores(0.75, offsets))
    made.add("gnn", "b", scores(0.75, np.zeros(10)))
    made.add("gnn", "c", scores(0.60, np.zeros(10)))
    (question,) = asked(read_results(made.folder)).values()
    (open_one,) = [one for one in question.comparisons if one.outcome == "undecided"]
    needed = seeds_to_decide(offsets, 0.05)  # the other two are decided: Holm asks p <= 0.05 / 1
    assert open_one.more_seeds == needed - 10
    assert open_one.more_trial_hours == open_one.more_seeds * 2.0
    assert open_one.command == f"sg-ray extend made replicate.max_seeds={1 + needed}"
    decided = next(one for one in question.comparisons if one.outcome == "a")
    assert (decided.more_seeds, decided.more_trial_hours, decided.command) == (None, None, None)


def test_with_two_fresh_seeds_nothing_can_be_decided(tmp_path):
    made = MadeSweep(tmp_path, seeds=(SEARCH_SEED, 1, 2))
    for name, score in (("a", 0.9), ("b", 0.5)):
        made.add("gnn", name, {SEARCH_SEED: score, 1: score + 0.01, 2: score - 0.01})
    ((one,),) = (
        question.comparisons for question in asked(read_results(SweepFolder(tmp_path))).values()
    )
    assert one.outcome == "undecided"
    assert one.smallest_p == smallest_anytime_p(2) > 0.05
    assert one.minimum_detectable_difference is None
    assert one.more_seeds >= 4


def test_the_least_number_of_seeds_is_told_where_there_is_no_spread_to_go_by(tmp_path):
    made = MadeSweep(tmp_path, seeds=(SEARCH_SEED, 1))
    for name, score in (("a", 0.9), ("b", 0.5)):
        made.add("gnn", name, {SEARCH_SEED: score, 1: score})
    ((one,),) = (
        question.comparisons for question in asked(read_results(SweepFolder(tmp_path))).values()
    )
    assert one.more_seeds == 5  # six in all
    assert one.command == "sg-ray extend made replicate.max_seeds=7"


def test_a_sweep_in_another_folder_is_named_by_its_folder(tmp_path):
    made = MadeSweep(tmp_path, seeds=(SEARCH_SEED, 1), output_dir="my sweeps")
    for name, score in (("a", 0.9), ("b", 0.5)):
        made.add("gnn", name, {SEARCH_SEED: score, 1: score})
    ((one,),) = (
        question.comparisons for question in asked(read_results(SweepFolder(tmp_path))).values()
    )
    assert one.command == "sg-ray extend 'my sweeps/made' replicate.max_seeds=7"


def test_seeds_that_are_planned_already_take_a_resume(made):
    for name, score in (("a", 0.9), ("b", 0.5)):
        made.add("gnn", name, {SEARCH_SEED: score, 1: score})
    ((one,),) = (question.comparisons for question in asked(read_results(made.folder)).values())
    assert one.command == "sg-ray sweep --resume made"


def test_a_failed_seed_counts_as_the_worst_score_of_the_question(made):
    made.add("gnn", "a", {SEARCH_SEED: 0.9, 1: 0.8, 2: 0.8, 3: 0.8})
    made.add("gnn", "b", {SEARCH_SEED: 0.1, 1: 0.7, 2: None, 3: 0.81})
    made.add("lexical", "floor", {SEARCH_SEED: 0.2, 1: 0.6, 2: 0.6, 3: 0.6})
    by_name = asked(read_results(made.folder))
    (within,) = by_name["gnn"].comparisons
    assert within.a.config_hash == hash_of("gnn", "a")
    assert within.difference == pytest.approx(np.mean([0.1, 0.8 - 0.7, -0.01]))  # worst: 0.7
    assert within.p_anytime == pytest.approx(anytime_p([0.1, 0.1, -0.01]))
    assert "1 of gnn" in within.sentence
    assert "failed" in within.sentence


def test_for_a_loss_the_lower_one_is_better(tmp_path):
    made = MadeSweep(tmp_path, objective="val_loss", seeds=(SEARCH_SEED, *SEEDS))
    rng = np.random.default_rng(1)
    good, bad = 0.4 + rng.normal(0, 0.01, 10), 0.6 + rng.normal(0, 0.01, 10)
    made.add("gnn", "bad", {SEARCH_SEED: 0.1, **dict(zip(SEEDS, bad.tolist(), strict=True))})
    made.add("gnn", "good", {SEARCH_SEED: 0.7, **dict(zip(SEEDS, good.tolist(), strict=True))})
    ((one,),) = (
        question.comparisons for question in asked(read_results(SweepFolder(tmp_path))).values()
    )
    assert one.a.config_hash == hash_of("gnn", "good")
    assert one.outcome == "a"
    assert one.difference == pytest.approx((bad - good).mean())


def test_families_are_compared_by_the_evidence_of_all_their_finalists(made):
    rng = np.random.default_rng(2)
    values = {
        ("gnn", "a"): 0.75 + rng.normal(0, 0.01, 10),
        ("gnn", "b"): 0.74 + rng.normal(0, 0.01, 10),
        ("transformer", "a"): 0.70 + rng.normal(0, 0.01, 10),
        ("transformer", "b"): 0.69 + rng.normal(0, 0.01, 10),
        ("lexical", "floor"): np.full(10, 0.6),
    }
    for (family, name), fresh in values.items():
        made.add(family, name, {SEARCH_SEED: 0.8, **dict(zip(SEEDS, fresh.tolist(), strict=True))})
    question = asked(read_results(made.folder))["models"]
    sides = {(one.a.model, one.b.model): one for one in question.comparisons}
    assert set(sides) == {("gnn", "transformer"), ("gnn", "lexical"), ("transformer", "lexical")}
    one = sides["gnn", "transformer"]
    assert (one.a.config_hash, one.b.config_hash) == ("", "")
    assert sides["gnn", "lexical"].b.config_hash == hash_of("lexical", "floor")

    def evidence(x, y):
        pairs = [
            [beats_e_process(values[x, a] - values[y, b]) for b in ("a", "b")] for a in ("a", "b")
        ]
        return np.mean([np.minimum(*row) for row in pairs], axis=0)

    average = (evidence("gnn", "transformer") + evidence("transformer", "gnn")) / 2
    assert one.p_anytime == pytest.approx(1 / average.max())
    best_pair = values["gnn", "a"] - values["transformer", "a"]
    assert one.difference == pytest.approx(best_pair.mean())
    assert one.p_permutation is None  # these two were picked by the same seeds
    assert hash_of("gnn", "a") in one.sentence
    assert hash_of("transformer", "a") in one.sentence


def test_a_finalist_that_the_race_gave_up_need_not_be_beaten_but_shares_its_familys_bet(made):
    rng = np.random.default_rng(3)
    long = dict(zip(SEEDS, (0.75 + rng.normal(0, 0.01, 10)).tolist(), strict=True))
    made.add("gnn", "a", {SEARCH_SEED: 0.9, **long})
    made.add("gnn", "b", {SEARCH_SEED: 0.9, 1: 0.5, 2: 0.51})
    floor = (0.6 + rng.normal(0, 0.001, 10)).tolist()
    made.add("lexical", "floor", dict(zip((SEARCH_SEED, *SEEDS), [0.6, *floor], strict=True)))
    results = dropped(read_results(made.folder), "b", 2, against="a")
    by_name = asked(results)
    (families,) = by_name["models"].comparisons
    wins = beats_e_process(np.array(list(long.values())) - floor)
    losses = beats_e_process(np.array([0.5, 0.51]) - floor[:2])
    shared = (wins + np.append(losses, np.full(8, losses[-1]))) / 2
    against = beats_e_process(-(np.array(list(long.values())) - floor))
    assert families.p_anytime == pytest.approx(1 / ((shared + against) / 2).max())
    assert families.smallest_p == smallest_anytime_p(10)  # had the floor won every seed of a
    (within,) = by_name["gnn"].comparisons
    assert within.seeds == (1, 2)
    assert within.more_seeds is not None
    assert within.command is None  # it gets no more seeds
    assert f"the race gave gnn {hash_of('gnn', 'b')} up" in within.sentence


def test_without_a_common_fresh_seed_there_is_no_difference(made):
    made.add("gnn", "a", {SEARCH_SEED: 0.8})
    made.add("transformer", "a", {SEARCH_SEED: 0.7, 1: 0.7})
    ((one,),) = (question.comparisons for question in asked(read_results(made.folder)).values())
    assert one.seeds == ()
    assert (one.difference, one.p_holm, one.smallest_p) == (None, 1.0, 1.0)
    assert one.p_permutation is None


def test_nobody_to_compare_with_asks_no_question(made):
    made.add("gnn", "a", {SEARCH_SEED: 0.8, 1: 0.7})
    assert asked(read_results(made.folder)) == {}


def test_equal_scores_decide_nothing_and_promise_nothing(made):
    for name in ("a", "b"):
        made.add("gnn", name, scores(0.8, np.zeros(10)))
    ((one,),) = (question.comparisons for question in asked(read_results(made.folder)).values())
    assert (one.difference, one.p_holm, one.outcome) == (0.0, 1.0, "undecided")
    assert (one.more_seeds, one.minimum_detectable_difference) == (None, None)


class TestWithPredictions:
    """Interval, P(a > b) and McNemar's p, from validation predictions."""

    @pytest.fixture
    def pair(self, made) -> tuple[Results, np.ndarray, dict]:
        labels = draw_labels(400)
        rng = np.random.default_rng(5)
        rows = {}
        for name, strength in (("a", 0.8), ("b", 0.5)):
            for seed in (SEARCH_SEED, 1, 2, 3):
                rows[name, seed] = probabilities(rng, labels, strength + rng.normal(0, 0.05))
                made.predict("gnn", name, seed, labels, rows[name, seed], threshold=0.4)
        return read_results(made.folder), labels, rows

    def test_the_interval_is_over_seeds_and_functions(self, pair):
        results, labels, rows = pair
        ((one,),) = (question.comparisons for question in asked(results).values())
        right = np.array(
            [[(rows[name, seed] >= 0.5) == labels for seed in (1, 2, 3)] for name in ("a", "b")]
        ).astype(float)
        differences = (right[0] - right[1]).mean(axis=1)
        assert one.difference == pytest.approx(differences.mean())
        rng = np.random.default_rng(0)
        drawn = rng.integers(400, size=(3000, 400))
        moves = (right[0] - right[1]).mean(axis=0)[drawn].mean(axis=1) - differences.mean()
        errors = stats.t.rvs(2, size=3000, random_state=1) * stats.sem(differences)
        by_hand = np.quantile(differences.mean() + moves + errors, [0.025, 0.975])
        assert (one.interval.low, one.interval.high) == pytest.approx(tuple(by_hand), abs=0.02)
        assert 0.5 < one.probability_better <= 1

    def test_mcnemar_is_of_the_first_fresh_seed_at_the_tuned_thresholds(self, pair):
        results, labels, rows = pair
        ((one,),) = (question.comparisons for question in asked(results).values())
        right = [(rows[name, 1] >= 0.4) == labels for name in ("a", "b")]
        only_a, only_b = int(np.sum(right[0] & ~right[1])), int(np.sum(right[1] & ~right[0]))
        exact = stats.binomtest(only_a, only_a + only_b).pvalue
        assert one.mcnemar_p == pytest.approx(exact)

    def test_a_failed_seed_moves_the_interval_as_it_moves_the_mean(self, pair, made):
        made.add("gnn", "a", {4: None})
        labels = draw_labels(400)
        made.predict("gnn", "b", 4, labels, pair[2]["b", 3], threshold=0.4)
        ((one,),) = (question.comparisons for question in asked(read_results(made.folder)).values())
        accuracies = {
            key: accuracy_score(labels, row >= 0.5) for key, row in pair[2].items() if key[1] < 9
        }
        accuracies["b", 4] = accuracies["b", 3]
        accuracies["a", 4] = min(accuracies.values())
        expected = np.mean([accuracies["a", s] - accuracies["b", s] for s in (1, 2, 3, 4)])
        assert abs(one.difference) == pytest.approx(abs(expected))
        assert one.interval.low <= one.difference <= one.interval.high

    def test_one_seed_without_predictions_leaves_no_interval(self, pair, made):
        for name in ("a", "b"):
            made.add("gnn", name, {4: 0.7})
        ((one,),) = (question.comparisons for question in asked(read_results(made.folder)).values())
        assert one.interval is None
        assert one.probability_better is None
        assert one.mcnemar_p is not None


def drawn(rng, families: dict[str, list[float]], num_fresh: int, alpha_drop: float) -> Results:
    """A sweep without files: normal scores, the finalists of each family raced."""
    seeds = tuple(range(num_fresh + 1))
    shared = rng.normal(0, 0.7, num_fresh + 1)
    contenders = []
    for family, means in families.items():
        values = {
            f"{family}{place}": mean + shared + rng.normal(size=num_fresh + 1)
            for place, mean in enumerate(means)
        }
        state = race({name: list(fresh[1:]) for name, fresh in values.items()}, alpha_drop)
        drops = {drop.config: drop for drop in state.dropped}
        for name, scores_of in values.items():
            last = drops[name].after_seeds if name in drops else num_fresh
            trials = [Trial(f"{name}{s}", s, float(scores_of[s])) for s in seeds[: last + 1]]
            own = Configuration(model=family, family=family, values={"name": name})
            row = Row(0, own, name, seeds[: last + 1], (), {}, {}, dropped=drops.get(name))
            contenders.append((float(scores_of[: last + 1].mean()), Contender(row, trials, 0)))
    contenders.sort(key=lambda pair: -pair[0])
    experiment = Experiment(name="drawn", replicate={"seeds": seeds})
    return Results(
        "drawn", "drawn", experiment.rules, seeds, [contender for _, contender in contenders]
    )


@pytest.mark.parametrize(
    "families",
    [{"gnn": [0, 0], "fusion": [0, 0]}, {"gnn": [0, 0, 0], "fusion": [0]}],
    ids=["two by two", "three and one"],
)
def test_ties_are_rarely_told_apart_though_the_race_picks_who_goes_on(families):
    rng = np.random.default_rng(0)
    num_sweeps, num_false, num_raced = 250, {"models": 0, "gnn": 0}, 0
    for _ in range(num_sweeps):
        results = drawn(rng, families, num_fresh=8, alpha_drop=0.5)
        num_raced += any(not one.is_in_race for one in results.contenders)
        teams = [Team(tuple(members)) for members in results.models.values()]
        finalists = [Team((member,)) for member in results.models["gnn"]]
        num_false["models"] += any(f.is_decided for f in findings(list(duels(teams, results))))
        num_false["gnn"] += any(f.is_decided for f in findings(list(duels(finalists, results))))
    assert num_raced > num_sweeps / 5
    for name, count in num_false.items():
        assert stats.binom.sf(count - 1, num_sweeps, 0.05) > 0.001, (name, count)


def test_a_clear_difference_between_families_is_found():
    rng = np.random.default_rng(0)
    num_found = 0
    for _ in range(30):
        results = drawn(rng, {"gnn": [0, 0], "fusion": [3, 3]}, num_fresh=12, alpha_drop=0.1)
        teams = [Team(tuple(members)) for members in results.models.values()]
        (found,) = findings(list(duels(teams, results)))
        num_found += found.is_decided and found.duel.a.best.model == "fusion"
    assert num_found >= 24
