"""The rules of racing on synthetic sweeps: error rates with known truth, and what they cost."""

import warnings
from pathlib import Path

import numpy as np
import optuna
import pytest
from scipy import stats

from sg_ray.statistics.racing import cannot_win
from sg_ray.statistics.sequential import beats_e_process, two_sided_p

BENCHMARKS = Path(__file__).parents[2] / "experiments" / "benchmarks"
NUM_SWEEPS = 400


@pytest.fixture
def racing(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import racing

    return racing


def clearly_above(hits, rate):
    """Return whether a true rate of at most ``rate`` gives so many hits once in 1000 times."""
    return stats.binom.sf(np.sum(hits) - 1, len(hits), rate) < 0.001


def test_false_claims_stay_below_5_percent_where_peeking_makes_many(racing):
    for world in racing.CLAIM_WORLDS:
        if world.num_configs > 4:
            continue
        means, scores = world.draw(NUM_SWEEPS, racing.MAX_LOOKS, seed=1)
        differences = racing.rules.paired_differences(scores)
        truth = np.sign(racing.rules.paired_differences(means[:, :, None]))
        decided = racing.rules.decided_by_e_process(differences)
        assert not clearly_above(racing.any_false(decided, truth), 0.05), world.name
    decided = racing.rules.decided_by_t_test(differences)  # of 2 that are tied
    assert clearly_above(racing.any_false(decided, truth), 0.15)


def test_claims_hold_when_racing_decides_who_gets_seeds(racing):
    """The e-process of a pair stops with its first dropped side."""
    world = racing.World("4 tied", 4, racing.worlds.tied, racing.worlds.normal)
    _, scores = world.draw(NUM_SWEEPS, racing.MAX_LOOKS, seed=2)
    after = cannot_win(scores, alpha=0.5).after
    assert (after > 0).any(axis=1).mean() > 0.2
    seeds = np.arange(racing.MAX_LOOKS)
    has_seed = (after == 0)[..., None] | (seeds < after[..., None])
    pairs = racing.rules.pairs_of(4)
    both = np.stack([has_seed[:, a] & has_seed[:, b] for a, b in pairs], axis=1)
    differences = racing.rules.paired_differences(scores) * both
    p = two_sided_p(beats_e_process(differences), beats_e_process(-differences))[..., -1]
    assert not clearly_above((p.min(axis=1) <= 0.05 / len(pairs)), 0.05)


def test_the_best_is_rarely_dropped(racing):
    for world in racing.DROP_WORLDS:
        _, scores = world.draw(NUM_SWEEPS, 20, seed=3)
        given_up = racing.rules.race(scores).given_up
        assert not clearly_above(given_up[:, 0], 0.1), world.name


def test_a_race_finds_what_full_replication_finds_for_less(racing):
    (world,) = [world for world in racing.BUDGET_WORLDS if world.name == "16, means of SD 3"]
    _, scores = world.draw(NUM_SWEEPS, racing.NUM_SEEDS, seed=4)
    race, full = racing.rules.race(scores), racing.rules.replicate_all(scores)
    assert (race.picked == full.picked).mean() >= 0.99
    assert race.num_trials.sum() < 0.45 * full.num_trials.sum()


def test_no_rule_sees_the_unit(racing):
    _, scores = racing.BUDGET_WORLDS[1].draw(20, 30, seed=5)
    for rule in racing.BUDGET_RULES.values():
        in_sd, in_points = rule(scores), rule(60 + 2.9 * scores)
        np.testing.assert_array_equal(in_sd.picked, in_points.picked)
        np.testing.assert_array_equal(in_sd.num_trials, in_points.num_trials)


def test_a_race_is_told_as_the_planner_would_run_it(racing):
    """The benchmark's account of trials and of the winner, against a race seed by seed."""
    from sg_ray.statistics.racing import race

    _, scores = racing.BUDGET_WORLDS[3].draw(10, 10, seed=6)
    choice = racing.rules.race(scores, max_trials=70)
    for sweep, table in enumerate(scores):
        seen = {config: [] for config in range(16)}
        undecided = tuple(seen)
        while len(undecided) > 1 and len(seen[undecided[0]]) < 10:
            if sum(map(len, seen.values())) + len(undecided) > 70:
                break
            for config in undecided:
                seen[config].append(table[config, len(seen[config])])
            undecided = race(seen).undecided
        assert choice.num_trials[sweep] == sum(map(len, seen.values()))
        assert choice.picked[sweep] == undecided[0]


def test_the_pruners_rule_is_that_of_its_class(racing):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pruner = optuna.pruners.WilcoxonPruner()
    rng = np.random.default_rng(7)
    scores = rng.normal(size=(40, 2, 12)) + np.array([[0.5], [0.0]])
    ours = racing.rules.wilcoxon_prunes(scores[:, 1], scores[:, 0])
    for (best, trial), expected in zip(scores, ours, strict=True):
        study = optuna.create_study(direction="maximize")
        study.add_trial(
            optuna.trial.create_trial(
                value=best.mean(), intermediate_values=dict(enumerate(map(float, best)))
            )
        )
        for num in range(1, 13):
            current = optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING,
                intermediate_values=dict(enumerate(map(float, trial[:num]))),
            )
            assert pruner.prune(study, current) == expected[num - 1]
    assert ours.any()
    assert not ours.all()


def test_every_table_is_printed(racing, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["racing.py", "--num-sweeps", "3"])
    for name in ("CLAIM_WORLDS", "DROP_WORLDS", "BUDGET_WORLDS"):
        monkeypatch.setattr(racing, name, getattr(racing, name)[:2])
    racing.main()
    printed = capsys.readouterr().out
    assert printed.isascii()
    for number in range(1, 5):
        assert f"\n{number}. " in f"\n{printed}"
