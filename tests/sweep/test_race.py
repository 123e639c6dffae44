"""Racing in the plan: losers get no more seeds, the undecided get extra ones, restarts agree."""

import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from played_sweep import Sweep, experiment

from sg_ray.cli.extend import seeds_after_extension
from sg_ray.config import Experiment
from sg_ray.errors import InputError
from sg_ray.records.begin import begin
from sg_ray.records.leaderboard import rank
from sg_ray.records.race import attainable_p, drops, model_claims
from sg_ray.records.record import RunRecord, write_record
from sg_ray.trial.spec import TrialSpec

MANY = [42, *range(100, 109)]
EPOCHS = 4


def raced(tmp_path: Path, *, families: tuple[str, ...] = ("gnn",), **replicate: Any) -> Experiment:
    """Families of four points each, all finalists, at EPOCHS epochs a trial."""
    space = {"learning_rate": {"log_uniform": [1e-5, 1e-1]}}
    config = {"learning_rate": 1e-3, "epochs": EPOCHS}
    return experiment(
        tmp_path,
        families=families,
        models={name: {"space": space, "config": config} for name in families},
        replicate={"top_k": 4, "seeds": MANY, **replicate},
    )


def noise(spec: TrialSpec) -> float:
    return random.Random(f"{spec.config_hash} {spec.seed}").gauss(0, 0.01)


def apart(best: float) -> Callable[[TrialSpec], float]:
    """Scores whose baseline (learning rate 1e-3) is ``best`` above the others, SD 0.01."""
    return lambda spec: (
        0.5 + best * (spec.configuration.values.get("learning_rate") == 1e-3) + noise(spec)
    )


def seeds_of(sweep: Sweep, family: str = "gnn") -> dict[float, list[int]]:
    """Seeds by learning rate, in the order of training."""
    found = defaultdict(list)
    for record in sweep.ledger.records.values():
        if record.family == family:
            found[record.configuration.values.get("learning_rate", 0.0)].append(record.seed)
    return found


def test_what_cannot_win_gets_no_more_seeds(tmp_path: Path) -> None:
    sweep = Sweep(raced(tmp_path), score=apart(0.2))
    sweep.run_alone(10_000)
    assert sweep.planner.finished
    seeds = seeds_of(sweep)
    assert seeds.pop(1e-3) == MANY
    assert all(2 <= len(got) <= 5 for got in seeds.values()), seeds
    winner = sweep.planner.winner()
    assert winner is not None
    assert winner.configuration.values["learning_rate"] == 1e-3


def test_without_racing_all_get_every_seed(tmp_path: Path) -> None:
    sweep = Sweep(raced(tmp_path, race_alpha=None), score=apart(0.2))
    sweep.run_alone(10_000)
    assert all(got == MANY for got in seeds_of(sweep).values())


def test_a_failure_is_the_worst_seed_of_the_race(tmp_path: Path) -> None:
    sweep = Sweep(raced(tmp_path), score=apart(0.0))
    sweep.run()
    trials: dict[str, dict[int, RunRecord]] = defaultdict(dict)
    for record in sweep.ledger.records.values():
        if record.family == "gnn":
            trials[record.config_hash][record.seed] = record
    victim = next(iter(trials))
    failed = {
        seed: record.model_copy(update={"status": "failed", "metrics": {}})
        for seed, record in trials[victim].items()
    }
    one_failing = {**trials, victim: failed}
    assert victim in drops(one_failing, MANY[1:], "val_f1", alpha=0.1)
    assert drops(one_failing, MANY[1:], "val_f1", alpha=None) == {}


def test_a_loss_is_better_when_lower(tmp_path: Path) -> None:
    sweep = Sweep(raced(tmp_path, race_alpha=None), score=apart(0.2))
    sweep.run()
    trials: dict[str, dict[int, RunRecord]] = defaultdict(dict)
    for record in sweep.ledger.records.values():
        if record.family == "gnn":
            loss = {"val_loss": record.metrics["val_f1"]}
            changed = record.model_copy(update={"metrics": {**record.metrics, **loss}})
            trials[record.config_hash][record.seed] = changed
    best = next(h for h, t in trials.items() if t[42].configuration.values["learning_rate"] == 1e-3)
    assert set(drops(trials, MANY[1:], "val_f1", 0.1)) == set(trials) - {best}
    assert best in drops(trials, MANY[1:], "val_loss", 0.1)


def test_the_undecided_get_extra_seeds_up_to_the_limit(tmp_path: Path) -> None:
    plan = raced(tmp_path, families=("gnn",), top_k=2, seeds=[42, 7], max_seeds=6)
    sweep = Sweep(plan, score=apart(0.0))
    sweep.run()
    assert plan.replicate.all_seeds == (42, 7, 1, 2, 3, 4)
    finalists = [got for got in seeds_of(sweep).values() if len(got) > 1]
    assert [sorted(got) for got in finalists] == [[1, 2, 3, 4, 7, 42]] * 2
    floor = [r.seed for r in sweep.ledger.records.values() if r.stage == "floor"]
    assert sorted(floor) == [1, 2, 3, 4, 7, 42]
    winner = sweep.planner.winner()
    assert winner is not None
    assert len(winner.seeds) == 6


def test_extra_seeds_end_when_all_is_decided(tmp_path: Path) -> None:
    """One finalist against the floor: six fresh wins of one comparison decide it."""
    plan = raced(tmp_path, top_k=1, seeds=[42, 7, 9], max_seeds=30)
    floor_is_worse = Sweep(plan, score=lambda spec: float(spec.family == "gnn") + noise(spec))
    floor_is_worse.run_alone(10_000)
    assert floor_is_worse.planner.finished
    (most,) = [got for got in seeds_of(floor_is_worse).values() if len(got) > 1]
    assert most == [42, 7, 9, 1, 2, 3, 4]


def test_a_budget_of_epochs_bounds_extra_seeds(tmp_path: Path) -> None:
    """Four points and one more seed for two finalists are 24 epochs; a round costs 8."""
    plan = raced(tmp_path, top_k=2, seeds=[42, 7], max_seeds=20, budget_epochs=24 + 3 * 8 + 1)
    sweep = Sweep(plan, score=apart(0.0))
    sweep.run()
    assert sweep.planner.finished
    assert max(map(len, seeds_of(sweep).values())) == 2 + 3
    spent = sum(r.epochs for r in sweep.ledger.records.values() if r.family == "gnn")
    assert spent == 24 + 3 * 8


def test_extra_seeds_of_fusion_come_with_those_of_its_branches(tmp_path: Path) -> None:
    names = ("transformer", "gnn", "fusion")
    plan = raced(tmp_path, families=names, top_k=2, seeds=[42, 7], max_seeds=5)
    sweep = Sweep(plan, score=lambda spec: noise(spec) + 0.1 * (spec.family == "fusion"))
    sweep.run()
    assert sweep.planner.finished
    records = sweep.ledger.records
    fusion = [r for r in records.values() if r.family == "fusion" and r.stage == "replicate"]
    assert {r.seed for r in fusion} == {7, 1, 2, 3}
    for record in fusion:
        for family, key in record.branches.items():
            branch = records[key]
            assert (branch.family, branch.seed) == (family, record.seed)
            assert branch.configuration == sweep.planner.plans[family].branch


@pytest.mark.parametrize("lead", [0.0, 0.02, 0.5])
def test_going_on_before_a_round_has_ended_trains_the_same_trials(
    tmp_path: Path, lead: float
) -> None:
    """One after the other there is nothing to go on beside."""
    settings: dict[str, Any] = {"top_k": 2, "seeds": [42, 7, 9], "max_seeds": 10}
    names = ("transformer", "gnn", "fusion")

    def score(spec: TrialSpec) -> float:
        return lead * (names.index(spec.family) if spec.family in names else -1) + noise(spec)

    def sweep(name: str) -> Sweep:
        plan = raced(tmp_path / name, families=names, **settings)
        two_points = plan.search.model_copy(update={"num_trials": 2})  # both are given, not found
        return Sweep(plan.model_copy(update={"search": two_points}), score=score)

    alone, beside = sweep("alone"), sweep("beside")
    alone.run_alone(10_000)
    beside.run()
    assert alone.planner.finished
    assert beside.planner.finished
    assert sorted(alone.trained) == sorted(beside.trained)


def test_a_model_goes_on_while_others_are_waited_for_as_long_as_nothing_can_be_decided(
    tmp_path: Path,
) -> None:
    """With five fresh seeds or fewer no outcome tells two models apart."""
    names = ("transformer", "gnn", "fusion")
    plan = raced(tmp_path, families=names, top_k=1, seeds=[42, 7, 9], max_seeds=10)
    sweep = Sweep(plan, score=noise)
    held = []
    while (job := sweep.planner.next_job()) is not None:
        if job.spec.family == "fusion":
            held.append(job)
        else:
            sweep.finish(job)  # type: ignore[arg-type]
    first_of_fusion = [job.spec.seed for job in held]
    assert set(first_of_fusion) == {42}, "its range test or first points wait here"
    ahead = {family: sorted(seeds_of(sweep, family).values(), key=len)[-1] for family in names[:2]}
    assert all(sorted(set(seeds)) == [1, 2, 3, 4, 7, 9, 42] for seeds in ahead.values())
    for job in held:
        sweep.finish(job)  # type: ignore[arg-type]
    sweep.run()
    assert sweep.planner.finished


def test_nobody_goes_on_where_epochs_are_budgeted(tmp_path: Path) -> None:
    names = ("transformer", "gnn", "fusion")
    plan = raced(
        tmp_path, families=names, top_k=1, seeds=[42, 7], max_seeds=10, budget_epochs=10_000
    )
    sweep = Sweep(plan, score=noise)
    while (job := sweep.planner.next_job()) is not None:
        if job.spec.family != "fusion":
            sweep.finish(job)  # type: ignore[arg-type]
    assert {seed for got in seeds_of(sweep).values() for seed in got} == {42, 7}


@pytest.mark.parametrize("difference", [0.0, 0.01, 0.03])
def test_restarted_after_every_job_it_gives_the_same_seeds(
    tmp_path: Path, difference: float
) -> None:
    settings: dict[str, Any] = {"top_k": 3, "seeds": [42, 7, 9, 11], "max_seeds": 9}
    whole = Sweep(raced(tmp_path / "a", **settings), score=apart(difference))
    pieces = Sweep(raced(tmp_path / "b", **settings), score=apart(difference))
    whole.run_alone(10_000)
    for _ in range(200):
        if pieces.planner.finished:
            break
        pieces.run_alone(1)
        pieces.restart()
        pieces.planner.next_job()
        pieces.restart()
    assert len(set(pieces.trained)) == len(pieces.trained)
    assert sorted(pieces.trained) == sorted(whole.trained)


def test_more_seeds_after_the_end_change_nothing_that_was(tmp_path: Path) -> None:
    first = Sweep(raced(tmp_path, top_k=2, seeds=[42, 7]), score=apart(0.0))
    first.run()
    before = list(first.trained)
    first.plan = raced(tmp_path, top_k=2, seeds=[42, 7], max_seeds=5)
    first.restart()
    assert not first.planner.finished
    first.run()
    assert first.trained[: len(before)] == before
    added = [first.ledger.records[key] for key in first.trained[len(before) :]]
    assert {r.seed for r in added} == {1, 2, 3}


def test_a_dropped_configuration_never_stands_above_its_family_s_best(tmp_path: Path) -> None:
    sweep = Sweep(raced(tmp_path), score=apart(0.2))
    sweep.run_alone(10_000)
    lucky = {}
    for key, record in sweep.ledger.records.items():
        is_search = (
            record.stage == "search" and record.configuration.values["learning_rate"] != 1e-3
        )
        metrics = {"val_f1": 9.0} if is_search else record.metrics
        lucky[key] = record.model_copy(update={"metrics": metrics})
    gnn = [r for r in lucky.values() if r.family == "gnn"]
    rows = rank(gnn, objective="val_f1", seeds=MANY, race_alpha=0.1)
    assert rows[0].configuration.values["learning_rate"] == 1e-3
    assert rows[0].dropped is None
    assert all(row.dropped is not None for row in rows[1:])
    by_mean = rank(gnn, objective="val_f1", seeds=MANY)
    assert by_mean[0].configuration.values["learning_rate"] != 1e-3


def test_families_are_told_apart_by_those_still_in_the_race(tmp_path: Path) -> None:
    def record(family: str, config: str, seed: int, value: float) -> RunRecord:
        sample = next(iter(sweep.ledger.records.values()))
        return sample.model_copy(
            update={"family": family, "config_hash": config, "seed": seed, "status": "completed"}
            | {"metrics": {"val_f1": value}}
        )

    sweep = Sweep(raced(tmp_path))
    sweep.run_alone(1)
    rounds = list(range(8))
    trials = {
        "good": {"g": {s: record("good", "g", s, 0.9 + s / 1000) for s in rounds}},
        "poor": {
            "p": {s: record("poor", "p", s, 0.5) for s in rounds},
            "q": {s: record("poor", "q", s, 0.4) for s in rounds[:2]},
        },
    }
    (with_all,) = model_claims(trials, {}, rounds, "val_f1").values()
    assert with_all.p_holm > 0.2  # two seeds of q are no proof against it
    (in_race,) = model_claims(trials, {"poor": {"q"}}, rounds, "val_f1").values()
    assert in_race.p_holm < 0.05
    assert in_race.a_is_better


def test_what_seeds_can_show_is_said() -> None:
    few = attainable_p(3, num_models=4)
    assert "3 seeds, of which 2 had no part in choosing" in few[0]
    assert "takes at least 7 for two configurations, 9 for 4 models" in few[1]
    assert len(attainable_p(8, num_models=4)) == 2
    assert len(attainable_p(9, num_models=4)) == 1
    assert len(attainable_p(7, num_models=2)) == 1


def test_a_limit_below_the_seeds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_seeds 3 is below the number of seeds"):
        raced(tmp_path, max_seeds=3)


def test_a_sweep_may_be_extended_by_seeds_for_the_undecided(tmp_path: Path) -> None:
    begin(raced(tmp_path, seeds=[42, 7], max_seeds=5, budget_epochs=30))
    begin(raced(tmp_path, seeds=[42, 7], max_seeds=9, budget_epochs=None), extends=True)
    with pytest.raises(InputError, match=r"replicate\.max_seeds: 9 before, 5 now"):
        begin(raced(tmp_path, seeds=[42, 7], max_seeds=5, budget_epochs=None), extends=True)
    with pytest.raises(InputError, match=r"replicate\.budget_epochs: None before, 90 now"):
        begin(raced(tmp_path, seeds=[42, 7], max_seeds=9, budget_epochs=90), extends=True)


def test_the_winner_is_varied_by_one_stream_at_a_time(tmp_path: Path) -> None:
    sweep = Sweep(raced(tmp_path, seeds=[42, 7], variance_seeds=2), score=apart(0.2))
    sweep.run()
    assert sweep.planner.finished
    winner = sweep.planner.winner()
    assert winner is not None
    varied = [r for r in sweep.ledger.records.values() if r.stage == "variance"]
    assert {r.config_hash for r in varied} == {winner.config_hash}
    assert {r.seed for r in varied} == {42}
    streams = sorted((stream, seed) for r in varied for stream, seed in r.streams.items())
    assert streams == [("init", 1), ("init", 2), ("order", 1), ("order", 2)]
    assert set(winner.seeds) == {42, 7}
    trained = list(sweep.trained)
    sweep.restart()
    sweep.run()
    assert sweep.trained == trained


def trained_with(sweep: Sweep, family: str) -> dict[str, set[int]]:
    found = defaultdict(set)
    for record in sweep.ledger.records.values():
        if record.family == family:
            found[record.config_hash].add(record.seed)
    return found


@pytest.mark.parametrize("number", range(12))
def test_after_an_extension_planner_and_leaderboard_agree(tmp_path: Path, number: int) -> None:
    names = ("transformer", "gnn", "fusion")

    def score(spec: TrialSpec) -> float:
        return random.Random(f"{number} {spec.config_hash} {spec.seed}").random()

    def space(num_trials: int, **replicate: Any) -> Experiment:
        plan = raced(tmp_path, families=names, **replicate)
        return plan.model_copy(
            update={"search": plan.search.model_copy(update={"num_trials": num_trials})}
        )

    sweep = Sweep(space(3, top_k=2, seeds=[42, 7]), score=score)
    sweep.run()
    built = {r.branches["gnn"] for r in sweep.ledger.records.values() if r.branches}
    sweep.plan = space(9, top_k=2, seeds=[42, 7, 9, 11], max_seeds=6)
    sweep.restart()
    sweep.run()
    assert sweep.planner.finished
    records = sweep.ledger.records
    rows = rank(
        records.values(),
        objective="val_f1",
        seeds=sweep.plan.replicate.all_seeds,
        race_alpha=sweep.plan.replicate.race_alpha,
    )
    first = next(row for row in rows if not row.is_floor)
    winner = sweep.planner.winner()
    assert winner is not None
    assert (first.family, first.config_hash) == (winner.family, winner.config_hash)
    branches = {records[key].config_hash for key in built}
    assert len(branches) == 1  # fusion keeps to what it was built on
    after = [r for r in records.values() if r.branches]
    assert {records[r.branches["gnn"]].config_hash for r in after} == branches
    (branch,) = branches
    assert {42, 7, 9, 11} <= trained_with(sweep, "gnn")[branch]


def test_a_family_that_cannot_be_finished_keeps_nothing_from_the_others(tmp_path: Path) -> None:
    names = ("transformer", "gnn", "fusion")
    plan = raced(tmp_path, families=names, top_k=2, seeds=[42, 7], max_seeds=4, variance_seeds=1)
    sweep = Sweep(plan, failing=("gnn",), score=apart(0.0))
    sweep.run()
    assert sweep.planner.finished
    assert not sweep.planner.plans["fusion"].finished
    assert max(map(len, trained_with(sweep, "transformer").values())) == 4
    assert any(r.stage == "variance" for r in sweep.ledger.records.values())


def test_no_seed_is_spent_on_a_pair_whose_other_side_gets_none(tmp_path: Path) -> None:
    """gnn is out of budget: more seeds of the floor alone would tell nothing."""
    plan = raced(tmp_path, top_k=1, seeds=[42, 7], max_seeds=20, budget_epochs=5 * EPOCHS)
    sweep = Sweep(plan, score=apart(0.0))
    sweep.run()
    assert sweep.planner.finished
    assert {r.seed for r in sweep.ledger.records.values()} == {42, 7}


def test_new_seeds_come_after_the_extra_ones_that_ran(tmp_path: Path) -> None:
    plan = raced(tmp_path, top_k=2, seeds=[42, 7], max_seeds=6)
    sweep = Sweep(plan, score=apart(0.0))
    sweep.run()
    for record in sweep.ledger.records.values():
        write_record(plan.folder, record)
    assert seeds_after_extension(plan.replicate, plan.folder, "seeds=[99]") == [
        42,
        7,
        1,
        2,
        3,
        4,
        99,
    ]
    assert seeds_after_extension(plan.replicate, plan.folder, "seeds=[3, 7]") == [42, 7, 1, 2, 3, 4]
    with pytest.raises(InputError, match="seeds are a list"):
        seeds_after_extension(plan.replicate, plan.folder, "seeds=99")
