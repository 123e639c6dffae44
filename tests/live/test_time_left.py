"""Totals and time left come from what is planned, and say so where it may become more."""

import pytest

from sg_ray.live.progress import Progress
from sg_ray.live.time_left import SHORTEST_S, time_left_s
from sg_ray.records.events import (
    EpochEnded,
    Event,
    FinalistDropped,
    LearningRateFound,
    StageStarted,
    SweepFinished,
    SweepPlanned,
    TrialFinished,
    TrialStarted,
)

OBJECTIVE = "val_roc_auc"


def plan(*stages: dict) -> Event:
    return SweepPlanned(at_ms=0, stages=stages)


def stage(family: str, name: str, num_trials: int, num_extra: int = 0, num_finalists: int = 1):
    return {
        "model": family,
        "stage": name,
        "num_trials": num_trials,
        "num_extra": num_extra,
        "num_finalists": num_finalists,
    }


def begun(family: str, name: str, at_s: float = 0) -> Event:
    return StageStarted(at_ms=int(1000 * at_s), model=family, stage=name, num_trials=1)


def started(key: str, at_s: float = 0, family: str = "gnn", name: str = "search", **data) -> Event:
    facts = {
        "model": family,
        "family": family,
        "stage": name,
        "config": {},
        "config_hash": "ab12cd34",
        "seed": 42,
        **data,
    }
    return TrialStarted(at_ms=int(1000 * at_s), trial_key=key, **facts)


def epoch(key: str, number: int, at_s: float) -> Event:
    return EpochEnded(at_ms=int(1000 * at_s), trial_key=key, epoch=number, metrics={})


def finished(key: str, at_s: float, status: str = "completed") -> Event:
    data = {"status": status, "epochs": 1, "metrics": {OBJECTIVE: 0.7}}
    return TrialFinished(at_ms=int(1000 * at_s), trial_key=key, **data)


def trial(
    key: str, begin_s: float, end_s: float, family: str = "gnn", name: str = "search", **data
):
    return [started(key, begin_s, family, name, **data), finished(key, end_s)]


def told(*events: Event | list[Event]) -> Progress:
    progress = Progress(OBJECTIVE)
    for event in events:
        for one in event if isinstance(event, list) else [event]:
            progress.apply(one)
    return progress


def test_the_time_left_is_shared_by_as_many_as_run_side_by_side():
    progress = told(
        plan(stage("gnn", "search", 7)), started("a"), started("b"), started("c"), finished("a", 8)
    )
    # four to begin, two that have done as much as a trial takes
    assert time_left_s(progress) == pytest.approx((4 * 8 / 3, 4 * 8 / 3))


def test_it_is_not_known_before_anything_has_ended():
    progress = told(plan(stage("gnn", "search", 5)), started("a"))
    assert time_left_s(progress) is None


def test_the_epochs_of_a_first_trial_foretell_it():
    progress = told(
        plan(stage("gnn", "search", 2)), started("a", config={"epochs": 10}), epoch("a", 2, at_s=6)
    )
    assert time_left_s(progress) == pytest.approx((24 + 30, 24 + 30))


def test_the_floor_says_nothing_about_families_to_come():
    stages = plan(stage("lexical", "floor", 1), stage("gnn", "search", 5))
    progress = told(stages, *trial("f", 0, 0.1, "lexical", "floor"))
    assert time_left_s(progress) is None
    progress.apply(started("a", 1))
    progress.apply(finished("a", 11))
    assert time_left_s(progress) == pytest.approx((40, 40))


def test_range_tests_to_come_count():
    stages = plan(
        stage("gnn", "lr_range", 1),
        stage("gnn", "search", 1),
        stage("fusion", "lr_range", 1),
        stage("fusion", "search", 1),
    )
    rate = LearningRateFound(
        at_ms=4000, model="gnn", learning_rate=0.1, curve=[], source="range test"
    )
    progress = told(stages, begun("gnn", "lr_range"), rate, *trial("a", 4, 14))
    assert time_left_s(progress) == pytest.approx((4 + 10, 4 + 10))
    assert progress.num_planned == (2, 2)


def test_extra_seeds_are_a_range_and_time_is_left_while_any_trial_is_to_come():
    stages = plan(
        stage("gnn", "search", 1), stage("gnn", "replicate", 2, num_extra=6, num_finalists=2)
    )
    progress = told(stages, *trial("a", 0, 10), *trial("b", 10, 20, name="replicate"))
    assert progress.num_planned == (3, 9)
    assert time_left_s(progress) == pytest.approx((10, 70))
    for event in trial("c", 20, 30, name="replicate"):
        progress.apply(event)
    assert progress.num_planned == (3, 9)
    assert time_left_s(progress) == pytest.approx((SHORTEST_S, 60))
    progress.apply(started("d", 30, name="replicate"))
    assert progress.num_planned == (4, 9)
    assert time_left_s(progress) == pytest.approx((10, 60))


def test_what_the_race_drops_is_not_waited_for():
    stages = plan(stage("gnn", "replicate", 4, num_extra=6, num_finalists=2))
    drop = {"model": "gnn", "config_hash": "ffffffff", "against": "x", "after_seeds": 1}
    progress = told(
        stages,
        *trial("a", 0, 10, name="replicate"),
        *trial("b", 10, 20, name="replicate", config_hash="ffffffff"),
    )
    assert progress.num_planned == (4, 10)
    progress.apply(FinalistDropped(at_ms=20_000, **drop))
    assert progress.num_planned == (3, 6)
    assert time_left_s(progress) == pytest.approx((10, 40))


def test_the_winners_variance_is_planned_before_the_winner_is_known():
    stages = plan(stage("gnn", "search", 1), stage("", "variance", 4))
    progress = told(stages, *trial("a", 0, 10))
    assert progress.num_planned == (5, 5)
    assert time_left_s(progress) == pytest.approx((40, 40))
    for event in [begun("gnn", "variance", 10), *trial("v", 10, 20, name="variance")]:
        progress.apply(event)
    assert progress.models == ["gnn"]


def test_a_sweep_that_is_over_has_no_time_left_and_no_trials_to_come():
    end = SweepFinished(at_ms=11_000, status="completed")
    progress = told(plan(stage("gnn", "search", 5)), *trial("a", 0, 10), end)
    assert (progress.num_planned, time_left_s(progress)) == ((1, 1), None)


def test_after_an_interruption_the_time_left_is_told_again():
    progress = told(plan(stage("gnn", "search", 3)), *trial("a", 0, 10), started("b", 10))
    progress.interrupt()
    assert time_left_s(progress) == pytest.approx((20, 20))
