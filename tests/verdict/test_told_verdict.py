"""What the end of a sweep prints, and that it writes the verdict first."""

import pytest
from made_sweep import SEARCH_SEED, MadeSweep

from sg_ray.commands import runnable
from sg_ray.config import load_experiment
from sg_ray.library.running import run_and_show
from sg_ray.records.events import Event
from sg_ray.records.record import read_records
from sg_ray.sweep import run
from sg_ray.sweep.run import Outcome, leaderboard
from sg_ray.verdict.assemble import build_verdict


@pytest.fixture
def experiment(tmp_path):
    folder = tmp_path / "outputs" / "made"
    made = MadeSweep(
        folder,
        seeds=(SEARCH_SEED, 1, 2),
        output_dir=str(tmp_path / "outputs"),
        tracking={"enabled": False},
    )
    made.add("gnn", "a", {SEARCH_SEED: 0.8, 1: 0.7, 2: 0.71})
    made.add("lexical", "floor", {SEARCH_SEED: 0.6, 1: 0.6, 2: 0.6})
    return load_experiment(folder / "sweep.yaml")


def finish(monkeypatch, *events: str, exit_code: int = 0) -> None:
    """Let a sweep do nothing but tell these events."""

    def instead(experiment, *, listeners, **_):
        for name in events:
            for listener in listeners:
                listener(Event(at_ms=1, type=name, data={"status": "completed"}))
        rows = leaderboard(experiment, read_records(experiment.folder))
        return Outcome(experiment.folder, rows, [], [], exit_code)

    monkeypatch.setattr(run, "run_sweep", instead)


def test_a_finished_sweep_ends_with_its_verdict(experiment, monkeypatch, capsys):
    finish(monkeypatch, "ranked")
    assert run_and_show(experiment, "local").exit_code == 0
    printed = capsys.readouterr().out
    verdict = build_verdict(experiment.folder)
    (question,) = verdict.questions
    told = [
        verdict.headline,
        f"): {runnable(question.comparisons[0].command)}",
    ]
    places = [printed.index(text) for text in ("* floor:", *told, "verdict.json")]
    assert places == sorted(places)
    page = (experiment.folder.path / "report.html").read_text(encoding="utf-8")
    assert verdict.headline in page


def test_an_interrupted_sweep_has_none(experiment, monkeypatch, capsys):
    finish(monkeypatch, "ranked")
    run_and_show(experiment, "local")
    headline = build_verdict(experiment.folder).headline
    capsys.readouterr()
    finish(monkeypatch, exit_code=130)
    assert run_and_show(experiment, "local").exit_code == 130
    assert headline not in capsys.readouterr().out
