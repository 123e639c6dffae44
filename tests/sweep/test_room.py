"""What is handed out beside what runs, on clusters that stay, shrink and grow."""

from collections.abc import Callable
from pathlib import Path

import pytest
from played_sweep import Sweep, experiment

from sg_ray.cluster.placing.capacity import Capacity
from sg_ray.cluster.placing.packing import Machine
from sg_ray.config import Model, Resources
from sg_ray.jobs.job import AnyJob, LrRangeJob, TrainJob
from sg_ray.sweep.execute.room import MOST_WAITING, Room
from sg_ray.trial.spec import TrialSpec

GNN = Resources(gpus=0.25)
TRANSFORMER = Resources(gpus=1)
GROUP = Resources(gpus=1, num_workers=4)
ELASTIC = Resources(gpus=1, num_workers=4, min_workers=1)


@pytest.fixture
def job(tmp_path: Path) -> Callable[[Resources], TrainJob]:
    spec: TrialSpec = Sweep(experiment(tmp_path)).planner.next_job().spec  # type: ignore[union-attr]
    return lambda takes: TrainJob(spec=spec, stage="search", resources=takes)


def room(capacity: Capacity, limit: int | None = None) -> Room:
    return Room({GNN, TRANSFORMER}, lambda: capacity, limit, now_s=lambda: 0.0)


def num_handed_out(room: Room, one: TrainJob, beside: tuple[AnyJob, ...] = ()) -> int:
    """How many of a kind are handed out before the next finds no room; each begins at once."""
    jobs = list(beside)
    while room.beside(jobs, 0)(one.resources):
        jobs.append(one)
    return len(jobs) - len(beside)


def test_each_trial_counts_by_what_it_takes(job: Callable[[Resources], TrainJob]) -> None:
    """The largest family's share is not everybody's."""
    one_gpu = room(Capacity((Machine(16, 1),)))
    assert num_handed_out(one_gpu, job(GNN)) == 4
    assert num_handed_out(one_gpu, job(TRANSFORMER)) == 1
    assert num_handed_out(one_gpu, job(TRANSFORMER), (job(GNN),)) == 0
    assert num_handed_out(one_gpu, job(GNN), (job(TRANSFORMER),)) == 0
    assert num_handed_out(room(Capacity((Machine(16, 1),)), 3), job(GNN)) == 3


def test_a_group_starts_only_if_its_workers_fit_beside_all_others(
    job: Callable[[Resources], TrainJob],
) -> None:
    machines = room(Capacity((Machine(8, 4), Machine(8, 4))))
    assert num_handed_out(machines, job(GROUP)) == 2
    assert num_handed_out(machines, job(GROUP), (job(GNN),)) == 1
    assert num_handed_out(machines, job(TRANSFORMER), (job(GROUP),)) == 4


def test_an_elastic_group_is_taken_to_have_all_that_it_can_use(
    job: Callable[[Resources], TrainJob],
) -> None:
    assert num_handed_out(room(Capacity((Machine(8, 4),))), job(ELASTIC)) == 1
    assert num_handed_out(room(Capacity((Machine(8, 6),))), job(ELASTIC)) == 2
    assert num_handed_out(room(Capacity((Machine(8, 2),))), job(ELASTIC)) == 1


def test_a_range_test_of_a_group_runs_on_one_worker(job: Callable[[Resources], TrainJob]) -> None:
    group = job(GROUP)
    test = LrRangeJob(spec=group.spec, resources=GROUP, num_steps=1, num_seeds=1, max_samples=1)
    assert num_handed_out(room(Capacity((Machine(8, 5),))), group, (test,)) == 1


def test_nodes_that_come_and_go_are_followed(job: Callable[[Resources], TrainJob]) -> None:
    clock, nodes = [0.0], [Machine(2)]
    takes = Resources(cpus=1)
    cluster = Room({takes}, lambda: Capacity(tuple(nodes)), now_s=lambda: clock[0])
    running = [job(takes)] * 2
    assert not cluster.beside(running, 0)(takes)
    nodes.append(Machine(4))
    clock[0] = 10.0
    assert num_handed_out(cluster, job(takes), tuple(running)) == 4
    nodes.clear()
    clock[0] = 20.0
    gap = cluster.beside(running, 0)
    assert not gap(takes)
    assert cluster.is_full(gap)


def test_machines_that_may_come_are_asked_for_by_a_few_trials(
    job: Callable[[Resources], TrainJob],
) -> None:
    """A head without CPUs: nothing fits now, and without demand nothing ever would."""
    spot = room(Capacity((Machine(0),), (Machine(96, 8),) * 4))
    jobs: list[AnyJob] = []
    while spot.beside(jobs, num_waiting=len(jobs))(TRANSFORMER):
        jobs.append(job(TRANSFORMER))
    assert len(jobs) == MOST_WAITING
    few = room(Capacity((Machine(0),), (Machine(4, 1),) * 2))
    assert [few.beside([job(TRANSFORMER)] * n, n)(TRANSFORMER) for n in (0, 1, 2)] == [
        True,
        True,
        False,
    ]
    unknown = room(Capacity((Machine(0),), may_grow=True))
    assert unknown.beside([], 0)(TRANSFORMER)
    assert not unknown.beside([job(TRANSFORMER)], 1)(TRANSFORMER)
    fixed = room(Capacity((Machine(0),)))
    assert not fixed.beside([], 0)(TRANSFORMER)


def takes_of(model: Model, takes: dict[str, Resources]) -> Model:
    from dataclasses import replace

    return replace(model, resources=takes.get(model.name, Resources()))


def test_a_model_that_finds_no_room_holds_up_no_other(tmp_path: Path) -> None:
    plan = experiment(tmp_path)
    models = [takes_of(model, {"transformer": TRANSFORMER}) for model in plan.all_models]
    sweep = Sweep(plan, models=models)
    gap = Room({Resources(), TRANSFORMER}, lambda: Capacity((Machine(4),))).beside([], 0)
    handed_out = [sweep.planner.next_job(gap) for _ in range(12)]
    assert "gnn" in {job.spec.model for job in handed_out if job is not None}
    assert all(job is None or job.spec.model != "transformer" for job in handed_out)
    assert gap.was_refused
    with_gpu = sweep.planner.next_job(lambda takes: True)
    assert with_gpu is not None
    assert with_gpu.spec.model == "transformer"


def test_a_sweep_of_equal_trials_asks_in_the_same_order(tmp_path: Path) -> None:
    """On one machine the number at once was the quotient, and nothing may be asked for sooner."""
    orders = []
    for num_cpus in (None, 3):
        plan = experiment(tmp_path / str(num_cpus))
        sweep, running, asked = Sweep(plan), list[AnyJob](), list[str]()
        cluster = Room({Resources()}, lambda: Capacity((Machine(3),)))
        while True:
            while len(running) < 3 or num_cpus:
                gap = cluster.beside(running, 0)
                job = sweep.planner.next_job(gap) if num_cpus else sweep.planner.next_job()
                if job is None:
                    break
                running.append(job)
                asked.append(job.spec.name)
            if not running:
                break
            sweep.finish(running.pop(0))  # type: ignore[arg-type]
        orders.append(asked)
    assert orders[0] == orders[1]
    assert len(orders[0]) > 20
