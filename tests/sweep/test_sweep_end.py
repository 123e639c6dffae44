"""How a sweep ends: leaderboard, winners, verdict and page in this order, and what is printed."""

import io
import json
import os
import signal
from importlib.metadata import version

import pytest
from markupsafe import escape
from tiny_sweep import tiny_experiment

from sg_ray.api.running import run_with_all, show_end
from sg_ray.commands import GO_ON, from_here, runnable
from sg_ray.config import Experiment
from sg_ray.data.sources import load_data
from sg_ray.live.stream import SafeStream
from sg_ray.records.events import Event, StageStarted, SweepFinished, SweepRanked
from sg_ray.records.origin import origin_of_this_process
from sg_ray.records.record import read_records
from sg_ray.report.page.content import read_sweep
from sg_ray.report.page.sections import origin_section
from sg_ray.sweep.execute.inline_executor import InlineExecutor
from sg_ray.sweep.run import run_sweep
from sg_ray.sweep_folder import TEST_PREDICTIONS, VALID_PREDICTIONS
from sg_ray.training.predictions import read_predictions
from sg_ray.verdict.assemble import build_verdict


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return tiny_experiment(
        tmp_path_factory.mktemp("ended"),
        "models.gnn.config.epochs=1",
        search={"num_trials": 1},
        tracking={"enabled": False},
    )


@pytest.fixture(scope="module")
def places(experiment: Experiment) -> list[tuple[str, list[str]]]:
    """The last events of a sweep, and what was there of its results when each was told."""
    folder, told = experiment.folder, []
    results = (folder.leaderboard, folder.best, folder.verdict, folder.report)

    def note(event: Event) -> None:
        if isinstance(event, SweepRanked | SweepFinished):
            told.append((event.type, [path.name for path in results if path.exists()]))

    assert run_sweep(experiment, executor=InlineExecutor(), listeners=(note,)).problems == []
    return told


def test_each_result_is_there_before_the_journal_says_so(
    places: list[tuple[str, list[str]]], experiment: Experiment
) -> None:
    ranked = ["leaderboard.csv", "best", "verdict.json"]
    assert places == [("ranked", ranked), ("sweep_finished", [*ranked, "report.html"])]
    assert "completed" in experiment.folder.report.read_text(encoding="utf-8")
    assert read_sweep(experiment.folder).status == "completed"


def test_a_finished_sweep_ends_with_its_verdict(
    places: list[tuple[str, list[str]]],
    experiment: Experiment,
    capsys: pytest.CaptureFixture[str],
) -> None:
    experiment.folder.verdict.unlink()
    experiment.folder.report.unlink()
    outcome = run_with_all(experiment, InlineExecutor(), decide=lambda _: "stop")
    assert outcome.exit_code == 0, "nothing is left to train"
    printed = capsys.readouterr().out
    verdict = build_verdict(experiment.folder)
    (question,) = verdict.questions
    told = [verdict.headline, f"): {runnable(question.comparisons[0].command)}"]
    found = [printed.index(text) for text in ("* floor:", *told, "verdict.json")]
    assert found == sorted(found)
    assert verdict.headline in experiment.folder.report.read_text(encoding="utf-8")


def test_each_record_says_where_it_comes_from_and_the_page_shows_it(
    places: list[tuple[str, list[str]]], experiment: Experiment
) -> None:
    origin = origin_of_this_process()
    records = read_records(experiment.folder).values()
    assert {record.origin for record in records} == {origin}
    (of_workers,) = {record.environment["packages"] for record in records}
    packages = json.loads(experiment.folder.packages(of_workers).read_text(encoding="utf-8"))
    assert packages["torch"] == version("torch")
    content = origin_section.section(read_sweep(experiment.folder)).content
    assert (content.is_recorded, content.commands) == (True, [origin.command])
    assert str(escape(origin.command)) in experiment.folder.report.read_text(encoding="utf-8")


def test_predictions_say_of_which_function_they_are(
    places: list[tuple[str, list[str]]], experiment: Experiment
) -> None:
    splits, folder = load_data(experiment.data).splits, experiment.folder
    for key in read_records(folder):
        found = read_predictions(folder.trial(key) / VALID_PREDICTIONS)
        assert found is not None
        assert found.sample_ids is not None
        assert found.sample_ids.tolist() == [sample.sample_id for sample in splits["valid"]]
    on_test = [read_predictions(path) for path in folder.path.glob(f"trials/*/{TEST_PREDICTIONS}")]
    assert len(on_test) == 2, "of the winner's two seeds"
    for found in on_test:
        assert found is not None
        assert found.sample_ids is not None
        assert found.sample_ids.tolist() == [sample.sample_id for sample in splits["test"]]


def test_an_interrupted_sweep_tells_no_verdict(
    places: list[tuple[str, list[str]]],
    experiment: Experiment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, StageStarted):
            os.kill(os.getpid(), signal.SIGINT)

    outcome = run_sweep(experiment, executor=InlineExecutor(), listeners=(interrupt,))
    assert outcome.exit_code == 128 + signal.SIGINT
    shown = io.StringIO()
    show_end(outcome, experiment.objective, SafeStream(shown))
    assert "go on with: " in (told := capsys.readouterr().err)
    assert f" sweep --resume {from_here(experiment.folder.path)}\n" in told
    monkeypatch.setenv(GO_ON, "sbatch outputs/e.sbatch")
    show_end(outcome, experiment.objective, SafeStream(shown))
    assert "go on with: sbatch outputs/e.sbatch\n" in capsys.readouterr().err
    assert build_verdict(experiment.folder).headline not in shown.getvalue()
    assert read_sweep(experiment.folder).status == "interrupted"
