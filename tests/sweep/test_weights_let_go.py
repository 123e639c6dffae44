"""Weights of configurations that lost are let go at a sweep's end, and nothing that needs any."""

import json
import os
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tiny_sweep import mlflow_state, tiny_experiment, write_experiment

from sg_ray.cli import main
from sg_ray.cluster.losses import infrastructure_failure
from sg_ray.config import Experiment
from sg_ray.errors import InputError
from sg_ray.export import export_model
from sg_ray.jobs.job import AnyJob, TrainJob
from sg_ray.prepare.branches import GivenBranches
from sg_ray.prepare.prepare import pinned, read_data
from sg_ray.records.events import Event, TrialStarted, WeightsLetGo
from sg_ray.records.journal import Journal, read_events
from sg_ray.records.planned import planned_stages
from sg_ray.records.record import RunRecord, read_records
from sg_ray.sweep.execute.inline_executor import InlineExecutor
from sg_ray.sweep.execute.worklist import Worklist
from sg_ray.sweep.plan.planner import make_planner
from sg_ray.sweep.run import Outcome, run_sweep
from sg_ray.sweep_folder import BEST, VALID_PREDICTIONS, SweepFolder

SEARCHED: dict[str, Any] = {
    "search": {"num_trials": 4, "pruning": {"enabled": False}},
    "replicate": {"top_k": 2, "seeds": [42, 7], "race_alpha": None},
}

ONE_SEED = {"top_k": 1, "seeds": [42], "race_alpha": None}
TWO_SEEDS = {"top_k": 4, "seeds": [42, 4], "race_alpha": None}


def searched(folder: Path, *overrides: str, **settings: Any) -> Experiment:
    epochs = "models.gnn.config.epochs=1"
    return tiny_experiment(folder, epochs, *overrides, **{**SEARCHED, **settings})


def run(experiment: Experiment, **settings: Any) -> Outcome:
    outcome = run_sweep(experiment, executor=InlineExecutor(), **settings)
    assert outcome.problems == []
    return outcome


def has_weights(folder: SweepFolder, record: RunRecord) -> bool:
    return (folder.trial(record.trial_key) / BEST).exists()


def configurations_with_weights(folder: SweepFolder, model: str) -> set[str]:
    records = [record for record in read_records(folder).values() if record.model == model]
    return {record.config_hash for record in records if has_weights(folder, record)}


def let_go(folder: SweepFolder) -> list[WeightsLetGo]:
    return [event for event in read_events(folder.events) if isinstance(event, WeightsLetGo)]


def results(folder: SweepFolder) -> dict[str, Any]:
    """What may not depend on whose weights were kept, or on a kill."""
    return {
        "records": {
            key: [{n: v for n, v in e.items() if not n.endswith(("_s", "_ms"))} for e in r.history]
            for key, r in read_records(folder).items()
        },
        "test": json.loads(folder.test_scores.read_text(encoding="utf-8")),
    }


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A finished sweep of which all weights are there."""
    experiment = searched(tmp_path_factory.mktemp("kept"), "keep_weights=all")
    run(experiment)
    return experiment


@pytest.mark.parametrize(
    ("keep", "num_configurations"), [("all", 4), ("finalists", 2), ("winner", 1)]
)
def test_what_lost_goes_and_nothing_else_changes(
    kept: Experiment, tmp_path: Path, keep: str, num_configurations: int
) -> None:
    experiment = searched(tmp_path, f"keep_weights={keep}")
    outcome = run(experiment)
    folder, records = experiment.folder, read_records(experiment.folder)
    with_weights = configurations_with_weights(folder, "gnn")
    assert len(with_weights) == num_configurations
    winner = next(row for row in outcome.rows if row.model == "gnn")
    assert winner.config_hash in with_weights
    for record in records.values():
        assert has_weights(folder, record) == (
            record.model == "lexical" or record.config_hash in with_weights
        ), "of a configuration all seeds or none"
        assert (folder.trial(record.trial_key) / VALID_PREDICTIONS).exists()
    assert results(folder) == results(kept.folder)
    gone = {key for key, record in records.items() if not has_weights(folder, record)}
    assert {key for event in let_go(folder) for key in event.trial_keys} == gone
    run(experiment)
    assert len(let_go(folder)) == bool(gone), "the second end has nothing to let go of"


def test_a_kill_in_the_middle_of_it_is_made_up_for(
    kept: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = searched(tmp_path)
    unlink = Path.unlink
    gone: list[Path] = []

    def unlink_one(path: Path, missing_ok: bool = False) -> None:
        if path.name == BEST:
            if gone:
                raise KeyboardInterrupt
            gone.append(path)
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink_one)
        assert run_sweep(experiment, executor=InlineExecutor()).interrupted
    folder = experiment.folder
    assert len(configurations_with_weights(folder, "gnn")) == 3
    run(experiment)
    assert len(configurations_with_weights(folder, "gnn")) == 2
    first, second = let_go(folder)
    assert set(second.trial_keys) == set(first.trial_keys) - {gone[0].parent.name}
    assert results(folder) == results(kept.folder)


def test_another_setting_on_a_resume_is_the_same_sweep(tmp_path: Path) -> None:
    experiment = searched(tmp_path, "keep_weights=all")
    run(experiment)
    for keep, num_configurations in (("finalists", 2), ("all", 2), ("winner", 1)):
        run(searched(tmp_path, f"keep_weights={keep}"))
        found = configurations_with_weights(experiment.folder, "gnn")
        assert len(found) == num_configurations


def test_whoever_misses_weights_is_told_why_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = searched(tmp_path)
    run(experiment)
    folder = experiment.folder
    key = let_go(folder)[0].trial_keys[0]
    record = read_records(folder)[key]
    told = r"weights of trial \w+ were let go .*keep_weights: finalists.* reproduce .*" + key
    with pytest.raises(InputError, match=told):
        export_model(record, {}, folder.trial(key), experiment.cache_dir, tmp_path / "export")
    assert main(["reproduce", f"{folder}:{key}"]) == 0
    assert "bit-identical" in capsys.readouterr().out


def test_an_extension_trains_again_what_it_makes_a_winner(tmp_path: Path) -> None:
    """The other winner of two seeds has no weights of the first, one of the search's, any more."""
    found = {}
    for keep in ("all", "winner"):
        (place := tmp_path / keep).mkdir()
        run(first := searched(place, f"keep_weights={keep}", replicate=ONE_SEED))
        folder = first.folder
        before = configurations_with_weights(folder, "gnn")
        extended = searched(place, f"keep_weights={keep}", replicate=TWO_SEEDS)
        if keep == "winner":
            interrupt_second_start_of_a_trial(extended)
            is_told_of_missing_branch(tmp_path, folder)
        outcome = run(extended, extends=True)
        found[keep] = results(folder)
        winner = next(row.config_hash for row in outcome.rows if row.model == "gnn")
        if keep == "winner":
            assert winner not in before, "else nothing is shown"
            assert configurations_with_weights(folder, "gnn") == {winner}
    assert found["all"] == found["winner"]


def test_a_trial_that_fails_as_it_is_trained_again_stays_on_record(tmp_path: Path) -> None:
    run(searched(tmp_path, "keep_weights=winner", replicate=ONE_SEED))
    extended = searched(tmp_path, "keep_weights=winner", replicate=TWO_SEEDS)
    interrupt_second_start_of_a_trial(extended)
    folder, models = extended.folder, pinned(extended.all_models)
    data = read_data(extended.data, extended.cache_dir, extended.objective)
    branches = GivenBranches(models, None, data.fingerprint)
    before = read_records(folder)
    planner = make_planner(models, extended.rules, folder, data, branches)
    with closing(Journal(folder.events)) as journal:
        worklist = Worklist(planner, planned_stages(models, extended.rules), journal)
        job = worklist.next_job()
        assert isinstance(job, TrainJob)
        assert job.spec.trial_key in before
        failure = infrastructure_failure("the disk is gone")
        worklist.on_finished(job, {"failure": failure.model_dump()}, None, pruned=False)
        assert "the disk is gone" in "".join(worklist.problems)
        assert not isinstance(worklist.next_job(), TrainJob), "once a start"
    assert read_records(folder) == before
    run(extended, extends=True)


def test_a_second_training_goes_on_from_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("models.gnn.config.epochs=2", "keep_weights=winner")
    run(searched(tmp_path, *settings, replicate=ONE_SEED))
    extended = searched(tmp_path, *settings, replicate=TWO_SEEDS)
    let_go_of = set(read_records(extended.folder))
    gone_on_from: list[Path | None] = []
    on_started, journal_epoch = Worklist.on_started, Worklist.journal_epoch

    def note(worklist: Worklist, job: AnyJob) -> None:
        on_started(worklist, job)
        if isinstance(job, TrainJob) and job.spec.trial_key in let_go_of:
            gone_on_from.append(job.resume_from)

    def interrupt_once(worklist: Worklist, job: TrainJob, *result: Any) -> None:
        journal_epoch(worklist, job, *result)
        if gone_on_from == [None]:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Worklist, "on_started", note)
    monkeypatch.setattr(Worklist, "journal_epoch", interrupt_once)
    stopped = run_sweep(extended, executor=InlineExecutor(), extends=True)
    assert stopped.exit_code == 128 + signal.SIGINT
    run(extended, extends=True)
    _, position = gone_on_from
    assert position is not None


def interrupt_second_start_of_a_trial(experiment: Experiment) -> None:
    on_record = read_records(experiment.folder)

    def interrupt(event: Event) -> None:
        if isinstance(event, TrialStarted) and event.trial_key in on_record:
            os.kill(os.getpid(), signal.SIGINT)

    outcome = run_sweep(experiment, executor=InlineExecutor(), listeners=(interrupt,), extends=True)
    assert outcome.exit_code == 128 + signal.SIGINT


def is_told_of_missing_branch(tmp_path: Path, folder: SweepFolder) -> None:
    """While its winner lacks weights, nothing can be built on the sweep."""
    builder = tiny_experiment(
        tmp_path, families=["transformer", "fusion"], branches_from=str(folder.path)
    )
    with pytest.raises(
        InputError, match=r"^branches_from=.*were let go .*keep_weights: winner.*--resume"
    ):
        GivenBranches(builder.all_models, builder.branches_from, None)


def test_the_command_extends_and_mlflow_mirrors_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sg_ray.live.view._MB", 1)
    path = write_experiment(
        tmp_path, **SEARCHED | {"replicate": {"top_k": 1, "seeds": [42], "race_alpha": None}}
    )
    one_epoch = ["models.gnn.config.epochs=1", "keep_weights=winner"]
    assert main(["sweep", str(path), *one_epoch, "--executor", "inline"]) == 0
    assert "let go of the weights of 3 trials that lost, " in capsys.readouterr().out
    folder = SweepFolder(tmp_path / "outputs/tiny")
    first = configurations_with_weights(folder, "gnn")
    more = ["replicate.top_k=4", "seeds=[4]", "--executor", "inline"]
    assert main(["extend", str(folder), *more]) == 0
    assert configurations_with_weights(folder, "gnn") != first
    statuses, repeated = mlflow_state(tmp_path / "mlflow.db")
    assert len({run for run, _, _ in repeated}) == 1, "the sweep's own, which ended twice"
    assert set(statuses) == {"FINISHED"}


def test_what_a_fusion_is_built_on_stays(tmp_path: Path) -> None:
    settings = {
        "families": ["transformer", "gnn", "fusion"],
        "search": {"num_trials": 2, "pruning": {"enabled": False}},
        "replicate": {"top_k": 1, "seeds": [42, 7]},
    }
    few = [f"models.{name}.config.epochs=1" for name in ("transformer", "gnn", "fusion")]
    experiment = tiny_experiment(tmp_path, *few, "keep_weights=winner", **settings)
    told: list[Event] = []
    run(experiment, listeners=(told.append,))
    folder, records = experiment.folder, read_records(experiment.folder)
    assert any(isinstance(event, WeightsLetGo) for event in told)
    for record in records.values():
        for key in record.branches.values():
            assert has_weights(folder, records[key])
    more = tiny_experiment(
        tmp_path,
        *few,
        "keep_weights=winner",
        **settings | {"replicate": {"top_k": 2, "seeds": [42, 7, 1]}},
    )
    run(more, extends=True)
    (fusion_alone := tmp_path / "alone").mkdir()
    built = tiny_experiment(
        fusion_alone,
        *few,
        "families=[fusion]",
        f"branches_from={json.dumps(str(folder.path))}",
        replicate={"seeds": [42, 7]},
    )
    run(built)
