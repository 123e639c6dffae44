"""Experiments: what a YAML and its overrides become, and what wrong ones are told."""

from pathlib import Path

import pytest
import torch

from sg_ray.config import load_experiment, resolved_yaml
from sg_ray.errors import InputError

ROOT = Path(__file__).parents[2]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda p: p.name
)
def test_shipped_experiments_are_valid(path: Path) -> None:
    experiment = load_experiment(path, ["data.source=synthetic", "data.path=null"])
    for family in experiment.all_families:
        experiment.baseline(family)


def test_overrides_reach_nested_keys_and_parse_yaml(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\n")
    experiment = load_experiment(
        path, ["families=[gnn]", "search.num_trials=8", "models.gnn.config.learning_rate=1e-3"]
    )
    assert experiment.families == ("gnn",)
    assert experiment.search.num_trials == 8
    assert experiment.baseline("gnn").model_dump()["learning_rate"] == pytest.approx(1e-3)


def test_resolved_yaml_reads_back_equal(tmp_path: Path) -> None:
    experiment = load_experiment(ROOT / "experiments" / "quick.yaml", ["search.num_trials=5"])
    again = load_experiment(write(tmp_path, resolved_yaml(experiment)))
    assert again == experiment
    assert again.identity_hash == experiment.identity_hash


def test_resources_and_folders_do_not_change_the_identity(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\n")
    plain = load_experiment(path)
    moved = load_experiment(path, ["resources.cpus=2", "output_dir=elsewhere"])
    longer = load_experiment(path, ["search.num_trials=99"])
    assert moved.identity_hash == plain.identity_hash
    assert longer.identity_hash != plain.identity_hash


def test_fusion_runs_after_its_branches_whatever_the_order(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\nfamilies: [fusion, gnn, transformer]\n")
    assert load_experiment(path).all_families == ("lexical", "gnn", "transformer", "fusion")


def test_auto_gpus_follow_the_machine(tmp_path: Path) -> None:
    experiment = load_experiment(write(tmp_path, "name: a\nresources: {gpus: auto}\n"))
    assert experiment.resources.gpus == float(torch.cuda.is_available())


WRONG = {
    "unknown key, nested": (
        "name: a\nsearch:\n  num_trails: 3\n",
        ":3: search.num_trails: unknown key; did you mean 'num_trials'?",
    ),
    "unknown key, top": ("name: a\nsarch: {}\n", ":2: sarch: unknown key; did you mean 'search'?"),
    "negative trials": ("name: a\nsearch: {num_trials: -1}\n", ":2: search.num_trials: "),
    "wrong type": ("name: a\nsearch: {num_trials: many}\n", "(got 'many')"),
    "repeated seeds": (
        "name: a\nreplicate: {seeds: [1, 2, 1]}\n",
        "seeds must differ, repeated: [1]",
    ),
    "no seeds": ("name: a\nreplicate: {seeds: []}\n", "replicate.seeds: "),
    "unknown family": ("name: a\nfamilies: [gan]\n", "unknown family 'gan'"),
    "unknown objective": ("name: a\nobjective: f2\n", "unknown metric 'f2'"),
    "key given twice": ("name: a\nname: b\n", ":2: name is given twice (first on line 1)"),
    "not a mapping": ("- 1\n", "must hold a mapping"),
    "not yaml": ("name: [\n", "not valid YAML"),
    "no name": ("families: [gnn]\n", "name: Field required"),
    "name with a slash": ("name: a/b\n", ":1: name: "),
    "fractional gpus above one": (
        "name: a\nresources: {gpus: 1.5}\n",
        "gpus above 1 must be whole",
    ),
    "low above high": (
        "name: a\nmodels: {gnn: {space: {dropout: {uniform: [0.5, 0.1]}}}}\n",
        "uniform needs low < high, got [0.5, 0.1]",
    ),
    "log from zero": (
        "name: a\nmodels: {gnn: {space: {learning_rate: {log_uniform: [0, 0.1]}}}}\n",
        "log_uniform needs low > 0",
    ),
    "two distributions": (
        "name: a\nmodels: {gnn: {space: {dropout: {uniform: [0, 1], choice: [0]}}}}\n",
        "give exactly one of",
    ),
    "key the family has not": (
        "name: a\nmodels: {gnn: {space: {num_heads: {int_uniform: [1, 2]}}}}\n",
        "the family has no hyperparameter 'num_heads' to search over. It has: ",
    ),
    "feature settings are not searched": (
        "name: a\nmodels: {gnn: {space: {graphs: {choice: [1, 2]}}}}\n",
        "no hyperparameter 'graphs'",
    ),
    "illegal bound": (
        "name: a\nmodels: {gnn: {space: {dropout: {uniform: [-1, 0.5]}}}}\n",
        "-1.0 is not a legal value",
    ),
    "own value outside the space": (
        "name: a\nmodels: {gnn: {config: {dropout: 0.5}, space: {dropout: {uniform: [0, 0.1]}}}}\n",
        "own value 0.5 lies outside",
    ),
    "unknown hyperparameter": (
        "name: a\nmodels: {gnn: {config: {num_layer: 2}}}\n",
        "models.gnn.config.num_layer: unknown key",
    ),
    "fusion without branches": (
        "name: a\nfamilies: [fusion, gnn]\n",
        "fusion builds on transformer. Add transformer to families",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings_are_named(tmp_path: Path, case: str) -> None:
    text, message = WRONG[case]
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_experiment(path)
    assert message in str(caught.value)


def test_a_space_file_is_named_in_its_errors(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("dropout: {uniform: [0.5, 0.1]}\n")
    path = write(tmp_path, "name: a\nmodels: {gnn: {space: space.yaml}}\n")
    with pytest.raises(InputError, match=r"space\.yaml:1: dropout: uniform needs low < high"):
        load_experiment(path)


def test_missing_files_and_bad_overrides(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.yaml: no such file"):
        load_experiment(tmp_path / "nothing.yaml")
    path = write(tmp_path, "name: a\n")
    with pytest.raises(InputError, match="written key=value"):
        load_experiment(path, ["search.num_trials"])
    with pytest.raises(InputError, match="name is not a section"):
        load_experiment(path, ["name.first=x"])
