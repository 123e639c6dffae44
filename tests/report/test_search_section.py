"""Searches: order of suggestion from Optuna's journal, what was tried, what mattered."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from sample_sweep import BASE_MS, OBJECTIVE, make_record

from sg_ray.config import Model, Resources, SearchSettings
from sg_ray.config.yaml_text import write_yaml
from sg_ray.models.family import FamilyConfig
from sg_ray.records.record import RunRecord, write_record
from sg_ray.report.page.content import read_sweep
from sg_ray.report.page.searches import importances, read_search, suggestion_numbers
from sg_ray.report.page.sections import search_section as search
from sg_ray.space import Dimension
from sg_ray.sweep.plan.search import ModelSearch
from sg_ray.sweep_folder import SweepFolder

SPACE = {
    "learning_rate": {"log_uniform": [1e-4, 1e-1]},
    "dropout": {"uniform": [0.0, 0.5]},
    "layer": {"choice": ["a", "b"]},
}


class Settings(FamilyConfig):
    learning_rate: float = 1e-3
    dropout: float = 0.1
    layer: str = "a"


OWN = Settings().model_dump()
MODEL = Model(
    name="gnn",
    family="gnn",
    settings=Settings(),
    space={name: Dimension.model_validate(kind) for name, kind in SPACE.items()},
    resources=Resources(),
    branches={},
)


def write_settings(folder: Path) -> None:
    (folder / "sweep.yaml").write_text(
        write_yaml({"objective": OBJECTIVE, "models": {"gnn": {"space": SPACE}}})
    )


def score(config) -> float:
    """Decided by the learning rate, a little by dropout, not by the layer."""
    return 0.9 - 0.1 * abs(math.log10(config["learning_rate"]) + 2) - 0.01 * config["dropout"]


def write_search(folder: Path, num_trials: int) -> list[RunRecord]:
    """Search for real, through Optuna's journal; trials finish in the reverse order."""
    write_settings(folder)
    study = ModelSearch(
        folder / "search" / "gnn.journal",
        MODEL,
        SearchSettings(num_trials=num_trials),
        objective=OBJECTIVE,
        learning_rate=None,
    )
    records = []
    for number in range(num_trials):
        point = study.ask()
        end_ms = BASE_MS + 1000 * (num_trials - number)
        times = {"started_at_ms": BASE_MS, "finished_at_ms": end_ms}
        metrics = {OBJECTIVE: score(point.values)}
        record = make_record("gnn", {**point.values, "epochs": 3}, 42, metrics=metrics, **times)
        study.assign(point.number, record.trial_key)
        study.tell(point.number, "completed", metrics[OBJECTIVE])
        write_record(SweepFolder(folder), record)
        records.append(record)
    return records


def keys(view) -> Sequence[str]:
    return [trial.record.trial_key for trial in view.trials]


def test_trials_are_numbered_in_the_order_of_suggestion(tmp_path):
    records = write_search(tmp_path, 5)
    view = read_search(read_sweep(SweepFolder(tmp_path)), "gnn")
    assert view.is_numbered_by_study
    assert keys(view) == [record.trial_key for record in records]
    assert [trial.number for trial in view.trials] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("journal", [None, "", "{", "not json\n", '{"op_code": 99}\n'])
def test_without_a_journal_they_are_numbered_by_their_start(tmp_path, journal):
    write_settings(tmp_path)
    if journal is not None:
        (tmp_path / "search").mkdir()
        (tmp_path / "search" / "gnn.journal").write_text(journal)
    for number in (2, 0, 1):
        times = {"started_at_ms": BASE_MS + number, "finished_at_ms": BASE_MS + 9 - number}
        write_record(
            SweepFolder(tmp_path), make_record("gnn", {**OWN, "dropout": number / 10}, 42, **times)
        )
    view = read_search(read_sweep(SweepFolder(tmp_path)), "gnn")
    assert not view.is_numbered_by_study
    assert [trial.record.configuration.values["dropout"] for trial in view.trials] == [
        0.0,
        0.1,
        0.2,
    ]


def test_reading_a_journal_changes_nothing(tmp_path):
    write_search(tmp_path, 3)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    suggestion_numbers(SweepFolder(tmp_path), "gnn")
    suggestion_numbers(SweepFolder(tmp_path), "fusion")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_dimensions_are_those_of_the_space_that_varied(tmp_path):
    write_search(tmp_path, 8)
    dimensions = {
        one.name: one for one in read_search(read_sweep(SweepFolder(tmp_path)), "gnn").dimensions
    }
    assert set(dimensions) == set(SPACE)
    assert [dimensions[name].is_log for name in SPACE] == [True, False, False]
    assert [dimensions[name].is_choice for name in SPACE] == [False, False, True]


def test_the_setting_that_decided_the_score_matters_most(tmp_path):
    write_search(tmp_path, 12)
    shares = importances(read_search(read_sweep(SweepFolder(tmp_path)), "gnn"))
    assert next(iter(shares)) == "learning_rate"
    assert shares["learning_rate"] > 0.5
    assert sum(shares.values()) == pytest.approx(1)
    assert importances(read_search(read_sweep(SweepFolder(tmp_path)), "gnn")) == shares


@pytest.mark.parametrize(
    ("num_trials", "changes", "reason"),
    [
        (7, {}, "7 completed trials are too few; it takes 8"),
        (9, {"learning_rate": 1e-3, "layer": "a"}, "only dropout was varied"),
        (9, OWN, "nothing was varied"),
    ],
)
def test_importance_that_cannot_be_known_is_explained(tmp_path, num_trials, changes, reason):
    write_settings(tmp_path)
    for number in range(num_trials):
        config = {
            "learning_rate": 10 ** -(1 + number / 4),
            "dropout": number / 20,
            "layer": "ab"[number % 2],
            **changes,
        }
        write_record(SweepFolder(tmp_path), make_record("gnn", config, 42, trial_key=f"k{number}"))
    (importance,) = search.section(read_sweep(SweepFolder(tmp_path))).content.importances
    assert (importance.reason, list(importance.bars)) == (reason, [])


def test_equal_scores_leave_nothing_to_explain(tmp_path):
    write_settings(tmp_path)
    for number in range(9):
        config = {**OWN, "dropout": number / 20, "learning_rate": 10 ** -(1 + number / 4)}
        write_record(
            SweepFolder(tmp_path), make_record("gnn", config, 42, metrics={OBJECTIVE: 0.5})
        )
    (importance,) = search.section(read_sweep(SweepFolder(tmp_path))).content.importances
    assert importance.reason == "all trials scored the same"


def test_the_best_trial_is_drawn_strongest_and_told(tmp_path):
    records = write_search(tmp_path, 8)
    best = max(range(8), key=lambda number: records[number].metrics[OBJECTIVE])
    (figure,) = search.section(read_sweep(SweepFolder(tmp_path))).content.parallels
    assert figure.caption.startswith(f"Best: trial {best + 1} with ")
    last = figure.drawing[figure.drawing.rindex("<polyline") :]
    assert last.startswith('<polyline class="thread shade-4"')
    assert f"<title>trial {best + 1}: " in last


def test_pruned_trials_are_drawn_apart(tmp_path):
    write_search(tmp_path, 3)
    pruned = {**OWN, "dropout": 0.4}
    write_record(SweepFolder(tmp_path), make_record("gnn", pruned, 42, status="pruned"))
    content = search.section(read_sweep(SweepFolder(tmp_path))).content
    assert content.parallels[0].drawing.count("thread cut") == 1
    (history,) = content.histories
    hollow = history.drawing[history.drawing.index('class="hollow"') :]
    assert hollow.count("<circle") == 1
    assert "for lack of a journal" in history.caption  # it is not in the study
