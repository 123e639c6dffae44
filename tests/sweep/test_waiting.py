"""A sweep whose trials cannot begin says so, and why."""

import re
import shutil
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from sg_ray.cluster import trouble as ray_trouble
from sg_ray.cluster.nodes.placement_groups import HOLD
from sg_ray.errors import InputError
from sg_ray.sweep.execute import in_flight, tune_hooks


class Waits:
    """Hears what the worklist would write down."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str]] = []

    def on_waiting(self, wait_s: float, reason: str) -> None:
        self.heard.append((wait_s, reason))


def test_c12_it_is_told_once_a_minute_while_no_trial_has_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr(in_flight.time, "monotonic", lambda: clock.now_s)
    monkeypatch.setattr(tune_hooks, "_why_none_begins", lambda: "no room")
    flight: Any = SimpleNamespace(
        stop=lambda: False,
        jobs={"a": "job", "b": "job"},
        started=set(),
        error=None,
        nodes=None,
        look_around=lambda: None,
        waiting=in_flight.Waiting(),
    )
    waits: Any = Waits()
    unused: Any = None  # without a stop
    callback = tune_hooks.RecordingCallback(waits, flight, unused, unused)
    for now_s in range(0, 150, 10):
        clock.now_s = float(now_s)
        callback.on_step_begin()
    assert waits.heard == [(60.0, "no room"), (120.0, "no room")]
    flight.started = {"a"}
    for now_s in range(150, 400, 10):
        clock.now_s = float(now_s)
        callback.on_step_begin()
    flight.started = set()
    clock.now_s = 440.0
    callback.on_step_begin()
    assert len(waits.heard) == 2  # b has waited for a's end, and 50 s since
    assert flight.error is None


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (
            ("CREATED", "PENDING"),
            r"Ray has no room for one \(0 of 4 CPUs, 0 of 1 GPUs are free\); held",
        ),
        (("CREATED", "REMOVED"), "Ray has room for one, but its process does not start; .*logs"),
    ],
)
def test_c12_the_reason_is_asked_of_ray(
    states: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {number: {"state": state, "name": ""} for number, state in enumerate(states)}
    table[len(table)] = {"state": "PENDING", "name": f"{HOLD} 1"}  # waits for no trial's sake
    monkeypatch.setattr(ray.util, "placement_group_table", lambda: table)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0, "GPU": 1.0})
    monkeypatch.setattr(ray, "available_resources", dict)
    monkeypatch.setattr(tune_hooks, "told_holders", lambda: "held by another")
    assert re.match(said, tune_hooks._why_none_begins())


def test_without_bash_no_worker_would_ever_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "bash" else f"/bin/{name}")
    with pytest.raises(InputError, match="bash is in no folder of PATH"):
        ray_trouble.refuse_what_cannot_hold_ray()
