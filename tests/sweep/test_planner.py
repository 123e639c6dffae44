"""The plan, without Ray: jobs are answered by a formula instead of a training."""

from dataclasses import replace
from pathlib import Path

from played_sweep import SEEDS, Sweep, experiment

from sg_ray.config import FLOOR
from sg_ray.jobs.job import LrRangeJob, TrainJob
from sg_ray.sweep import winners


def test_a_job_that_runs_is_not_handed_out_again(tmp_path: Path) -> None:
    sweep = Sweep(experiment(tmp_path, families=["gnn"]))
    running = [sweep.planner.next_job() for _ in range(10)]
    floor = [job.spec.trial_key for job in running if isinstance(job, TrainJob)]
    assert len(floor) == len(set(floor)) == len(SEEDS)  # the search waits for its range test
    assert sum(isinstance(job, LrRangeJob) for job in running) == 1


def test_every_family_is_searched_then_replicated_with_every_seed(tmp_path: Path) -> None:
    sweep = Sweep(experiment(tmp_path))
    sweep.run()
    assert sweep.planner.finished
    counts: dict[tuple[str, str], int] = {}
    for record in sweep.ledger.records.values():
        counts[record.family, record.stage] = counts.get((record.family, record.stage), 0) + 1
    assert counts == {
        ("lexical", "floor"): 3,
        **{(family, "search"): 4 for family in ("transformer", "gnn", "fusion")},
        **{(family, "replicate"): 4 for family in ("transformer", "gnn", "fusion")},
    }


def test_search_and_replicate_meet_in_the_first_seed(tmp_path: Path) -> None:
    sweep = Sweep(experiment(tmp_path, families=("gnn",)))
    sweep.run()
    records = [r for r in sweep.ledger.records.values() if r.family == "gnn"]
    assert {r.seed for r in records if r.stage == "search"} == {SEEDS[0]}
    assert {r.seed for r in records if r.stage == "replicate"} == set(SEEDS[1:])
    best = sorted((r for r in records if r.stage == "search"), key=lambda r: -r.metrics["val_f1"])
    replicated = {r.config_hash for r in records if r.stage == "replicate"}
    assert replicated == {r.config_hash for r in best[:2]}


def test_fusion_seed_s_builds_on_its_branches_winners_with_seed_s(tmp_path: Path) -> None:
    sweep = Sweep(experiment(tmp_path))
    sweep.run()
    winners = sweep.planner.winners()
    for record in sweep.ledger.records.values():
        for family, trial_key in record.branches.items():
            branch = sweep.ledger.records[trial_key]
            assert (branch.family, branch.seed) == (family, record.seed)
            assert branch.config_hash == winners[family].config_hash
    assert any(record.branches for record in sweep.ledger.records.values())


def test_restarted_after_every_job_it_trains_the_same_trials_once(tmp_path: Path) -> None:
    whole, pieces = Sweep(experiment(tmp_path / "a")), Sweep(experiment(tmp_path / "b"))
    for sweep, jobs_between_restarts in ((whole, 10_000), (pieces, 1)):
        for _ in range(100):
            if sweep.planner.finished:
                break
            sweep.run_alone(jobs_between_restarts)
            sweep.restart()
            sweep.planner.next_job()  # what is on its way at a kill is lost, not done
            sweep.restart()
    assert len(set(pieces.trained)) == len(pieces.trained)
    assert sorted(pieces.trained) == sorted(whole.trained)


def test_a_family_that_always_fails_stops_those_that_build_on_it(tmp_path: Path) -> None:
    sweep = Sweep(experiment(tmp_path), failing=("gnn",))
    sweep.run()
    assert sweep.planner.finished  # nothing is left that could be done
    assert sweep.planner.plans["gnn"].finished
    assert not sweep.planner.plans["fusion"].finished
    assert set(sweep.planner.winners()) == {"transformer"}


def test_the_floor_never_wins(tmp_path: Path) -> None:
    sweep = Sweep(experiment(tmp_path, families=("gnn",)))
    sweep.run()
    for key, record in sweep.ledger.records.items():
        if record.stage == "floor":
            sweep.ledger.records[key] = record.model_copy(update={"metrics": {"val_f1": 2.0}})
    winner = sweep.planner.winner()
    assert winner is not None
    assert winner.family == "gnn"
    assert sweep.planner.winner_is_below_floor


def test_a_winner_above_the_floor_is_known_to_be_so(tmp_path: Path) -> None:
    sweep = Sweep(experiment(tmp_path, families=("gnn",)))
    assert not sweep.planner.winner_is_below_floor, "there is none yet"
    sweep.run()
    for key, record in sweep.ledger.records.items():
        if record.stage == "floor":
            sweep.ledger.records[key] = record.model_copy(update={"metrics": {"val_f1": -1.0}})
    assert not sweep.planner.winner_is_below_floor


def test_a_seed_whose_branch_failed_stays_a_seed_of_its_configuration(tmp_path: Path) -> None:
    sweep = Sweep(experiment(tmp_path, replicate={"top_k": 1, "seeds": list(SEEDS)}))
    sweep.run()
    winner = sweep.planner.winners()["gnn"]
    key = sweep.planner.plans["gnn"].spec(winner.configuration, SEEDS[1]).trial_key
    failed = sweep.ledger.records[key].model_copy(update={"status": "failed", "metrics": {}})
    sweep.ledger.records[key] = failed
    fusion = sweep.planner.plans["fusion"]
    assert winner.config_hash == sweep.planner.winners()["gnn"].config_hash
    hashes = {fusion.spec(fusion.model.baseline, seed).config_hash for seed in SEEDS}
    assert len(hashes) == 1


def test_a_kill_between_record_and_tell_adds_no_trial(tmp_path: Path) -> None:
    sweep = Sweep(experiment(tmp_path, families=("gnn",)))
    for _ in range(5):
        job = sweep.planner.next_job()
        assert job is not None
        sweep.finish(job)
    job = sweep.planner.next_job()
    assert isinstance(job, TrainJob)
    assert job.stage == "search"
    known = sweep.planner.plans["gnn"]
    sweep.planner.plans["gnn"] = Sweep(experiment(tmp_path / "other")).planner.plans["gnn"]
    sweep.finish(job)  # the record is written, the search is not told: this plan is a stranger
    sweep.planner.plans["gnn"] = known
    sweep.restart()
    sweep.run()
    records = sweep.ledger.records.values()
    assert sum(record.stage == "search" for record in records) == 4


def test_c04_points_that_machines_lost_are_asked_for_again_and_told(tmp_path: Path) -> None:
    whole = Sweep(experiment(tmp_path / "whole", families=["gnn"]))
    whole.run()
    sweep = Sweep(experiment(tmp_path / "lost", families=["gnn"]))
    sweep.machines_work = False
    sweep.run()
    num_lost = len(sweep.trained)
    sweep.machines_work = True
    sweep.ledger.records.clear()  # a start takes them back
    sweep.restart()
    sweep.run()
    assert sweep.planner.finished
    assert set(sweep.trained[:num_lost]) <= set(sweep.trained[num_lost:])
    assert len(sweep.trained[num_lost:]) == len(whole.trained)
    told = sweep.planner.plans["gnn"].winner()
    assert told is not None
    assert len(told.seeds) == len(SEEDS)


def test_two_models_of_one_family_go_ways_of_their_own(tmp_path: Path) -> None:
    plan = experiment(tmp_path, families=("gnn",))
    floor, gnn = plan.all_models
    named = [replace(gnn, name="narrow"), replace(gnn, name="wide")]
    sweep = Sweep(plan, models=[floor, *named], score=lambda spec: 0.5 + (spec.model == "wide") / 4)
    sweep.run()
    assert sweep.planner.finished
    winners = sweep.planner.winners()
    assert {name: (row.model, row.family) for name, row in winners.items()} == {
        "narrow": ("narrow", "gnn"),
        "wide": ("wide", "gnn"),
    }
    best = sweep.planner.winner()
    assert best is not None
    assert best.model == "wide"
    searched = {
        name: [r for r in sweep.ledger.of_model(name) if r.stage == "search"] for name in winners
    }
    assert {name: len(records) for name, records in searched.items()} == {"narrow": 4, "wide": 4}
    baselines = [records[0].configuration for records in searched.values()]
    assert baselines[0].values == baselines[1].values
    assert len({one.hash for one in baselines}) == 2
    assert {path.stem for path in plan.folder.search_journals} == {"narrow", "wide"}


def test_points_of_a_search_have_names_and_a_restart_keeps_them(tmp_path: Path) -> None:
    plan = experiment(tmp_path, families=("gnn",))
    whole, stopped = Sweep(plan), Sweep(experiment(tmp_path / "other", families=("gnn",)))
    whole.run_alone(99)
    for _ in range(20):
        stopped.run_alone(1)
        stopped.restart()

    def names(sweep: Sweep) -> dict[str, str]:
        records = sweep.ledger.of_model("gnn")
        return {record.config_hash: record.configuration.name for record in records}

    assert names(stopped) == names(whole)
    assert len(set(names(whole).values())) == len(names(whole)) == 4
    assert names(whole)[plan.model("gnn").baseline.hash] == "gnn"
    others = sorted(names(whole).values())[1:]
    assert all(name.startswith("gnn lr ") for name in others)


def test_of_equal_seeds_the_one_planned_first_is_exported(tmp_path: Path) -> None:
    """Side by side they end in any order."""
    sweep = Sweep(experiment(tmp_path), score=lambda _spec: 0.7)
    while jobs := list(iter(sweep.planner.next_job, None)):
        for job in reversed(jobs):
            sweep.finish(job)  # type: ignore[arg-type]
    exported = winners._best_records(sweep.planner)
    assert {record.seed for record in exported.values()} == {SEEDS[0]}
    assert FLOOR in exported
