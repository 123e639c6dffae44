"""Which machines a sweep uses: those that are named, or RAY_ADDRESS names, or this one alone."""

import socket
from pathlib import Path

import pytest
import ray
from tiny_sweep import tiny_experiment

from sg_ray.cluster.chosen_address import LOCAL, chosen_address
from sg_ray.errors import InputError
from sg_ray.preflight.readiness import check_ready
from sg_ray.sweep.execute.choice import named_executor

ELSEWHERE = "10.0.0.5:6379"


@pytest.mark.parametrize(
    ("given", "variable", "chosen"),
    [
        (None, None, LOCAL),
        (None, "", LOCAL),
        (None, ELSEWHERE, ELSEWHERE),
        (LOCAL, ELSEWHERE, LOCAL),
        ("auto", ELSEWHERE, "auto"),
        ("", ELSEWHERE, ""),
    ],
)
def test_an_address_overrules_the_variable_and_that_the_default(
    given: str | None, variable: str | None, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert chosen_address(given) == chosen


def test_only_tune_heeds_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ELSEWHERE)
    assert named_executor("tune").address == ELSEWHERE
    assert "this one" in named_executor("inline").machines()
    assert "this one (" in named_executor("tune", LOCAL).machines()


def nobody() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


@pytest.mark.parametrize(
    "address",
    [nobody(), "http://127.0.0.1:8265", "ray://head:10001"],
    ids=["nobody", "dashboard", "client"],
)
def test_a_cluster_that_is_not_there_is_told_and_no_sweep_begins(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has the variable left from elsewhere reads its name, and what overrules it."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    experiment = tiny_experiment(tmp_path)
    with pytest.raises(InputError, match=rf"RAY_ADDRESS={address}: .*--address local"):
        check_ready(experiment, named_executor("tune"))
    assert not experiment.folder.path.exists()
    assert check_ready(experiment, named_executor("tune", LOCAL)).data is not None


def test_the_first_line_tells_of_the_cluster_that_the_variable_names(
    ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del ray_session
    place = ray.get_runtime_context().gcs_address
    monkeypatch.setenv("RAY_ADDRESS", place)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    told = named_executor("tune").machines()
    assert told == f"machines: cluster at {place}, 1 node, 2 CPUs, 0 GPUs"
