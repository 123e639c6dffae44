"""Equal values are the same sweep, however they were written; and a configuration has one hash."""

from pathlib import Path
from typing import Any

import pytest
from played_sweep import Sweep, experiment

from sg_ray.cli import main
from sg_ray.cli.settings import named_experiment
from sg_ray.config import load_experiment
from sg_ray.config.hardware import profile_of
from sg_ray.configuration import Configuration
from sg_ray.errors import InputError
from sg_ray.files import content_hash, short_hash
from sg_ray.jobs.job import TrainJob
from sg_ray.records.begin import begin
from sg_ray.sweep.plan.search import ModelSearch
from sg_ray.trial.spec import BranchSource, TrialSpec

E_YAML = """name: e
data: {num_samples: 240}
families: [gnn]
lr_range: {enabled: false}
tracking: {enabled: false}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("e.yaml").write_text(E_YAML)
    return tmp_path


def started(*overrides: str) -> bool:
    """Begin the sweep, or go on with it; return True if it goes on."""
    return begin(load_experiment(Path("e.yaml"), overrides))


def test_case_01_b01_a_race_that_is_off_stays_off(capsys: pytest.CaptureFixture[str]) -> None:
    assert not started("replicate.race_alpha=null")
    assert "  race_alpha: null\n" in Path("outputs/e/sweep.yaml").read_text()
    assert started("replicate.race_alpha=null"), "the same command again goes on"
    assert load_experiment(Path("outputs/e/sweep.yaml")).replicate.race_alpha is None
    assert main(["sweep", "--resume", "e", "--dry-run"]) == 0
    assert "  race_alpha: null\n" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"replicate\.race_alpha: None before, 0\.1 now"):
        started()


RATE = "models.gnn.config.learning_rate"
EQUAL = {
    "another way to write a number": ([f"{RATE}=1e-3"], [f"{RATE}=0.001"], [f"{RATE}=0.0010"]),
    "a whole number for one with a point": ([f"{RATE}=1"], [f"{RATE}=1.0"], [f"{RATE}=1e0"]),
    "a default written out": ([], ["models.gnn.config.hidden_dim=64"], ["data.seed=0"]),
    "a section of defaults": ([], ["models.gnn.config={graphs: {max_nodes: 2000}}"]),
    "settings of a family that does not run": ([], ["models.transformer.config.epochs=3"]),
    "the floor named or not, a family twice": ([], ["families=[gnn,lexical,gnn]"]),
    "equal bounds": (
        ["models.gnn.space.weight_decay={uniform: [0, 1]}"],
        ["models.gnn.space.weight_decay={uniform: [0.0, 1.0]}"],
    ),
    "equal choices": (
        ["models.gnn.space.weight_decay={choice: [0.01, 1]}"],
        ["models.gnn.space.weight_decay={choice: [1e-2, 1.0]}"],
    ),
    "another folder of the same name": (["data.path=d/"], ["data.path=./d"]),
}


@pytest.mark.parametrize("case", EQUAL)
def test_case_22_equal_values_are_the_same_sweep(case: str) -> None:
    assert [started(*given) for given in EQUAL[case]] == [False, *[True] * (len(EQUAL[case]) - 1)]
    identities = {load_experiment(Path("e.yaml"), given).identity_hash for given in EQUAL[case]}
    assert len(identities) == 1


def test_auto_is_settled_once_and_resumed_on_any_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a job does that SLURM queues again and starts on a node with another GPU."""
    auto = "models.gnn.config.max_units_per_micro_batch=auto"
    for name, memory_gb in (("NVIDIA L4", 23.7), ("Tesla T4", 15.6)):
        gpu = profile_of(name, memory_gb)
        monkeypatch.setattr("sg_ray.config.auto.this_machine", lambda _, gpu=gpu: gpu)
        if name == "NVIDIA L4":
            assert not started(auto)
    with pytest.raises(InputError, match="65536 before, 32768 now"):
        started(auto)
    resumed = named_experiment([], None, resume="outputs/e")
    assert begin(resumed)
    assert resumed.models["gnn"].config["max_units_per_micro_batch"] == 65536


def test_another_value_is_another_sweep_and_told_by_its_key() -> None:
    started(f"{RATE}=1e-3")
    with pytest.raises(InputError, match=r"learning_rate: 0\.001 before, 0\.002 now"):
        started(f"{RATE}=2e-3")
    with pytest.raises(InputError, match=r"families: \['lexical', 'gnn'\] before, \['lexical', "):
        started(f"{RATE}=1e-3", "families=[gnn,transformer]")


def test_case_22_choices_may_have_exponents() -> None:
    path = Path("choice.yaml")
    space = "{choice: [1e-3, 1e-2]}"
    model = f"{{config: {{learning_rate: 1e-3}}, space: {{learning_rate: {space}}}}}"
    path.write_text(f"{E_YAML}models: {{gnn: {model}}}\n")
    assert load_experiment(path).model("gnn").space["learning_rate"].choice == (0.001, 0.01)


def searched(tmp_path: Path, space: dict[str, Any]) -> Sweep:
    models = {"gnn": {"space": space, "config": {"weight_decay": 0.0}}}
    plan = experiment(
        tmp_path, families=["gnn"], models=models, lr_range={"enabled": False},
        replicate={"top_k": 1, "seeds": [42]},
    )  # fmt: skip
    return Sweep(plan)


def test_a_point_of_a_search_is_what_the_family_makes_of_it(tmp_path: Path) -> None:
    """Whole numbers for a number with a point: the point has the hash that 1.0 has."""
    sweep = searched(tmp_path, {"weight_decay": {"int_uniform": [0, 3]}})
    sweep.run()
    values = [
        r.configuration.values["weight_decay"]
        for r in sweep.ledger.records.values()
        if r.family == "gnn"
    ]
    assert len(values) > 1
    assert {type(value) for value in values} == {float}


@pytest.mark.parametrize("seed", [0, 42_949, 2**31, 2**32 - 1])
def test_b07_a_search_takes_every_seed(tmp_path: Path, seed: int) -> None:
    plan = load_experiment(Path("e.yaml"), [f"search.seed={seed}", "search.num_trials=12"])
    space = ["models.gnn.space.learning_rate={log_uniform: [1e-5, 1]}"]
    model = load_experiment(Path("e.yaml"), space).model("gnn")
    search = ModelSearch(
        tmp_path / "s.journal", model, plan.search, objective="val_f1", learning_rate=None
    )
    for _ in range(12):
        point = search.ask()
        assert point is not None
        search.tell(point.number, "completed", float(point.values["learning_rate"]))


def test_b22_asking_while_a_lost_point_trains_takes_no_memory(tmp_path: Path) -> None:
    sweep = searched(tmp_path, {"weight_decay": {"uniform": [0, 1]}})
    sweep.run()
    lost = next(key for key, r in sweep.ledger.records.items() if r.stage == "search")
    del sweep.ledger.records[lost]
    sweep.restart()
    job = sweep.planner.next_job()
    assert isinstance(job, TrainJob)
    assert job.spec.trial_key == lost
    plan = sweep.planner.plans["gnn"]
    assert sweep.planner.next_job() is None
    known = len(plan._specs)
    for _ in range(200):
        assert sweep.planner.next_job() is None
    assert len(plan._specs) == known


def test_b24_a_configuration_has_twelve_digits_of_which_eight_are_shown() -> None:
    source = BranchSource(
        trial_key="k",
        configuration=Configuration(model="gnn", family="gnn", values={}),
        config_hash="87f8deaa0123",
        folder=Path(),
    )
    spec = TrialSpec(
        configuration=Configuration(model="fusion", family="fusion", values={"epochs": 1}),
        seed=42, objective="val_f1",
        data_fingerprint="d", code_version="c", branches={"gnn": source},
    )  # fmt: skip
    assert len(spec.config_hash) == 12
    assert short_hash(spec.config_hash) == content_hash(
        ["fusion", {"epochs": 1}, {"gnn": "87f8deaa"}], 8
    ), "what was shown before is shown now"
    assert spec.name == f"fusion-{short_hash(spec.config_hash)}-seed42"
