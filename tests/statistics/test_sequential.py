import math
from itertools import product

import numpy as np
import pytest
from scipy import integrate, stats

from sg_ray.errors import InputError
from sg_ray.statistics.multiple import holm
from sg_ray.statistics.racing import cannot_win, race
from sg_ray.statistics.seeds_needed import (
    detectable_effect,
    seeds_for_anytime_p,
    seeds_to_decide,
    smallest_anytime_p,
)
from sg_ray.statistics.sequential import (
    anytime_p,
    beats_e_process,
    claims,
    family_e_process,
    two_sided_p,
)

ALL_SIGNS = np.array(list(product([-1.0, 1.0], repeat=10)))
FAILED, MISSING = -math.inf, math.nan


@pytest.mark.parametrize("seed", range(5))
def test_fair_signs_neither_add_nor_take_evidence(seed):
    """Given any magnitudes, the mean over all signs is 1 after each seed: the bets are fair."""
    magnitudes = np.random.default_rng(seed).lognormal(sigma=2, size=10)
    evidence = beats_e_process(ALL_SIGNS * magnitudes)
    np.testing.assert_allclose(evidence.mean(axis=0), 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_stopping_when_it_looks_good_gains_nothing(seed):
    magnitudes = np.random.default_rng(seed).lognormal(sigma=1, size=10)
    evidence = beats_e_process(ALL_SIGNS * magnitudes)
    stop = np.where((evidence >= 5).any(axis=1), (evidence >= 5).argmax(axis=1), 10)
    stopped = evidence[np.arange(len(evidence)), stop]
    assert stopped.mean() == pytest.approx(1.0)
    differences = ALL_SIGNS * magnitudes
    p = two_sided_p(beats_e_process(differences), beats_e_process(-differences))
    assert (np.diff(p, axis=1) <= 0).all()
    for alpha in (0.01, 0.05, 0.2):
        assert (p[:, -1] <= alpha).mean() <= alpha


def test_a_worse_a_has_less_evidence_whatever_its_noise():
    rng = np.random.default_rng(0)
    noise = np.stack([rng.normal(size=(4000, 12)), rng.standard_cauchy((4000, 12))])
    assert (beats_e_process(noise - 0.5)[..., -1].mean(axis=-1) < 1).all()


def test_six_wins_decide_a_pair_and_five_do_not():
    rng = np.random.default_rng(0)
    for _ in range(50):
        wins = rng.lognormal(sigma=3, size=6)
        assert anytime_p(wins) <= 0.05
        assert anytime_p(-wins) == anytime_p(wins)
        assert anytime_p(wins[:5]) > 0.05


@pytest.mark.parametrize("num_seeds", range(9))
def test_the_smallest_p_is_approached_and_never_passed(num_seeds):
    growing = 100.0 ** np.arange(num_seeds)
    assert anytime_p(growing) == pytest.approx(smallest_anytime_p(num_seeds), rel=0.05)
    rng = np.random.default_rng(num_seeds)
    for _ in range(100):
        wins = rng.lognormal(sigma=3, size=num_seeds)
        assert anytime_p(wins) >= smallest_anytime_p(num_seeds) - 1e-12


@pytest.mark.parametrize("alpha", [0.3, 0.05, 0.05 / 3, 0.001])
def test_fewer_seeds_cannot_reach_alpha(alpha):
    enough = seeds_for_anytime_p(alpha)
    assert smallest_anytime_p(enough) <= alpha < smallest_anytime_p(enough - 1)


def test_the_detectable_effect_is_found_in_80_of_100_sweeps():
    rng = np.random.default_rng(7)
    for num_seeds, alpha in ((8, 0.05), (12, 0.05 / 3)):
        effect = detectable_effect(num_seeds, alpha)
        differences = rng.normal(effect, 1, (4000, num_seeds))
        forward, backward = beats_e_process(differences), beats_e_process(-differences)
        found = (two_sided_p(forward, backward)[:, -1] <= alpha).mean()
        assert found == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("num_seeds", "alpha"), [(0, 0.05), (1, 0.5), (5, 0.05), (7, 0.05 / 3)])
def test_no_effect_is_detectable_where_no_outcome_or_hardly_any_decides(num_seeds, alpha):
    assert detectable_effect(num_seeds, alpha) is None


def test_zero_is_no_evidence_and_the_unit_does_not_matter():
    differences = [0.3, -0.1, 0.5, 0.4, 0.2]
    evidence = beats_e_process(differences)
    with_ties = beats_e_process([0.0, 0.3, 0.0, -0.1, 0.5, 0.4, 0.2, 0.0])
    np.testing.assert_allclose(with_ties[[0, 2, 4, 5, 6, 7]], evidence)
    assert with_ties[8] == with_ties[7]
    np.testing.assert_allclose(beats_e_process(np.multiply(differences, 29.0)), evidence)
    assert anytime_p([]) == anytime_p([0.0, 0.0]) == 1.0


def test_later_seeds_do_not_change_earlier_evidence():
    differences = np.random.default_rng(1).normal(size=20)
    np.testing.assert_array_equal(
        beats_e_process(differences)[:8], beats_e_process(differences[:7])
    )


def test_small_losses_cost_less_than_large_ones():
    wins = [1.0, 1.1, 0.9, 1.2, 1.0, 0.8, 1.1, 1.0]
    assert anytime_p([-0.01, *wins]) < anytime_p([-1.0, *wins])


def test_the_best_of_a_family_must_beat_all_of_the_other():
    rng = np.random.default_rng(0)
    differences = rng.normal(0.5, 1, (2, 3, 15))
    pairs = beats_e_process(differences)
    by_hand = [
        np.mean([min(pairs[a, b, t] for b in range(3)) for a in range(2)]) for t in range(16)
    ]
    np.testing.assert_allclose(family_e_process(differences), by_hand)


def test_families_of_equal_best_are_rarely_told_apart():
    rng = np.random.default_rng(2)
    num_false = 0
    for _ in range(400):
        first = rng.normal([[0.0], [-0.5]], 1, (2, 20))
        second = rng.normal([[0.0], [0.0], [-1.0]], 1, (3, 20))
        differences = first[:, None] - second[None]
        forward = family_e_process(differences)
        backward = family_e_process(-differences.transpose(1, 0, 2))
        num_false += two_sided_p(forward, backward)[-1] <= 0.05
    assert num_false <= 20


def test_claims_are_corrected_for_their_number_and_say_which_is_better():
    differences = {"ab": np.ones(9), "ac": -np.ones(8), "bc": np.array([1.0, -1.0, 0.5])}
    said = claims({k: (beats_e_process(d), beats_e_process(-d)) for k, d in differences.items()})
    assert [claim.p_anytime for claim in said.values()] == [
        anytime_p(d) for d in differences.values()
    ]
    assert [claim.p_holm for claim in said.values()] == holm(
        [claim.p_anytime for claim in said.values()]
    )
    assert said["ab"].a_is_better
    assert not said["ac"].a_is_better
    assert claims({}) == {}


def test_the_direction_is_that_of_the_moment_that_decided():
    """Eight wins, then worse and worse losses: the claim stands, and stays a claim of A."""
    differences = np.array([1.0] * 8 + [-1.0] * 6)
    said = claims({0: (beats_e_process(differences), beats_e_process(-differences))})[0]
    assert said.p_holm <= 0.05
    assert said.a_is_better


def test_the_number_of_seeds_to_decide():
    assert seeds_to_decide([1.0, 1.0, 1.0]) == 6
    assert seeds_to_decide([1.0, 1.0, 1.0], alpha=0.05 / 3) == 8
    assert seeds_to_decide([1.0] * 7) == 6  # decided already
    assert seeds_to_decide([1.0, -1.0, 0.1]) is None
    assert seeds_to_decide([1.0] * 101) is None
    assert seeds_to_decide([1.0]) is None
    assert seeds_to_decide([0.5, 1.0, -0.2]) == seeds_to_decide([0.5, 1.0, -0.2])


def test_the_number_of_seeds_to_decide_is_the_median_of_what_it_takes():
    rng = np.random.default_rng(0)
    standard = np.array([-1.0, 0.0, 1.0])
    paths = np.concatenate(
        [np.tile(1.0 + standard, (2000, 1)), rng.normal(1, 1, (2000, 97))], axis=1
    )
    p = two_sided_p(beats_e_process(paths), beats_e_process(-paths))
    actual = np.median((p <= 0.05).argmax(axis=1))
    assert seeds_to_decide(1.0 + standard) == pytest.approx(actual, abs=1)


@pytest.mark.parametrize("call", [beats_e_process, anytime_p, seeds_to_decide])
def test_a_difference_that_is_not_finite_is_refused(call):
    with pytest.raises(InputError, match="Pass 0 for a seed"):
        call([1.0, math.nan])


def test_an_impossible_alpha_is_refused():
    with pytest.raises(InputError, match="alpha: 0"):
        race({"a": [1.0], "b": [2.0]}, alpha=0)
    with pytest.raises(InputError, match="alpha: 5"):
        seeds_to_decide([1.0, 2.0], alpha=5)


def test_a_clear_loser_is_dropped_and_the_best_goes_first():
    state = race({"a": [1.0, 2.0, 3.1], "b": [1.5, 2.0, 3.55], "c": [-9.0, -8.1, -6.8]})
    assert state.undecided == ("b", "a")
    assert state.num_rounds == 3
    (drop,) = state.dropped
    assert (drop.config, drop.against, drop.after_seeds) == ("c", "b", 3)
    assert drop.difference == pytest.approx(10.316666666666666)
    assert drop.evidence >= drop.threshold == pytest.approx(20.0)


def test_sixteen_configurations_lose_clear_losers_after_two_seeds():
    scores = np.random.default_rng(0).normal(size=(16, 2)) - 6.0 * (np.arange(16) >= 4)[:, None]
    state = race({str(i): row for i, row in enumerate(scores)})
    assert {drop.after_seeds for drop in state.dropped} == {2}
    assert {drop.config for drop in state.dropped} >= {str(i) for i in range(5, 15)}
    assert set(state.undecided) >= {"0", "1", "2", "3"}


@pytest.mark.parametrize("seed", range(6))
def test_a_race_replayed_seed_by_seed_ends_the_same(seed):
    """As the planner sees it: who is dropped gets no more seeds, a failure happens, one is late."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(8, 12)) + 1.5 * rng.normal(size=(8, 1)) + rng.normal(size=12)
    table[2, 1] = FAILED
    rows = {f"c{i}": row for i, row in enumerate(table)}
    whole = race(rows)
    seen = {name: [] for name in rows}
    undecided = tuple(rows)
    for number in range(12):
        for name in undecided:
            seen[name].append(rows[name][number])
        undecided = race(seen).undecided
        if len(undecided) == 1:
            break
    assert race(seen) == whole
    seen[whole.dropped[0].config].append(-1000.0)  # was on its way when it was dropped
    assert race(seen) == whole


def test_a_seed_counts_once_all_have_it():
    early = {"a": [1.0, 1.0, 1.0, 1.0], "b": [9.0, 9.1, 9.0, MISSING], "c": [8.0, 8.2]}
    assert race(early) == race({"a": [1.0, 1.0], "b": [9.0, 9.1], "c": [8.0, 8.2]})
    assert race(early).num_rounds == 2


def test_a_failed_seed_is_as_bad_as_the_worst_score():
    others = {"b": [5.0, 6.0, 5.5], "c": [4.0, 3.5, 4.5]}
    failing = race({"a": [5.0, FAILED, FAILED], **others}, alpha=0.3)
    worst = race({"a": [5.0, 3.5, 3.5], **others}, alpha=0.3)
    assert failing == worst
    all_failed = race({"a": [FAILED, 2.0], "b": [FAILED, 2.0]})
    assert all_failed.undecided == ("a", "b")


def test_ties_single_ones_and_nothing_are_no_race():
    assert race({}).undecided == ()
    assert race({"a": [1.0, 2.0]}).undecided == ("a",)
    assert race({"b": [], "a": []}).undecided == ("b", "a")
    assert race({"b": [1.0] * 9, "a": [1.0] * 9}).undecided == ("b", "a")
    without_noise = race({"a": [1.0] * 9, "b": [2.0] * 9})
    assert without_noise.undecided == ("b",)
    with pytest.raises(InputError, match="-inf for a failure"):
        race({"a": [math.inf], "b": [1.0]})


def test_units_and_origins_do_not_matter():
    scores = np.random.default_rng(3).normal(size=(5, 6, 10)) + np.arange(6)[:, None]
    drops, scaled = cannot_win(scores), cannot_win(2.9 * scores + 60)
    np.testing.assert_array_equal(drops.after, scaled.after)
    np.testing.assert_allclose(drops.evidence, scaled.evidence)
    assert (drops.after > 0).any()


def test_the_evidence_is_the_ratio_of_the_two_integrals():
    """Over the effect size (half normal) and the SD (right Haar: 1 / sd), on a fine grid."""
    worse, better = np.array([0.1, -0.4, 0.3, 0.2]), np.array([1.5, 1.2, 1.0, 1.9])
    (drop,) = race({"a": worse, "b": better}, alpha=0.4).dropped
    data = (better - worse)[: drop.after_seeds] / math.sqrt(2)
    log_sd, effect = np.linspace(-6, 12, 2001)[:, None], np.linspace(0, 9, 901)
    sd = np.exp(log_sd)  # 1 / sd over sd is uniform over log sd

    def likelihood(shift):
        return np.prod([stats.norm.pdf(value, shift * sd, sd) for value in data], axis=0)

    null = integrate.trapezoid(likelihood(np.zeros(1)), log_sd, axis=0)[0]
    by_effect = integrate.trapezoid(likelihood(effect), log_sd, axis=0)
    other = integrate.trapezoid(2 * stats.norm.pdf(effect) * by_effect, effect)
    assert drop.evidence == pytest.approx(other / null, rel=1e-4)


def test_the_variance_is_that_of_the_two_way_layout_though_some_were_dropped():
    means = np.array([[0.0], [0.0], [-2.5], [-9.0], [-9.0], [-9.0]])
    scores = means + np.random.default_rng(13).normal(size=(6, 9))
    state = race({str(i): row for i, row in enumerate(scores)})
    last = state.dropped[-1]
    num = last.after_seeds
    assert state.dropped[0].after_seeds < num
    seeds_of = {int(drop.config): drop.after_seeds for drop in state.dropped}
    cells = [(i, j) for i in range(6) for j in range(num) if j < seeds_of.get(i, num)]

    squares, df = residuals_of_two_way_layout(scores, cells)
    pair = (scores[int(last.against)] - scores[int(last.config)])[:num] / math.sqrt(2)
    assert squares / df > pair.var(ddof=1)  # else it would be the pair's own
    t2 = num * pair.mean() ** 2 / (squares / df)
    two_sided = ((1 + t2 / df) / (1 + t2 / df / (1 + num))) ** ((df + 1) / 2) / math.sqrt(1 + num)
    assert last.evidence == pytest.approx(2 * two_sided, rel=0.01)


def residuals_of_two_way_layout(scores, cells):
    """Return sum of squares and degrees of freedom of score = configuration + seed."""
    design = np.zeros((len(cells), sum(scores.shape)))
    for row, (config, seed) in enumerate(cells):
        design[row, [config, len(scores) + seed]] = 1
    observed = np.array([scores[cell] for cell in cells])
    fit = design @ np.linalg.pinv(design) @ observed
    return ((observed - fit) ** 2).sum(), len(cells) - np.linalg.matrix_rank(design)
