"""What every executor promises: the same tests hold Tune and the inline one."""

import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from executed_sweeps import bits, everything, journal, signal_at_epoch, small, types
from tiny_sweep import read_json_records, write_experiment

from sg_ray.config import Experiment
from sg_ray.jobs import checkpoints
from sg_ray.sweep.execute import worklist
from sg_ray.sweep.execute.choice import EXECUTORS, ExecutorName, named_executor
from sg_ray.sweep.run import Outcome, run_sweep

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=EXECUTORS)
def name(request: pytest.FixtureRequest) -> ExecutorName:
    if request.param == "tune":
        request.getfixturevalue("ray_session")
    named: ExecutorName = request.param
    return named


def run(name: ExecutorName, experiment: Experiment) -> Outcome:
    return run_sweep(experiment, executor=named_executor(name))


_FINISHED: dict[str, tuple[Experiment, Outcome]] = {}


@pytest.fixture
def finished(
    name: ExecutorName, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Experiment, Outcome]:
    """A whole sweep by one executor; run once."""
    return finished_by(name, tmp_path_factory)


def finished_by(name: ExecutorName, factory: pytest.TempPathFactory) -> tuple[Experiment, Outcome]:
    if name not in _FINISHED:
        experiment = everything(factory.mktemp(name))
        _FINISHED[name] = (experiment, run(name, experiment))
    return _FINISHED[name]


def test_every_stage_is_run_and_every_end_is_on_record(
    finished: tuple[Experiment, Outcome],
) -> None:
    experiment, outcome = finished
    records = read_json_records(experiment.folder.path)
    ends = Counter((r["configuration"]["model"], r["stage"], r["status"]) for r in records)
    assert ends["lexical", "floor", "completed"] == 2
    assert ends["gnn", "search", "completed"] + ends["gnn", "search", "pruned"] == 4
    assert ends["gnn", "search", "pruned"] >= 1
    assert ends["gnn", "replicate", "completed"] == 1
    assert {end for end in ends if end[0] == "transformer"} == {("transformer", "search", "failed")}
    assert {r["failure"]["kind"] for r in records if r["failure"]} == {"InputError"}
    assert outcome.exit_code == 1
    assert any("fp16" in problem for problem in outcome.problems)
    assert experiment.folder.range_test("gnn").exists()
    assert len(json.loads(experiment.folder.test_scores.read_text())["seeds"]) == 2
    assert not list(experiment.folder.path.rglob("last.pt")), "positions that nobody needs"


def test_each_trial_begins_and_ends_once_and_tells_each_epoch_once(
    finished: tuple[Experiment, Outcome],
) -> None:
    folder = finished[0].folder
    lines = [line for line in journal(folder) if line.get("trial_key")]
    counts = Counter((line["trial_key"], line["type"]) for line in lines)
    for record in read_json_records(folder.path):
        key = record["trial_key"]
        assert counts[key, "trial_started"] == counts[key, "trial_finished"] == 1
        assert counts[key, "epoch"] == record["epochs"]


def test_both_give_the_same_bits_and_tell_the_same_story(
    name: ExecutorName, ray_session: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if name == "tune":
        pytest.skip("compared once")
    (one, _), (other, _) = (finished_by(which, tmp_path_factory) for which in EXECUTORS)
    assert bits(one.folder) == bits(other.folder)
    assert journal(one.folder) == journal(other.folder)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGINT], ids=["USR1", "INT"])
def test_case_43_c07_a_stop_saves_the_position_and_the_same_command_goes_on(
    name: ExecutorName,
    number: signal.Signals,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if name == "tune":
        pytest.skip("the test below stops it, too; the chaos test sends SIGINT to whole processes")
    experiment = everything(tmp_path)
    with monkeypatch.context() as patch:
        signal_at_epoch(patch, 2, number)
        stopped = run(name, experiment)
    assert stopped.exit_code == 128 + number
    assert "positions saved" in stopped.notes
    assert list(experiment.folder.path.rglob("last.pt"))
    run(name, experiment)
    assert bits(experiment.folder) == bits(finished_by("inline", tmp_path_factory)[0].folder)
    assert types(experiment.folder).count("trial_resumed") == 1


def hide_first_checkpoint(patch: pytest.MonkeyPatch, times: int) -> list[Path]:
    """Take a model's checkpoint out of the driver's sight, as a disk that is not shared does."""
    hidden: list[Path] = []

    def lacks_results(checkpoint: Path | None, **facts: object) -> str | None:
        if checkpoint is not None and "gnn" in checkpoint.parent.name and len(hidden) < times:
            hidden.append(checkpoint)
            shutil.rmtree(checkpoint.parent)
            checkpoint.mkdir(parents=True)
        return checkpoints.lacks_results(checkpoint, **facts)

    patch.setattr(worklist, "lacks_results", lacks_results)
    return hidden


def test_what_is_lost_twice_is_handed_out_a_third_time(
    name: ExecutorName,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hidden = hide_first_checkpoint(monkeypatch, times=2)
    experiment = small(tmp_path, max_failures=2)
    assert run(name, experiment).exit_code == 0
    assert len(hidden) == 2
    assert hidden[1].parent.name == f"{hidden[0].parent.name}-1"
    assert types(experiment.folder).count("job_lost") == 2
    epochs = {
        record["epochs"]
        for record in bits(experiment.folder)
        if record["configuration"]["model"] == "gnn"
    }
    assert epochs == {3}


def test_what_one_has_begun_the_other_finishes(
    name: ExecutorName,
    ray_session: None,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (other,) = set(EXECUTORS) - {name}
    experiment = everything(tmp_path)
    with monkeypatch.context() as patch:
        signal_at_epoch(patch, 1)
        stopped = run(name, experiment)
    assert stopped.exit_code == 128 + signal.SIGUSR1
    assert "positions saved" in stopped.notes
    run(other, experiment)
    assert bits(experiment.folder) == bits(finished_by("inline", tmp_path_factory)[0].folder)


def test_the_inline_executor_runs_a_whole_sweep_without_ray(tmp_path: Path) -> None:
    """Verdict, report and MLflow's mirror included; a breakpoint in a family stops there."""
    write_experiment(tmp_path, max_concurrent_trials=1)
    script = """
import sys
from sg_ray.trial import run as trial
from sg_ray.cli import main
fit = trial.fit_estimator
def fit_debugged(*parts, **named):
    breakpoint()
    return fit(*parts, **named)
trial.fit_estimator = fit_debugged
code = main(["sweep", "experiment.yaml", "--executor", "inline", "models.gnn.config.epochs=1"])
assert not {name for name in sys.modules if name.partition(".")[0] == "ray"}, "Ray was imported"
sys.exit(code)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        input=2 * "p 'the seed is', named['seed']\ncontinue\n",
    )
    assert done.returncode == 0, done.stderr
    assert [seed in done.stdout for seed in ("('the seed is', 42)", "('the seed is', 7)")] == [
        True
    ] * 2
    assert (tmp_path / "outputs/tiny/report.html").exists()
    assert "verdict.json" in done.stdout
