"""The search of one model: what survives a restart, and what it is told."""

from pathlib import Path

import optuna
import pytest

from sg_ray.config import Experiment, Model, ModelSettings, SearchSettings
from sg_ray.space import Dimension, Space
from sg_ray.sweep.plan.search import ModelSearch

SPACE = {
    "learning_rate": Dimension(log_uniform=(1e-5, 1e-1)),
    "num_layers": Dimension(int_uniform=(1, 8)),
}
OWN = {"learning_rate": 1e-3, "num_layers": 2, "epochs": 4}


def model_with(space: Space) -> Model:
    models = {"gnn": ModelSettings(config=OWN, space=space)}
    return Experiment(name="s", models=models).model("gnn")


def open_search(path: Path, num_trials: int = 6, learning_rate: float | None = None) -> ModelSearch:
    settings = SearchSettings.model_validate(
        {"num_trials": num_trials, "seed": 3, "pruning": {"min_epochs": 1, "reduction_factor": 2}}
    )
    return ModelSearch(
        path / "gnn.journal", model_with(SPACE), settings, objective="val_f1",
        learning_rate=learning_rate,
    )  # fmt: skip


def value_of(values: dict[str, float]) -> float:
    return 1.0 / (1.0 + abs(values["num_layers"] - 4) + values["learning_rate"])


def run_to_end(search: ModelSearch) -> list[dict[str, float]]:
    tried = []
    while (point := search.ask()) is not None:
        tried.append(dict(point.values))
        search.tell(point.number, "completed", value_of(tried[-1]))
    return tried


def test_the_experiments_own_values_come_first(tmp_path: Path) -> None:
    tried = run_to_end(open_search(tmp_path))
    assert tried[0] == {"learning_rate": 1e-3, "num_layers": 2}
    assert len(tried) == 6
    assert len({tuple(values.items()) for values in tried}) == 6


def test_points_asked_for_side_by_side_differ(tmp_path: Path) -> None:
    search = open_search(tmp_path, num_trials=24)  # of which the first eight are random
    points = [search.ask() for _ in range(6)]
    assert len({tuple(point.values.items()) for point in points if point is not None}) == 6


def test_a_range_test_gives_the_second_point_and_narrows_the_rest(tmp_path: Path) -> None:
    tried = run_to_end(open_search(tmp_path, num_trials=12, learning_rate=1e-2))
    assert tried[1] == {"learning_rate": 1e-2, "num_layers": 2}
    rates = [values["learning_rate"] for values in tried]
    assert min(rates) >= 1e-3 * 0.999
    assert max(rates) <= 1e-1 * 1.001


def test_a_restart_neither_repeats_nor_changes_suggestions(tmp_path: Path) -> None:
    whole = run_to_end(open_search(tmp_path / "whole"))
    pieces = []
    for _ in range(6):
        search = open_search(tmp_path / "pieces")
        point = search.ask()
        assert point is not None
        pieces.append(dict(point.values))
        search.tell(point.number, "completed", value_of(pieces[-1]))
    assert open_search(tmp_path / "pieces").ask() is None
    assert pieces == whole


def test_unfinished_points_come_back_before_new_ones(tmp_path: Path) -> None:
    first = open_search(tmp_path)
    points = [first.ask(), first.ask()]
    assert points[1] is not None
    first.report(points[1].number, 1, 0.5)
    second = open_search(tmp_path)
    assert [second.ask(), second.ask()] == points
    second.report(points[1].number, 1, 0.9)  # the epoch is known: what was said first stands
    study = optuna.load_study(
        study_name="gnn",
        storage=optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(tmp_path / "gnn.journal"))
        ),
    )
    assert study.trials[points[1].number].intermediate_values == {1: 0.5}


def test_successive_halving_survives_a_restart(tmp_path: Path) -> None:
    first = open_search(tmp_path)
    best = first.ask()
    assert best is not None
    assert not first.report(best.number, 1, 0.9)
    second = open_search(tmp_path)
    assert second.ask() == best
    other = second.ask()
    assert other is not None
    assert second.report(other.number, 1, 0.1)
    third = open_search(tmp_path)
    assert [third.ask(), third.ask()] == [best, other]
    assert third.report(other.number, 1, 0.1), "the decision outlives a kill"


def test_telling_twice_and_failures_are_harmless(tmp_path: Path) -> None:
    search = open_search(tmp_path, num_trials=2)
    first, second = search.ask(), search.ask()
    assert first is not None
    assert second is not None
    search.tell(first.number, "failed", None)
    search.tell(first.number, "failed", None)
    search.tell(second.number, "completed", None)
    assert search.ask() is None


def test_without_a_space_there_is_one_point(tmp_path: Path) -> None:
    settings = SearchSettings(num_trials=9)
    search = ModelSearch(
        tmp_path / "x.journal", model_with({}), settings, objective="val_loss", learning_rate=0.1
    )
    point = search.ask()
    assert point is not None
    assert point.values == {}
    assert search.ask() is None


@pytest.mark.parametrize(("objective", "pruned"), [("val_loss", False), ("val_f1", True)])
def test_the_objectives_direction_decides_who_is_pruned(
    tmp_path: Path, objective: str, pruned: bool
) -> None:
    settings = SearchSettings.model_validate(
        {"num_trials": 4, "pruning": {"min_epochs": 1, "reduction_factor": 2}}
    )
    search = ModelSearch(
        tmp_path / "s.journal", model_with(SPACE), settings, objective=objective, learning_rate=None
    )
    first, second = search.ask(), search.ask()
    assert first is not None
    assert second is not None
    search.report(first.number, 1, 0.9)
    assert search.report(second.number, 1, 0.1) is pruned


def test_repeated_points_do_not_count_but_end_at_some_point(tmp_path: Path) -> None:
    space = {"num_layers": Dimension(choice=(1, 2))}
    settings = SearchSettings(num_trials=3)
    search = ModelSearch(
        tmp_path / "r.journal", model_with(space), settings, objective="val_f1", learning_rate=None
    )
    seen: set[object] = set()
    num_asked = 0
    while (point := search.ask()) is not None:
        num_asked += 1
        trial_key = str(point.values["num_layers"])
        if point.values["num_layers"] in seen:
            search.mark_if_repeated(point.number, trial_key)
        else:
            search.assign(point.number, trial_key)
        seen.add(point.values["num_layers"])
        search.tell(point.number, "completed", 0.5)
    assert seen == {1, 2}
    assert 3 < num_asked <= 3 * 6
