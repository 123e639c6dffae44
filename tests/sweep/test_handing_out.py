"""What Tune is given when it asks for a trial: one that fits, none now, or none any more."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from played_sweep import Sweep, experiment
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from sg_ray.cluster.placing.capacity import Capacity
from sg_ray.cluster.placing.packing import Machine
from sg_ray.config import Resources
from sg_ray.host.signals import StopRequest
from sg_ray.jobs.job import AnyJob, parse_job
from sg_ray.sweep.execute import in_flight, tune_hooks
from sg_ray.sweep.execute.actor import JOB
from sg_ray.sweep.execute.in_flight import InFlight
from sg_ray.sweep.execute.room import Room
from sg_ray.sweep.execute.tune_actors import ActorManager, IdleActors, take_over
from sg_ray.sweep.execute.tune_hooks import PlanSearcher, PruningScheduler


class Cluster:
    """A searcher that is asked as Tune does, on nodes that come and go."""

    def __init__(self, tmp_path: Path) -> None:
        self.sweep = Sweep(experiment(tmp_path))
        self.nodes = [Machine(2)]
        self.now_s = 0.0
        self.waits: list[str] = []
        worklist: Any = SimpleNamespace(
            next_job=self.sweep.planner.next_job,
            again=lambda job: job,
            on_waiting=lambda wait_s, reason: self.waits.append(reason),
        )
        self.flight = InFlight(StopRequest(), max_failures=2)
        room = Room({Resources()}, lambda: Capacity(tuple(self.nodes)), now_s=lambda: self.now_s)
        self.searcher = PlanSearcher(worklist, self.flight, room)
        self.num_asked = 0

    def ask(self) -> AnyJob | str | None:
        self.num_asked += 1
        answer = self.searcher.suggest(str(self.num_asked))
        assert self.flight.error is None
        return answer if answer in (None, Searcher.FINISHED) else parse_job(answer[JOB])

    def end(self) -> None:
        """End the trial that began first."""
        job = self.flight.end(next(iter(self.flight.jobs)))
        self.sweep.finish(job)  # type: ignore[arg-type]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def test_as_many_are_given_as_fit_and_the_end_is_told(cluster: Cluster) -> None:
    num_given = 0
    while (answer := cluster.ask()) != Searcher.FINISHED:
        num_given += answer is not None
        if answer is None:
            assert len(cluster.flight.jobs) <= 2
            cluster.end()
    num_tests = sum(model.is_neural for model in cluster.sweep.models)
    assert num_given == len(cluster.sweep.trained) + num_tests
    assert cluster.flight.done
    assert cluster.sweep.planner.finished


def test_a_cluster_that_has_lost_all_nodes_is_waited_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(in_flight.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(tune_hooks, "_why_none_is_asked_for", lambda: "no room")
    cluster.flight.waiting.end()
    cluster.nodes.clear()
    cluster.now_s = 10
    looks: list[float] = []
    check: Any = SimpleNamespace(look=lambda: looks.append(clock[0]))
    cluster.flight.nodes = check  # a node that joins is used once it has passed
    for clock[0] in (1.0, 61.0, 100.0, 122.0):
        assert cluster.ask() is None
    assert len(looks) == 4
    assert cluster.waits == ["no room"] * 2
    assert not cluster.flight.done
    cluster.nodes.append(Machine(1))
    cluster.now_s = 20
    assert isinstance(cluster.ask(), AnyJob)
    assert cluster.ask() is None


def test_a_sweep_that_is_over_waits_for_no_node(cluster: Cluster) -> None:
    cluster.sweep.run()
    cluster.nodes.clear()
    cluster.now_s = 10
    assert cluster.ask() == Searcher.FINISHED


def test_what_was_lost_comes_first_once_it_fits(cluster: Cluster) -> None:
    first = cluster.ask()
    assert isinstance(first, AnyJob)
    lost = cluster.flight.end("1").lost()
    large = lost.model_copy(update={"resources": Resources(cpus=4)})
    cluster.flight.lost += [large, lost]
    assert cluster.ask() == lost
    assert cluster.flight.lost == [large]
    cluster.nodes.append(Machine(4))
    cluster.now_s = 10
    assert cluster.ask() == large


def test_what_was_to_be_given_up_when_it_was_lost_makes_room(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.ask()
    cluster.flight.lost.append(cluster.flight.end("1").lost())
    monkeypatch.setattr(cluster.searcher._worklist, "again", lambda job: None)
    job = cluster.ask()
    assert isinstance(job, AnyJob)
    assert job.name != "1"
    assert cluster.flight.lost == []


@pytest.mark.parametrize(
    ("reason", "is_left"), [("preempted", True), ("stop", False), (None, False)]
)
def test_the_process_on_a_leaving_node_is_not_kept(
    cluster: Cluster, reason: str | None, is_left: bool
) -> None:
    manager = ActorManager(SimpleNamespace())
    trial, actor = Trial("trial", stub=True), TrackedActor(7)
    controller = SimpleNamespace(_trial_to_actor={trial: actor}, _actor_manager=manager)
    scheduler = PruningScheduler(None, cluster.flight)  # type: ignore[arg-type]
    scheduler.on_trial_complete(controller, trial, {"interrupted": reason})
    assert manager.is_actor_failed(actor) is is_left


def test_an_idle_process_is_kept_for_the_next_trial_of_its_kind() -> None:
    """Ray's own cache has all but one ended once no trial waits."""
    idle = IdleActors()
    assert all(idle.cache_object("one CPU", TrackedActor(number)) for number in range(3))
    assert list(idle.flush_cached_objects()) == []
    idle.increase_max("one CPU")
    assert list(idle.flush_cached_objects()) == []
    assert idle.pop_cached_object("one CPU") == TrackedActor(0)
    idle.decrease_max("one CPU")
    assert list(idle.flush_cached_objects(force_all=True)) == [TrackedActor(1), TrackedActor(2)]


def test_an_idle_process_makes_room_for_a_trial_that_takes_something_else() -> None:
    idle = IdleActors()
    assert idle.cache_object("one CPU", TrackedActor(1))
    idle.increase_max("two CPUs")
    assert list(idle.flush_cached_objects()) == [TrackedActor(1)]
    assert not idle.cache_object("one CPU", TrackedActor(2))


@pytest.mark.parametrize("keeps_idle", [True, False])
def test_only_on_a_cluster_may_an_idle_process_end(*, keeps_idle: bool) -> None:
    before = SimpleNamespace(_resource_manager=None)
    controller = SimpleNamespace(_actor_manager=before, _actor_cache=None)
    take_over(controller, keeps_idle=keeps_idle)
    manager = controller._actor_manager
    take_over(controller, keeps_idle=keeps_idle)
    assert isinstance(manager, ActorManager)
    assert controller._actor_manager is manager
    assert isinstance(controller._actor_cache, IdleActors) is keeps_idle
