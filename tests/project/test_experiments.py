"""The shipped experiments load without a network, and prod.yaml runs what it promises."""

from pathlib import Path
from typing import Any

import pytest

from sg_ray.config import Experiment, load_experiment
from sg_ray.config.hardware import profile_of, this_machine
from sg_ray.config.yaml_text import read_yaml
from sg_ray.space import Dimension

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NEURAL = ("transformer", "gnn", "fusion")


@pytest.fixture(scope="module")
def prod() -> Experiment:
    return load_experiment(EXPERIMENTS / "prod.yaml")


def config(experiment: Experiment, family: str) -> dict[str, Any]:
    return dict(experiment.model(family).baseline.values)


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_experiment_loads(path: Path) -> None:
    experiment = load_experiment(path)
    assert experiment.name == path.stem
    assert all(model.baseline.values for model in experiment.all_models)


def test_prod_trains_the_published_settings(prod: Experiment) -> None:
    expected = {"transformer": (10, 64), "gnn": (15, 32), "fusion": (12, 32)}
    trained = {name: config(prod, name) for name in NEURAL}
    assert {n: (c["epochs"], c["batch_size"]) for n, c in trained.items()} == expected
    assert trained["transformer"]["pretrained"] == "microsoft/codebert-base"
    for values in trained.values():
        assert values["precision"] == "auto"
        assert values["weighted_sampling"] is True
        assert 1 < values["early_stopping_patience"] < values["epochs"]


def test_prod_reads_codexglue_or_a_folder_of_it(prod: Experiment, tmp_path: Path) -> None:
    assert (prod.data.source, prod.data.path) == ("codexglue", None)
    there = load_experiment(EXPERIMENTS / "prod.yaml", [f"data.path={tmp_path}"])
    assert there.data.path == tmp_path


def test_prod_searches_the_learning_rate_alone_around_the_default(prod: Experiment) -> None:
    for family in NEURAL:
        (searched,) = prod.model(family).space.items()
        default = type(prod.model(family).settings)().model_dump()["learning_rate"]
        assert searched == ("learning_rate", Dimension(log_uniform=(default / 4, default * 4)))
        assert config(prod, family)["learning_rate"] == default


def test_prod_tests_rates_searches_little_and_repeats_with_three_seeds(prod: Experiment) -> None:
    assert prod.objective == Experiment(name="default").objective
    assert (prod.lr_range.enabled, prod.lr_range.num_steps, prod.lr_range.num_seeds) == (
        True,
        80,
        3,
    )
    assert (prod.search.num_trials, prod.search.pruning.enabled) == (4, True)
    assert (prod.replicate.top_k, prod.replicate.seeds) == (1, (42, 2025, 7))


def test_prod_takes_what_suits_the_machine(prod: Experiment) -> None:
    written = read_yaml((EXPERIMENTS / "prod.yaml").read_text(encoding="utf-8"), str).content
    assert written["resources"] == {"cpus": "auto", "gpus": "auto"}
    profile = this_machine(prod.resources.gpus)
    assert prod.resources.cpus == profile.cpus
    for family in NEURAL:
        assert written["models"][family]["config"]["max_units_per_micro_batch"] == "auto"
        units = profile.budget(family).max_units_per_micro_batch
        assert config(prod, family)["max_units_per_micro_batch"] == units


def test_prod_on_a_cluster_is_prod_with_the_numbers_of_an_a100() -> None:
    """Nothing but what ``auto`` is on such a machine, which may have eight of them."""
    local, on_cluster = (
        read_yaml((EXPERIMENTS / name).read_text(encoding="utf-8"), str).content
        for name in ("prod.yaml", "prod_a100.yaml")
    )
    profile = profile_of("NVIDIA A100-SXM4-40GB", 42.4)
    local |= {"name": "prod_a100", "resources": {"cpus": profile.cpus, "gpus": 1}}
    for family in NEURAL:
        units = profile.budget(family).max_units_per_micro_batch
        local["models"][family]["config"]["max_units_per_micro_batch"] = units
    assert on_cluster == local
