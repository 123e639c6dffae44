"""What MLflow's pages show of a sweep: views, description, data."""

import json
from pathlib import Path

import pytest
from scripted_sweep import PLAN, tell_sweep

from sg_ray.files import write_json
from sg_ray.records.journal import read_events
from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.datasets import data_inputs, to_mlflow
from sg_ray.tracking.mlflow_mirror import MlflowMirror
from sg_ray.tracking.parameters import trial_parameters
from sg_ray.tracking.summary import MAX_CHARS, Summary
from sg_ray.tracking.views import experiment_tags
from sg_ray.verdict.model import Comparison, Interval, Question, Side, TestScore, Verdict

COMMAND = "sg-ray extend tiny replicate.max_seeds=12"
HEADLINE = "gnn ab12cd34 beats the floor."


def comparison(outcome: str, command: str | None) -> Comparison:
    return Comparison(
        a=Side(model="gnn", config_hash="ab12cd34"),
        b=Side(model="gnn", config_hash="ff12cd34"),
        seeds=(2025, 7),
        difference=0.03,
        interval=Interval(low=-0.01, high=0.07),
        probability_better=0.9,
        p_anytime=0.02,
        p_holm=0.04,
        p_permutation=None,
        smallest_p=0.01,
        minimum_detectable_difference=None,
        mcnemar_p=None,
        outcome=outcome,
        more_seeds=None,
        more_trial_hours=None,
        command=command,
        sentence="",
    )


def verdict(num_comparisons: int = 2) -> Verdict:
    decided = [comparison("a", None)] * (num_comparisons - 1)
    question = Question(
        name="gnn",
        text="Which gnn is best?",
        comparisons=[*decided, comparison("undecided", COMMAND)],
        answer="ab12cd34 leads.",
    )
    return Verdict(
        sweep="tiny",
        objective="val_f1",
        alpha=0.05,
        search_seed=42,
        headline=HEADLINE,
        questions=[question] * (num_comparisons // 2),
        standings=[],
        test=TestScore(
            model="gnn",
            config_hash="ab12cd34",
            metric="test_f1",
            mean=0.51,
            interval=None,
            validation_mean=0.53,
            gap=0.02,
        ),
    )


@pytest.fixture
def client(uri: str):
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri)


@pytest.fixture
def mirrored(client, journal, sweep_dir: Path, uri: str):
    """Mirrors the scripted sweep; returns its experiment and its own run."""

    def mirror():
        tell_sweep(journal, sweep_dir)
        assert MlflowMirror(SweepFolder(sweep_dir), uri, "tiny").sync().error is None
        experiment = client.get_experiment_by_name("tiny")
        only = "tags.`sg_ray.kind` = 'sweep'"
        (run,) = client.search_runs([experiment.experiment_id], only)
        return experiment, run

    return mirror


def test_the_verdict_is_the_runs_description(mirrored, sweep_dir):
    write_json(sweep_dir / "verdict.json", verdict())
    _, run = mirrored()
    note = run.data.tags["mlflow.note.content"]
    assert run.data.tags["verdict"] == HEADLINE
    assert note.startswith(f"**{HEADLINE}**")
    assert "| gnn ab12cd34 | gnn ff12cd34 | +0.0300 | -0.0100 to +0.0700 | 0.04 | 2 |" in note
    assert "undecided" in note
    assert note.count(COMMAND) == 1
    assert "test_f1 0.5100" in note
    assert 'load_model("models:/tiny@champion")' in note
    assert note.isascii()


def test_without_a_verdict_the_first_place_is_told(mirrored):
    _, run = mirrored()
    assert run.data.tags["verdict"] == ("gnn ab12cd34 is ranked first, val_f1 0.5300 +- 0.0100.")


def test_a_long_description_is_cut_between_lines(mirrored, sweep_dir):
    write_json(sweep_dir / "verdict.json", verdict(num_comparisons=40))
    _, run = mirrored()
    note = run.data.tags["mlflow.note.content"]
    assert MAX_CHARS - 500 < len(note) <= MAX_CHARS
    assert note.endswith("|\n\nThe rest is in report.html, among the artifacts.")


def test_a_page_has_views_of_configurations_and_trials(mirrored, journal):
    experiment, run = mirrored()
    begun = next(iter(read_events(journal.path)))
    views = {
        key.rpartition(".")[2]: json.loads(value)
        for key, value in experiment.tags.items()
        if key.startswith("mlflow.sharedViewState.")
    }
    assert set(views) == {"configurations", "trials"}
    assert {view["createdAt"] for view in views.values()} == {begun.at_ms}
    state = json.loads(views["configurations"]["state"])
    assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "configuration"}]
    assert state["orderByKey"] == "metrics.`best_val_f1`"
    assert "params.`encoder.width`" in state["selectedColumns"]
    parallel = [c for c in state["compareRunCharts"] if c["type"] == "PARALLEL"]
    assert [chart["selectedParams"] for chart in parallel] == [["model", "encoder.width"]]
    for view in views:
        assert f"viewStateShareKey={view}" in run.data.tags["mlflow.note.content"]
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_families_that_search_the_same_share_a_chart():
    space = {"learning_rate": {"log_uniform": [1e-4, 1e-2]}}
    models = {"gnn": {"space": space}, "transformer": {"space": space}, "fusion": {}}
    plan = {"objective": "val_loss", "families": list(models), "models": models}
    tags = experiment_tags(plan, 0)
    state = json.loads(json.loads(tags["mlflow.sharedViewState.trials"])["state"])
    assert [chart["type"] for chart in state["compareRunCharts"]] == ["PARALLEL", "LINE", "BAR"]
    assert state["orderByAsc"], "a loss is best where it is low"


def test_every_trial_names_its_data(client, mirrored):
    experiment, run = mirrored()
    for one in [run, *client.search_runs([experiment.experiment_id])]:
        found = {
            (data.dataset.name, data.dataset.digest, tag.value)
            for data in one.inputs.dataset_inputs
            for tag in data.tags
        }
        assert found == {
            ("synthetic-240-seed0 (train)", "d" * 16, "train"),
            ("synthetic-240-seed0 (valid)", "d" * 16, "validation"),
        }


@pytest.mark.parametrize(
    ("settings", "name", "source_type", "place"),
    [
        ({"source": "path", "path": "data/devign"}, "devign", "local", "data/devign"),
        ({"source": "files", "train_file": "a.jsonl", "path": None}, "a.jsonl", "local", "a.jsonl"),
        ({"source": "codexglue", "path": None}, "codexglue", "hugging_face", "code_x_glue"),
    ],
)
def test_data_are_named_by_where_they_come_from(settings, name, source_type, place):
    train, _ = data_inputs(settings, "f" * 16)
    entity = to_mlflow(train).dataset
    assert entity.name == f"{name} (train)"
    assert entity.source_type == source_type
    assert place in entity.source


def test_a_floor_shows_no_settings_that_nobody_compares():
    config = {"min_df": 2, "text": {}, "max_iterations": 1000}
    assert trial_parameters("lexical", config, 7, PLAN) == {"model": "lexical", "seed": 7}
    assert trial_parameters("lexical", config, 7, {})["min_df"] == 2, "a training by itself"


def test_the_winner_is_never_the_floor(sweep_dir):
    (sweep_dir / "leaderboard.csv").write_text(
        "rank,name,model,family,config_hash,num_seeds,num_failed,val_f1_mean,val_f1_sd,samples_per_s_mean\n"
        "1,lexical,lexical,lexical,00000000,3,0,0.60,0.00,9\n2,gnn,gnn,gnn,ab12cd34,1,0,0.53,,9\n"
    )
    summary = Summary.read(SweepFolder(sweep_dir), "tiny", "val_f1")
    assert summary.headline == "gnn ab12cd34 is ranked first, val_f1 0.5300."
    assert summary.metrics() == {
        "lexical/val_f1_mean": 0.6,
        "lexical/val_f1_sd": 0.0,
        "lexical/num_seeds": 3,
        "gnn/val_f1_mean": 0.53,
        "gnn/num_seeds": 1,
        "best_val_f1": 0.53,
    }
