"""Experiments: what a YAML and its overrides become, and what wrong ones are told."""

from pathlib import Path

import pytest
import torch

from sg_ray.config import hardware, load_experiment
from sg_ray.config.hardware import Profile, profile_of, this_machine
from sg_ray.errors import InputError
from sg_ray.models.families import plug_in
from sg_ray.models.family import NeuralConfig
from sg_ray.models.gnn import Gnn

ROOT = Path(__file__).parents[2]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    return path


def test_overrides_reach_nested_keys_and_parse_yaml(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\n")
    experiment = load_experiment(
        path, ["families=[gnn]", "search.num_trials=8", "models.gnn.config.learning_rate=1e-3"]
    )
    assert experiment.families == ("gnn",)
    assert experiment.search.num_trials == 8
    assert experiment.model("gnn").baseline.values["learning_rate"] == pytest.approx(1e-3)


def test_resolved_yaml_reads_back_equal(tmp_path: Path) -> None:
    experiment = load_experiment(ROOT / "experiments" / "quick.yaml", ["search.num_trials=5"])
    again = load_experiment(write(tmp_path, experiment.to_yaml()))
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
    names = tuple(model.name for model in load_experiment(path).all_models)
    assert names == ("lexical", "gnn", "transformer", "fusion")


AUTO = """
name: a
families: [gnn]
resources: {cpus: auto, gpus: auto}
models: {gnn: {config: {batch_size: auto, max_units_per_micro_batch: auto}}}
"""


def test_auto_follows_the_machine(tmp_path: Path) -> None:
    experiment = load_experiment(write(tmp_path, AUTO))
    profile = this_machine(experiment.resources.gpus)
    assert experiment.resources.gpus == float(torch.cuda.is_available())
    assert experiment.resources.cpus == profile.cpus
    baseline, budget = experiment.model("gnn").baseline.values, profile.budget("gnn")
    assert baseline["batch_size"] == budget.batch_size
    assert baseline["max_units_per_micro_batch"] == budget.max_units_per_micro_batch


def use_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the experiment be read on a machine with one H200, shared as its trials ask for."""

    def on_h200(gpus_per_trial: float) -> Profile:
        return (
            profile_of("H200", 150 * gpus_per_trial) if gpus_per_trial else profile_of(None, None)
        )

    monkeypatch.setattr("sg_ray.config.auto.this_machine", on_h200)
    monkeypatch.setattr("sg_ray.config.resources.this_machine", on_h200)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_what_auto_became_is_kept_on_other_hardware(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, AUTO)
    with monkeypatch.context() as context:
        use_gpu(context)
        begun = load_experiment(path)
    assert (begun.resources.cpus, begun.resources.gpus) == (8, 1)
    resumed = load_experiment(
        write(tmp_path, begun.to_yaml()), ["resources.gpus=0", "resources.cpus=auto"]
    )
    assert resumed.model("gnn").settings == begun.model("gnn").settings
    assert resumed.identity_hash == begun.identity_hash
    assert resumed.resources.cpus == 1
    anew = load_experiment(write(tmp_path, AUTO), ["resources.gpus=0"])
    assert anew.model("gnn").settings != begun.model("gnn").settings


def test_auto_sees_the_share_of_the_gpu_that_a_family_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_gpu(monkeypatch)
    path = write(tmp_path, AUTO)

    def units(*overrides: str) -> int:
        config = load_experiment(path, overrides).model("gnn").baseline.values
        return int(config["max_units_per_micro_batch"])

    assert units("resources.gpus=0.25") < units()
    assert units("models.gnn.resources.gpus=0.25") == units("resources.gpus=0.25")
    assert (
        units("resources.gpus=0") == profile_of(None, None).budget("gnn").max_units_per_micro_batch
    )
    assert units("models.gnn.config.max_units_per_micro_batch=77") == 77


LACKED = {
    ("resources.gpus=1",): [
        "resources.cpus=8",
        "models.gnn.config.batch_size=64",
        "models.gnn.config.max_units_per_micro_batch=131072",
    ],
    ("resources.gpus=0.5", "resources.cpus=2", "models.gnn.config.batch_size=7"): [
        "models.gnn.config.max_units_per_micro_batch=32768",
    ],
    ("models.gnn.resources={gpus: 2, cpus: auto}", "models.gnn.config={}"): [
        "models.gnn.resources.cpus=8",
    ],
    ("resources.gpus=auto", "resources.cpus=2", "models.gnn.config={}"): ["resources.gpus=1"],
    ("resources.gpus=0",): [],
    ("resources={cpus: 8, gpus: 1}", "models.gnn.config={}"): [],
}


@pytest.mark.parametrize("overrides", LACKED, ids=" ".join)
def test_without_a_gpu_here_it_is_known_what_auto_could_not(
    overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    experiment = load_experiment(write(tmp_path, AUTO), overrides)
    assert list(experiment.lacked_gpu) == LACKED[overrides]
    told = load_experiment(write(tmp_path, AUTO), [*overrides, *experiment.lacked_gpu])
    assert told.lacked_gpu == ()
    assert load_experiment(write(tmp_path, experiment.to_yaml())).lacked_gpu == ()


def test_with_a_gpu_here_auto_lacks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_gpu(monkeypatch)
    assert load_experiment(write(tmp_path, AUTO)).lacked_gpu == ()


class ToyConfig(NeuralConfig):
    pass


class Toy(Gnn):
    name = "toy"
    Config = ToyConfig  # type: ignore[assignment]


def test_auto_works_for_a_family_that_the_table_does_not_know(tmp_path: Path) -> None:
    assert plug_in(f"{__name__}:Toy") == "toy"
    path = write(tmp_path, AUTO.replace("gnn", "toy"))
    baseline = load_experiment(path, ["resources.gpus=0"]).model("toy").settings
    assert baseline.model_dump()["max_units_per_micro_batch"] == hardware.CPU_TOKENS


def test_branches_may_be_any_folder(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\nfamilies: [fusion]\nbranches_from: outputs/train\n")
    assert load_experiment(path).branches_from == Path("outputs/train")


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
        "begins with, 0.5, lies outside {'uniform': (0.0, 0.1)}; it is the experiment's own",
    ),
    "unknown hyperparameter": (
        "name: a\nmodels: {gnn: {config: {num_layer: 2}}}\n",
        ":2: models.gnn.config.num_layer: unknown key; did you mean 'num_layers'?",
    ),
    "unknown feature setting": (
        "name: a\nmodels:\n  gnn:\n    config:\n      graphs: {max_node: 2}\n",
        ":5: models.gnn.config.graphs.max_node: unknown key; did you mean 'max_nodes'?",
    ),
    "unknown feature setting, nothing like it": (
        "name: a\nmodels: {transformer: {config: {tokens: {xyz: 2}}}}\n",
        "tokens.xyz: unknown key; known here: collapse_whitespace, tokenizer, ",
    ),
    "unknown key of a model": (
        "name: a\nmodels: {gnn: {spce: {}}}\n",
        "models.gnn.spce: unknown key; did you mean 'space'?",
    ),
    "unknown key of a model's resources": (
        "name: a\nmodels: {gnn: {resources: {gpu: 1}}}\n",
        "models.gnn.resources.gpu: unknown key; did you mean 'gpus'?",
    ),
    "auto where there is none": (
        "name: a\nmodels: {gnn: {config: {hidden_dim: auto}}}\n",
        "models.gnn.config.hidden_dim: Input should be a valid integer",
    ),
    "auto for a family without it": (
        "name: a\nmodels: {lexical: {config: {batch_size: auto}}}\n",
        "models.lexical.config.batch_size: unknown key",
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
    with pytest.raises(InputError, match=r"space\.yaml:1: models\.gnn\.space\.dropout: uniform"):
        load_experiment(path)


def test_an_override_may_change_one_parameter_of_a_space_file(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("dropout: {uniform: [0.1, 0.5]}\n")
    path = write(tmp_path, "name: a\nmodels: {gnn: {space: space.yaml}}\n")
    override = "models.gnn.space.learning_rate={log_uniform: [0.0001, 0.01]}"
    space = load_experiment(path, [override]).model("gnn").space
    assert set(space) == {"dropout", "learning_rate"}
    with pytest.raises(InputError, match=r"'models\.gnn\.space\.dropout=3': models\.gnn\.space"):
        load_experiment(path, ["models.gnn.space.dropout=3"])


def test_missing_files_and_bad_overrides(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.yaml: no such file"):
        load_experiment(tmp_path / "nothing.yaml")
    path = write(tmp_path, "name: a\n")
    with pytest.raises(InputError, match="written key=value"):
        load_experiment(path, ["search.num_trials"])
    with pytest.raises(InputError, match="name is 'a', not a section"):
        load_experiment(path, ["name.first=x"])


def test_what_an_override_gave_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\nsearch:\n  num_trials: 3\n  seed: -1\n")
    for override in ("search.num_trials=-1", "search={num_trials: -1}", "sarch.num_trials=1"):
        with pytest.raises(InputError) as caught:
            load_experiment(path, ["search.seed=0", override])
        assert str(caught.value).startswith(repr(override))
    with pytest.raises(InputError, match=r"experiment\.yaml:4: search\.seed: "):
        load_experiment(path, ["search.num_trials=4"])


def test_an_override_fills_an_empty_section(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\nsearch:\n")
    assert load_experiment(path, ["search.num_trials=4"]).search.num_trials == 4
