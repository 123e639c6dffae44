"""What ``--dry-run`` says of how many trials run at once."""

import pytest

from sg_ray.cluster.placing import at_once
from sg_ray.cluster.placing import capacity as capacity_module
from sg_ray.cluster.placing.capacity import Capacity
from sg_ray.cluster.placing.packing import Machine
from sg_ray.config import Resources

TAKES = {
    "lexical": Resources(cpus=1),
    "transformer": Resources(cpus=4, gpus=1),
    "gnn": Resources(cpus=1, gpus=0.25),
}
BIG = Machine(32, 4)


@pytest.mark.parametrize(
    ("machine", "at_most", "told"),
    [
        (
            Machine(16, 1),
            None,
            "at once on this machine (16 CPUs, 1 GPU): 16 lexical, 1 transformer or 4 gnn; "
            "together 12 lexical and 1 transformer",
        ),
        (
            Machine(16, 2),
            3,
            "at once on this machine (16 CPUs, 2 GPUs): 3 lexical, 2 transformer or 3 gnn; "
            "together 1 lexical, 1 transformer and 1 gnn (max_concurrent_trials=3)",
        ),
    ],
)
def test_of_this_machine(
    machine: Machine, at_most: int | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_once, "machine_here", lambda: machine)
    assert at_once.told_at_once(TAKES, "local", at_most) == told


def test_one_model_has_no_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_once, "machine_here", lambda: Machine(1))
    told = at_once.told_at_once({"gnn": Resources()}, "local", None)
    assert told == "at once on this machine (1 CPU, 0 GPUs): 1 gnn"


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (Capacity((BIG,)), "(1 machine: 32 CPUs, 4 GPUs): 4 transformer"),
        (
            Capacity((Machine(0),), (BIG, BIG)),
            "(1 machine: 0 CPUs, 0 GPUs; up to 2 machines more: 64 CPUs, 8 GPUs): 8 transformer",
        ),
        (
            Capacity((BIG,), may_grow=True),
            "(1 machine: 32 CPUs, 4 GPUs; others may be added): 4 transformer",
        ),
    ],
)
def test_of_a_cluster(found: Capacity, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity_module, "capacity_at", lambda address: ("10.0.0.5:6379", found))
    takes = {"transformer": TAKES["transformer"]}
    shown = at_once.told_at_once(takes, "auto", None)
    assert shown == f"at once on the cluster at 10.0.0.5:6379 {told}"
