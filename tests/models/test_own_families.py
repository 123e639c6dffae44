"""Families of the user's own: by module, by file, by an installed package's entry point."""

import pickle
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from sg_ray import plugins
from sg_ray.api.places import resumed
from sg_ray.code_version import code_version
from sg_ray.config import load_experiment
from sg_ray.errors import InputError
from sg_ray.models.families import (
    ENTRY_POINTS,
    FAMILIES,
    FamilyTable,
    builds_on,
    family_code_version,
    get_family,
    plug_in,
)
from sg_ray.plugins import Plugin
from sg_ray.records.folder_format import write_format
from sg_ray.sweep_folder import SweepFolder
from sg_ray.trial.own_code import OwnCode

FAMILY = """
from sg_ray.models.family import Classifier, NeuralConfig, NeuralFamily

class Settings(NeuralConfig):
    hidden_dim: int = 8

class Own(NeuralFamily[Settings]):
    name = "own"
    Config = Settings
    space = {"hidden_dim": {"choice": [4, 8]}}

    def feature_specs(self, config): return ()
    def split_data(self, config, inputs, split): raise NotImplementedError
    def build(self, config, inputs): raise NotImplementedError
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with ``own.py`` in it; nothing is plugged in."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(FAMILY)
    return tmp_path


def package(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Path:
    """Write a package that can be imported, with the family in ``NAME/lstm.py``."""
    (folder / "site" / name).mkdir(parents=True)
    (folder / "site" / name / "__init__.py").touch()
    (folder / "site" / name / "lstm.py").write_text(f"from {name} import layers\n{FAMILY}")
    (folder / "site" / name / "layers.py").write_text("WIDTH = 8\n")
    (folder / "site" / name / "other.py").write_text("NUMBER = 1\n")
    monkeypatch.syspath_prepend(str(folder / "site"))
    return folder / "site" / name


def offer(monkeypatch: pytest.MonkeyPatch, *offers: tuple[str, str]) -> None:
    """Have installed packages offer families."""
    found = tuple(EntryPoint(name, value, ENTRY_POINTS) for name, value in offers)
    monkeypatch.setattr(plugins, "_entry_points", lambda group: found)


def test_a_file_is_called_by_the_name_that_its_class_gives_itself() -> None:
    assert plug_in("./own.py:Own") == "own"
    assert get_family("own").Config(hidden_dim=3).model_dump()["hidden_dim"] == 3
    assert list(FAMILIES) == ["lexical", "transformer", "gnn", "fusion", "own"]


def test_equal_files_give_the_same_class_and_an_edited_one_another() -> None:
    before = Plugin.of("own.py:Own")
    assert before.load() is Plugin.of("./own.py:Own").load()
    Path("own.py").write_text(FAMILY.replace("= 8", "= 16"))
    plug_in("own.py:Own")
    assert before.load()().Config().hidden_dim == 8, "what a running sweep has stays"
    assert get_family("own").Config().model_dump()["hidden_dim"] == 16


def test_a_package_offers_families_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(folder, monkeypatch, "offering")
    offer(monkeypatch, ("own", "offering.lstm:Own"))
    assert get_family("own").name == "own"
    assert "own" in FAMILIES
    path = folder / "e.yaml"
    path.write_text("name: e\nfamilies: [own, gnn]\n")
    experiment = load_experiment(path)
    assert experiment.model_names == ("lexical", "own", "gnn")
    assert experiment.model("own").space["hidden_dim"].choice == (4, 8), "the family's own space"


def test_two_packages_that_offer_one_name_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, ("own", "one.lstm:Own"), ("own", "two.lstm:Own"))
    with pytest.raises(InputError, match=r"'own' is offered by .*one\.lstm:Own or two\.lstm:Own"):
        get_family("own")


def test_a_name_that_is_taken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own.py").write_text(FAMILY.replace('"own"', '"gnn"'))
    with pytest.raises(InputError, match=r"own\.py:Own: there is another family called 'gnn'"):
        plug_in("own.py:Own")
    offer(monkeypatch, ("gnn", "one.lstm:Gnn"))
    with pytest.raises(InputError, match=r"one\.lstm:Gnn: there is another family called 'gnn'"):
        get_family("gnn")


BROKEN = {
    "no such file": ("./gone.py:Own", r"gone\.py: there is no such file"),
    "no such module": ("gone_package.lstm:Own", r"no module gone_package\. Install the package"),
    "no reference": ("own:", "is written MODULE:NAME"),
    "no such name": ("own.py:Other", r"own\.py defines no 'Other'"),
    "no family": ("own.py:Settings", "Settings: is no family"),
    "an abstract one": ("own.py:NeuralFamily", "lacks build"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_loaded_is_told(case: str) -> None:
    reference, reason = BROKEN[case]
    with pytest.raises(InputError, match=reason):
        plug_in(reference)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def f(:\n", r"own\.py, line 1: cannot be loaded \(SyntaxError"),
        ("import gone_package\n", "No module named 'gone_package'.*must be installed"),
        ("1 / 0\n", "cannot be loaded .ZeroDivisionError"),
    ],
)
def test_a_broken_file_is_told(source: str, reason: str) -> None:
    Path("own.py").write_text(source)
    before = set(sys.modules)
    with pytest.raises(InputError, match=reason):
        plug_in("own.py:Own")
    assert not [name for name in set(sys.modules) - before if name.startswith("sg_ray_plugin")]


def test_an_experiment_names_a_file_beside_it_and_its_copy_reads_back_equal(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "own.py").rename(folder / "mine" / "own.py")
    path = folder / "mine" / "e.yaml"
    path.write_text("name: e\nfamilies: [gnn, ./own.py:Own]\n")
    experiment = load_experiment(path, ["models.own.config.epochs=2"])
    assert experiment.families == ("gnn", "own")
    assert experiment.plugins.families == {"own": f"{folder / 'mine' / 'own.py'}:Own"}
    assert experiment.model("own").space["hidden_dim"].choice == (4, 8), "the family's own space"
    copy = folder / "sweep.yaml"
    copy.write_text(experiment.to_yaml())
    assert load_experiment(copy) == experiment
    assert load_experiment(path, ["models.own.space={}"]).model("own").space == {}


def test_a_space_of_a_family_that_leaves_its_default_out_is_blamed_on_the_family(
    folder: Path,
) -> None:
    (folder / "own.py").write_text(FAMILY.replace("[4, 8]", "[4, 6]"))
    path = folder / "e.yaml"
    path.write_text("name: e\nfamilies: [./own.py:Own]\n")
    innocent = "models.own.config.epochs=2"
    with pytest.raises(InputError, match=r"that .*own\.py:Own brings: .*, 8, .*default") as told:
        load_experiment(path, [innocent])
    assert innocent not in str(told.value)
    assert load_experiment(path, [innocent, "models.own.config.hidden_dim=6"])


@pytest.mark.parametrize("models", ["", " 3"])
def test_models_that_are_no_section_are_named_beside_a_family_that_brings_a_space(
    folder: Path, models: str
) -> None:
    path = folder / "e.yaml"
    path.write_text(f"name: e\nfamilies: [./own.py:Own]\nmodels:{models}\n")
    with pytest.raises(InputError, match=r"e\.yaml:3: models: "):
        load_experiment(path)


def test_a_space_that_a_family_brings_later_does_not_make_another_sweep_of_one_that_was_begun(
    folder: Path,
) -> None:
    path, begun = folder / "e.yaml", folder / "outputs" / "e" / "sweep.yaml"
    begun.parent.mkdir(parents=True)
    (folder / "own.py").write_text(FAMILY.replace("    space = ", "    later = "))
    path.write_text("name: e\nfamilies: [./own.py:Own]\n")
    experiment = load_experiment(path)
    begun.write_text(experiment.to_yaml())
    (folder / "own.py").write_text(FAMILY)
    again = load_experiment(begun, is_passed_on=True)
    assert again.identity == experiment.identity
    assert load_experiment(path).identity != experiment.identity


@pytest.mark.parametrize("offer_of", [["absent.lstm:Own"], ["one.lstm:Own", "two.lstm:Own"]])
def test_an_offer_that_cannot_be_taken_is_told_with_its_place(
    folder: Path, offer_of: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, *(("own", value) for value in offer_of))
    path = folder / "e.yaml"
    path.write_text("name: e\nfamilies: [own, gnn]\n")
    with pytest.raises(InputError, match=r"e\.yaml:2: families: "):
        load_experiment(path)


def test_a_package_brings_search_spaces(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = package(folder, monkeypatch, "spaced")
    (there / "gnn.yaml").write_text("hidden_dim: {choice: [16, 64]}\n")
    path = folder / "e.yaml"
    path.write_text("name: e\nfamilies: [gnn]\nmodels: {gnn: {space: 'spaced:gnn.yaml'}}\n")
    assert load_experiment(path).model("gnn").space["hidden_dim"].choice == (16, 64)
    path.write_text("name: e\nfamilies: [gnn]\nmodels: {gnn: {space: 'spaced:none.yaml'}}\n")
    with pytest.raises(InputError, match=r"models\.gnn\.space: spaced:none\.yaml does not exist"):
        load_experiment(path)
    assert "spaced" not in sys.modules, "none of its code is executed"


def test_a_package_offers_search_spaces_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = package(folder, monkeypatch, "spacious")
    (there / "spaces").mkdir()
    (there / "spaces" / "gnn.yaml").write_text("hidden_dim: {choice: [16, 64]}\n")
    installed = folder / "site" / "spacious-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Name: spacious\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(
        "[sg_ray.spaces]\nwide = spacious.spaces:gnn.yaml\ngone = spacious:gone.yaml\n"
    )
    monkeypatch.setattr(plugins, "_entry_points", plugins._entry_points.__wrapped__)
    path = folder / "e.yaml"
    path.write_text("name: e\nfamilies: [gnn]\nmodels: {gnn: {space: wide}}\n")
    experiment = load_experiment(path)
    assert experiment.model("gnn").space["hidden_dim"].choice == (16, 64)
    for name, reason in (
        ("gone", r"models\.gnn\.space: 'gone' is offered as spacious:gone\.yaml"),
        ("wider", r"space: wider does not exist .* by name: gone, wide\)"),
    ):
        with pytest.raises(InputError, match=reason):
            load_experiment(path, [f"models.gnn.space={name}"])
    (folder / "wide").write_text("hidden_dim: {choice: [32, 64]}\n")
    beside = load_experiment(path).model("gnn").space["hidden_dim"]
    assert beside.choice == (32, 64), "what lies beside the experiment comes first"
    copy = folder / "sweep.yaml"
    copy.write_text(experiment.to_yaml())
    (there / "spaces" / "gnn.yaml").unlink()
    assert load_experiment(copy) == experiment, "a sweep notes the space itself"
    assert "spacious" not in sys.modules, "none of its code is executed"


def test_a_command_line_names_a_file_from_where_it_is_typed(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "own.py").write_text(FAMILY.replace('"own"', '"other"'))
    path = folder / "mine" / "e.yaml"
    path.write_text("name: e\n")
    assert load_experiment(path, ["families=[./own.py:Own]"]).families == ("own",)


def test_what_is_wrong_with_a_file_is_told_with_its_place(folder: Path) -> None:
    path = folder / "e.yaml"
    path.write_text("name: e\nfamilies: [gnn, ./gone.py:Own]\n")
    with pytest.raises(InputError, match=r"e\.yaml:2: families: .*gone\.py: there is no such file"):
        load_experiment(path)
    path.write_text("name: e\nfamilies: [./own.py:Own]\nplugins: {families: {own: other.py:Own}}\n")
    (folder / "other.py").write_text(f"{FAMILY}\n# another file\n")
    with pytest.raises(InputError, match="two families call themselves 'own'"):
        load_experiment(path)


def test_a_file_that_has_moved_is_asked_for(folder: Path) -> None:
    path = folder / "sweep.yaml"
    path.write_text("name: e\nfamilies: [own]\nplugins: {families: {own: /gone/own.py:Own}}\n")
    with pytest.raises(InputError, match=r"plugins\.families\.own=FILE\.py:Own"):
        load_experiment(path)
    assert load_experiment(path, ["plugins.families.own=own.py:Own"]).families == ("own",)


def test_reading_results_loads_no_code(folder: Path) -> None:
    path = folder / "sweep.yaml"
    path.write_text(
        "name: e\nfamilies: [gnn, own]\nmodels: {own: {config: {anything: 3}}}\n"
        "plugins: {families: {own: /gone/own.py:Own}}\n"
    )
    experiment = load_experiment(path, loads_code=False)
    assert experiment.model_names == ("lexical", "gnn", "own")
    assert experiment.identity["models"]["own"]["config"] == {"anything": 3}
    assert builds_on("own") == ()


@pytest.mark.parametrize("reference", ["own.py:Own", "{folder}/own.py:Own", "own_module:Own"])
def test_the_folder_of_a_sweep_brings_no_code(
    folder: Path, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is given a sweep may go on with it without running what lies beside it."""
    (folder / "records").mkdir()
    ran = folder / "ran"
    for name in ("own.py", "own_module.py"):
        (folder / name).write_text(f"open({str(ran)!r}, 'w')\n{FAMILY}")
    monkeypatch.syspath_prepend(str(folder))
    reference = reference.format(folder=folder)
    path = folder / "sweep.yaml"
    path.write_text(f"name: e\nfamilies: [own]\nplugins: {{families: {{own: '{reference}'}}}}\n")
    with pytest.raises(InputError, match="code is never loaded from one"):
        load_experiment(path)
    assert not ran.exists()


@pytest.mark.parametrize("reference", ["outputs.evil.code:Own", "outputs.evil:Own", "own.py:Own"])
def test_a_sweep_to_go_on_with_brings_no_code_whatever_its_folder_lacks(
    folder: Path, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who passes a folder on decides what it holds, and a package may begin above it."""
    there, ran = folder / "outputs" / "evil", folder / "ran"
    there.mkdir(parents=True)
    for name in ("own.py", "code.py", "__init__.py"):
        (there / name).write_text(f"open({str(ran)!r}, 'w')\n{FAMILY}")
    monkeypatch.syspath_prepend(str(folder))
    (there / "sweep.yaml").write_text(
        f"name: evil\nfamilies: [own]\nplugins: {{families: {{own: '{reference}'}}}}\n"
    )
    write_format(SweepFolder(there))
    with pytest.raises(InputError, match="code is never loaded from one"):
        resumed("outputs/evil")
    assert not ran.exists()


def test_only_the_families_of_a_file_have_its_version() -> None:
    plug_in("own.py:Own")
    version = family_code_version("own")
    assert version.startswith(f"{code_version()}+")
    assert family_code_version("gnn") == code_version()
    Path("own.py").write_text(f'"""Explained."""\n# more\n{FAMILY}')
    plug_in("own.py:Own")
    assert family_code_version("own") == version, "a comment decides nothing"
    Path("own.py").write_text(FAMILY.replace("= 8", "= 9"))
    plug_in("own.py:Own")
    assert family_code_version("own") != version
    assert family_code_version("gnn") == code_version()


def test_the_version_of_a_module_is_that_of_what_it_imports_of_its_package(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = package(folder, monkeypatch, "versioned")

    def version() -> str:
        return Plugin.of("versioned.lstm:Own").version

    before = version()
    (there / "other.py").write_text("NUMBER = 2\n")
    assert version() == before
    (there / "layers.py").write_text("WIDTH = 9\n")
    assert version() != before


def test_a_module_that_is_edited_after_it_was_loaded_is_not_taken_for_what_it_became(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a process has loaded is what it trains, and what its records must name."""
    there = package(folder, monkeypatch, "edited")
    plug_in("edited.lstm:Own")
    loaded, driver = family_code_version("own"), OwnCode.of(["own"])
    (there / "layers.py").write_text("WIDTH = 9\n")
    assert family_code_version("own") == loaded
    with pytest.raises(InputError, match="has changed since this process loaded it"):
        plug_in("edited.lstm:Own")
    for name in [name for name in sys.modules if name.startswith("edited")]:
        monkeypatch.delitem(sys.modules, name)  # a worker that starts now
    with pytest.raises(InputError, match="is not that of the process"):
        pickle.loads(pickle.dumps(driver)).plug_in()


def test_a_family_that_builds_on_one_from_outside_has_its_version(folder: Path) -> None:
    plug_in("own.py:Own")
    above = FAMILY.replace('"own"', '"above"').replace("Config =", 'branches = ("own",); Config =')
    (folder / "above.py").write_text(above)
    plug_in("above.py:Own")
    before = family_code_version("above")
    (folder / "own.py").write_text(FAMILY.replace("= 8", "= 9"))
    plug_in("own.py:Own")
    assert family_code_version("above") != before
    assert [one.place for one in FAMILIES.plugged_in(["above"])] == [
        str(folder / "above.py"), str(folder / "own.py"),
    ]  # fmt: skip


def test_another_process_has_a_file_by_what_it_holds(folder: Path) -> None:
    plug_in("own.py:Own")
    taken_along = FAMILIES.plugged_in(["own"])
    (folder / "own.py").unlink()
    there = FamilyTable()
    for plugin in taken_along:
        there.plug_in(plugin)
    assert there["own"].name == "own"
