"""--dry-run: the hardware, the plan, and what an earlier start left under the same name."""

from pathlib import Path

import pytest
from tiny_sweep import tiny_experiment

from sg_ray.code_version import code_version
from sg_ray.config import Experiment, load_experiment
from sg_ray.config.hardware import describe, profile_of
from sg_ray.configuration import Configuration
from sg_ray.errors import InputError
from sg_ray.preflight.forecast import describe_plan
from sg_ray.records.begin import begin
from sg_ray.records.record import RunRecord, Status, write_record

DEFAULT = Path(__file__).parents[2] / "experiments" / "quick.yaml"


def add_record(plan: Experiment, key: str, status: Status, version: str) -> None:
    record = RunRecord(
        trial_key=key,
        stage="search",
        configuration=Configuration(model="gnn", family="gnn", values={}),
        config_hash="c",
        seed=42,
        status=status,
        objective="val_roc_auc",
        metrics={},
        best_epoch=None,
        epochs=0,
        history=[],
        branches={},
        data_fingerprint="d",
        code_version=version,
        started_at_ms=0,
        finished_at_ms=1,
        train_time_s=0.0,
        environment={},
    )
    write_record(plan.folder, record)


def test_the_hardware_is_named_and_a_new_name_has_nothing_on_record(tmp_path: Path) -> None:
    described = describe_plan(tiny_experiment(tmp_path))
    assert describe(profile_of(None, None), ["gnn"]) in described
    assert "transformer" not in described
    assert "on record" not in described
    assert "refused" not in described


def test_the_settings_are_those_of_the_families_in_use_and_make_the_same_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the checkout may hold a sweep of this name
    plan = load_experiment(DEFAULT, ["families=[gnn]"])
    shown = describe_plan(plan)
    assert "transformer" in plan.models
    assert "transformer" not in shown
    settings = tmp_path / "shown.yaml"
    settings.write_text(shown[shown.index("\nname: ") :])
    assert load_experiment(settings).identity == plan.identity


def test_what_is_on_record_is_counted_by_status(tmp_path: Path) -> None:
    plan = tiny_experiment(tmp_path)
    begin(plan)
    assert "on record: nothing yet; the rest of the plan will be run" in describe_plan(plan)
    for number, status in enumerate(("completed", "pruned", "completed", "failed")):
        add_record(plan, f"t{number}", status, code_version())
    described = describe_plan(plan)
    assert "on record: 2 completed, 1 pruned, 1 failed; the rest of the plan" in described


def test_other_settings_are_refused_as_by_a_start(tmp_path: Path) -> None:
    plan = tiny_experiment(tmp_path)
    begin(plan)
    other = tiny_experiment(tmp_path, "search.num_trials=9")
    with pytest.raises(InputError, match=r"search\.num_trials: 2 before, 9 now"):
        describe_plan(other)
    assert "in all" in describe_plan(other, extends=True)
    with pytest.raises(InputError, match="extend only adds"):
        describe_plan(tiny_experiment(tmp_path, "search.num_trials=1"), extends=True)


def test_the_trials_are_added_up(tmp_path: Path) -> None:
    def in_all(*settings: str) -> list[str]:
        described = describe_plan(tiny_experiment(tmp_path, *settings))
        return [line for line in described.splitlines() if line.startswith("in all")]

    # two seeds of the floor; two points, one more seed of one finalist
    few = ("replicate.max_seeds=null", "replicate.variance_seeds=0")
    assert in_all(*few, "replicate.race_alpha=null") == ["in all 5 trials"]
    raced = "in all 5 trials, fewer where the race gives finalists up"
    assert in_all(*few) == [raced]
    more = in_all("replicate.max_seeds=4", "replicate.variance_seeds=3")
    split = "; 6 of them split the winner's variance by source"
    assert more == [raced.replace("5", "11 to 15") + split]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("on", "seeds of one configuration train as one: up to 8 of gnn\n"),
        (4, "seeds of one configuration train as one: up to 4 of gnn\n"),
        ("auto", "seeds of one configuration train as one: up to 8 of gnn if that is measured to"),
    ],
)
def test_the_plan_says_which_seeds_train_as_one(
    tmp_path: Path, setting: str | int, told: str
) -> None:
    resources = {"stack_seeds": setting}
    plan = tiny_experiment(tmp_path, families=["gnn", "transformer"], resources=resources)
    assert told in describe_plan(plan)
    assert "train as one" not in describe_plan(tiny_experiment(tmp_path, resources={}))
