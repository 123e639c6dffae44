"""A setting comes back as it was given, whichever way it was given and whoever reads it again."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from setting_fields import Setting, all_settings

import sg_ray
from sg_ray.cli import _parse
from sg_ray.cli.settings import named_experiment
from sg_ray.cli.train import _experiment
from sg_ray.config import Experiment, Given, load_experiment
from sg_ray.config.yaml_text import read_yaml, write_yaml
from sg_ray.errors import InputError
from sg_ray.records.folder_format import write_format

SETTINGS = all_settings()
FILES = ("data.train_file", "data.valid_file", "data.test_file")
LEFT_OUT = ("data.path", "branches_from", *FILES)
"""What an experiment may leave out, but never say null for."""

Chosen = Mapping[str, Any]


def in_one_line(value: Any) -> str:
    """Return a value as the command line takes it: JSON is YAML."""
    return json.dumps(value, ensure_ascii=False)


def on_the_command_line(folder: Path, chosen: Chosen) -> Experiment:
    (folder / "base.yaml").write_text("name: base\n")
    overrides = [f"{key}={in_one_line(value)}" for key, value in chosen.items()]
    return load_experiment(folder / "base.yaml", overrides)


def by_flags(folder: Path, chosen: Chosen) -> Experiment:
    (folder / "base.yaml").write_text("name: base\n")
    flags = [Given(key, value, f"--{key}") for key, value in chosen.items()]
    return load_experiment(folder / "base.yaml", settings=flags)


def in_a_file(folder: Path, chosen: Chosen) -> Experiment:
    content: dict[str, Any] = {}
    for key, value in chosen.items():
        *sections, name = key.split(".")
        section = content
        for one in sections:
            section = section.setdefault(one, {})
        section[name] = value
    (folder / "file.yaml").write_text(write_yaml(content))
    return load_experiment(folder / "file.yaml")


def from_python(folder: Path, chosen: Chosen) -> Experiment:
    (folder / "base.yaml").write_text("name: base\n")
    return sg_ray.load_experiment(folder / "base.yaml", chosen)


def check(folder: Path, chosen: Chosen) -> Experiment:
    """Give the settings in four ways, write and read them again; return the experiment."""
    experiment = on_the_command_line(folder, chosen)
    assert in_a_file(folder, chosen) == experiment
    assert by_flags(folder, chosen) == experiment
    assert from_python(folder, chosen) == experiment
    written = folder / "sweep.yaml"
    written.write_text(experiment.to_yaml())
    again = load_experiment(written)
    assert again == experiment
    assert again.identity == experiment.identity
    assert again.identity_hash == experiment.identity_hash
    return experiment


def chosen_edges(number: int) -> dict[str, Any]:
    """Return the ``number``-th edge of every setting; places differ from each other."""
    return {one.key: one.edges[(number + at) % len(one.edges)] for at, one in enumerate(SETTINGS)}


def without(chosen: Chosen, keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in chosen.items() if key not in keys}


@pytest.mark.parametrize("number", range(max(len(one.edges) for one in SETTINGS)))
def test_bounds_nulls_and_odd_places_come_back(tmp_path: Path, number: int) -> None:
    chosen = chosen_edges(number)
    left_out = LEFT_OUT if number % 3 == 0 else FILES if number % 3 == 1 else ()
    experiment = check(tmp_path, without(chosen, left_out))
    assert experiment.max_failures == chosen["max_failures"]
    assert experiment.replicate.race_alpha == chosen["replicate.race_alpha"]


NULLABLE = [one.key for one in SETTINGS if None in one.edges and one.key not in LEFT_OUT]


def at(values: Mapping[str, Any], key: str) -> Any:
    for name in key.split("."):
        values = values[name]
    return values


def test_every_setting_that_may_be_null_stays_null(tmp_path: Path) -> None:
    """Also one whose default is another value, to which a null that is lost would return."""
    experiment = from_python(tmp_path, dict.fromkeys(NULLABLE))
    (tmp_path / "sweep.yaml").write_text(experiment.to_yaml())
    again = load_experiment(tmp_path / "sweep.yaml")
    assert again == experiment
    content = again.model_dump()
    for key in NULLABLE:
        assert at(content, key) is None, key
    defaults = from_python(tmp_path, {}).replicate
    assert defaults.race_alpha is not None
    assert again.replicate.race_alpha is None


def any_setting(one: Setting) -> st.SearchStrategy[Any]:
    return one.strategy | st.sampled_from(one.edges)


@settings(
    max_examples=15,
    derandomize=True,
    phases=[Phase.generate],
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    chosen=st.fixed_dictionaries({one.key: any_setting(one) for one in SETTINGS}),
    left_out=st.sampled_from([LEFT_OUT, FILES, ()]),
)
def test_any_values_come_back(
    tmp_path: Path, chosen: dict[str, Any], left_out: tuple[str, ...]
) -> None:
    assume(len({Path(chosen[file]) for file in FILES}) == len(FILES))
    in_order = {one.key: chosen[one.key] for one in SETTINGS}  # a source after a path is refused
    check(tmp_path, without(in_order, left_out))


def test_no_setting_is_forgotten() -> None:
    keys = {one.key for one in SETTINGS}
    assert {"replicate.race_alpha", "data.limit.test", "search.pruning.min_epochs"} <= keys
    assert {"models.fusion.config.mode", "models.transformer.config.tokens.vocab_size"} <= keys
    assert len(keys) > 100


PLACES = ("out #1", "2024", "a: b", "[run]", "~x", "it's", "lr=1e-3", "d\u00e9j\u00e0 vu ")


@pytest.mark.parametrize("place", PLACES)
def test_b05_a_sweep_in_any_folder_is_resumed_and_extended_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = {
        **without(chosen_edges(5), LEFT_OUT),
        "name": "quick",
        "output_dir": place,
        "replicate.race_alpha": None,
    }
    begun = by_flags(tmp_path, chosen)
    begun.folder.path.mkdir(parents=True)
    write_format(begun.folder)
    (begun.folder.path / "sweep.yaml").write_text(begun.to_yaml())
    for name in (f"{place}/quick", f"{place}/quick/", f"./{place}/quick"):
        assert named_experiment([], Path("unused"), name) == begun
    quoted = f"output_dir={in_one_line(place)}"
    assert named_experiment([quoted], Path("unused"), "quick") == begun
    folder = begun.folder.path
    monkeypatch.chdir(folder)
    assert named_experiment([], Path("unused"), ".").folder.path == folder


def test_a_sweep_never_goes_on_in_another_ones_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("quick", "other"):
        begun = by_flags(tmp_path, {"name": name})
        begun.folder.path.mkdir(parents=True)
        write_format(begun.folder)
        (begun.folder.path / "sweep.yaml").write_text(begun.to_yaml())
    (tmp_path / "outputs/quick").rename("outputs/renamed")
    with pytest.raises(InputError, match="Call the folder quick again, or give its new name: name"):
        named_experiment([], Path("unused"), "renamed")
    with pytest.raises(InputError, match="Leave name=new out"):
        named_experiment(["name=new"], Path("unused"), "outputs/other")
    again = named_experiment(["name=renamed"], Path("unused"), "renamed")
    assert again.folder.path == tmp_path / "outputs/renamed"
    with pytest.raises(InputError, match="Leave output_dir=elsewhere out"):
        named_experiment(["output_dir=elsewhere"], Path("unused"), "outputs/other")


def test_b05_a_training_in_any_folder_is_read_again_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "lr=1 #2"
    folder.mkdir()
    chosen = {**without(chosen_edges(2), LEFT_OUT), "families": ["gnn"], "models.gnn.space": {}}
    trained = by_flags(tmp_path, chosen)
    (folder / "experiment.yaml").write_text(trained.to_yaml())
    (folder / "last.pt").touch()
    known = argparse.Namespace(default=Path("unused"))
    parsed = _parse(["train", "gnn", "--resume", str(folder)], known)
    assert _experiment(parsed) == trained


def test_the_same_text_is_written_for_the_same_experiment(tmp_path: Path) -> None:
    experiment = on_the_command_line(tmp_path, without(chosen_edges(1), LEFT_OUT))
    text = experiment.to_yaml()
    (tmp_path / "sweep.yaml").write_text(text)
    assert load_experiment(tmp_path / "sweep.yaml").to_yaml() == text
    assert text.isascii()
    assert read_yaml(text, str).content["name"] == experiment.name
