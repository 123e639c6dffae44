"""Names of configurations: what differs, in few characters, and never the same twice."""

from typing import Any

import pytest

from sg_ray.configuration import Configuration
from sg_ray.short_names import MAX_CHARS, ShortNames, hides_settings

OWN = {
    "learning_rate": 1e-3, "dropout": 0.1, "num_layers": 2, "weighted_sampling": False,
    "weight_decay": 0.01, "pretrained": None, "graphs": {"graph": "program", "max_nodes": 2000},
}  # fmt: skip


def made(model: str = "gnn", **changes: Any) -> Configuration:
    return Configuration(model=model, family=model, values={**OWN, **changes})


def names(*configurations: Configuration) -> list[str]:
    given = ShortNames(made(configurations[0].model))
    return [given.named(configuration).name for configuration in configurations]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "gnn"),
        ({"learning_rate": 3e-4}, "gnn lr 3e-4"),
        ({"learning_rate": 3.14159e-4}, "gnn lr 3.1e-4"),
        ({"learning_rate": 0.05}, "gnn lr 0.05"),
        ({"learning_rate": 1.0}, "gnn lr 1"),
        ({"dropout": 0.2, "learning_rate": 5e-3}, "gnn lr 5e-3 dropout 0.2"),
        ({"dropout": 0.0}, "gnn dropout 0"),
        ({"num_layers": 4}, "gnn layers 4"),
        ({"weighted_sampling": True}, "gnn weighted sampling true"),
        ({"weight_decay": 1e-5}, "gnn decay 1e-5"),
        ({"weight_decay": 123456.0}, "gnn decay 1.2e5"),
        ({"weight_decay": 1234.5}, "gnn decay 1234"),
        ({"graphs": {"graph": "sequential", "max_nodes": 2000}}, "gnn graph sequential"),
        ({"learning_rate": 3e-4, "dropout": 0.2, "num_layers": 4}, "gnn lr 3e-4 dropout 0.2 +1"),
        ({"pretrained": "microsoft/a-name-of-an-encoder"}, "gnn +1"),
    ],
)
def test_a_name_tells_what_differs(changes: dict[str, Any], name: str) -> None:
    assert names(made(**changes)) == [name]
    assert hides_settings(name) == name.endswith("+1")


def test_the_later_of_two_shows_more_digits() -> None:
    rates = [3.141e-4, 3.149e-4, 3.14101e-4, 3.141e-4]
    found = names(*(made(learning_rate=rate) for rate in rates))
    assert found == ["gnn lr 3.1e-4", "gnn lr 3.15e-4", "gnn lr 3.14e-4", "gnn lr 3.1e-4"]


def test_names_do_not_change_when_more_come() -> None:
    rates = [10 ** (-5 + number / 20) for number in range(80)]
    all_of_them = names(*(made(learning_rate=rate) for rate in rates))
    assert names(*(made(learning_rate=rate) for rate in rates[:30])) == all_of_them[:30]
    assert len(set(all_of_them)) == len(all_of_them)


def test_a_resumed_sweep_keeps_the_names_on_record() -> None:
    first, second = made(learning_rate=3.14e-4), made(learning_rate=3.12e-4)
    begun = ShortNames(made())
    recorded = [begun.named(first), begun.named(second)]
    resumed = ShortNames(made(), reversed(recorded))
    assert [resumed.named(one).name for one in (second, first)] == [
        "gnn lr 3.12e-4",
        "gnn lr 3.1e-4",
    ]


def test_what_is_elided_on_both_sides_is_told_by_the_hash() -> None:
    long_names = [{"pretrained": f"microsoft/a-name-of-an-encoder-{n}"} for n in "ab"]
    found = [made(**changes) for changes in long_names]
    assert names(*found) == ["gnn +1", f"gnn +1 {found[1].hash[:8]}"]
    assert all(map(hides_settings, names(*found)))


def test_names_fit_tables() -> None:
    changes = {"learning_rate": 1.23456789e-5, "dropout": 0.123456, "weight_decay": 0.987654}
    for model in ("gnn", "transformer", "a_model_with_a_long_name_of_its_own"):
        found = names(*(made(model, **changes, num_layers=n) for n in range(30, 60)))
        assert len(set(found)) == 30
        assert max(map(len, found)) <= MAX_CHARS


def test_other_files_under_the_same_name_are_told_by_the_hash() -> None:
    other = made(pretrained_content="12ab34cd")
    assert names(other) == [f"gnn {other.hash[:8]}"]
