"""After a change of code or data nothing is set aside or trusted unless somebody says so."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sg_ray.cli import main
from sg_ray.cli.sweep import decision
from sg_ray.code_version import code_version
from sg_ray.config import Experiment, LrRangeSettings, load_experiment
from sg_ray.configuration import Configuration
from sg_ray.errors import InputError
from sg_ray.models import families
from sg_ray.models.families import family_code_version
from sg_ray.preflight.context import Context
from sg_ray.prepare.prepare import baselines
from sg_ray.records import lr_cache
from sg_ray.records.begin import begin
from sg_ray.records.changed import Change, find_change, settle
from sg_ray.records.code_versions import CodeVersions
from sg_ray.records.record import RunRecord, read_records, write_record
from sg_ray.sweep.execute.inline_executor import InlineExecutor
from sg_ray.sweep.run import Outcome, run_sweep
from sg_ray.trial.spec import TrialSpec

FLOOR_ALONE = """
name: c
data: {num_samples: 120}
families: [lexical]
replicate: {seeds: [1, 2]}
tracking: {enabled: false}
"""

WITH_OWN = """
name: c
data: {num_samples: 120}
families: [gnn, ./own.py:Own]
lr_range: {enabled: false}
tracking: {enabled: false}
"""

OWN = """
from sg_ray.models.gnn import Gnn, GnnConfig

class Settings(GnnConfig):
    width: int = 8

class Own(Gnn):
    name = "own"
    Config = Settings
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def change_code(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """What makes the package's own code another version."""
    return lambda version: monkeypatch.setattr(families, "code_version", lambda: version)


def floor_alone(*overrides: str) -> Experiment:
    path = Path("c.yaml")
    path.write_text(FLOOR_ALONE)
    return load_experiment(path, overrides)


def change_of(experiment: Experiment) -> Change | None:
    return find_change(experiment.folder, "data", baselines(experiment.all_models))


def swept(*overrides: str, on_change: str = "stop", extends: bool = False) -> Outcome:
    outcome = run_sweep(
        floor_alone(*overrides), executor=InlineExecutor(), on_change=on_change, extends=extends
    )
    assert outcome.problems == []
    return outcome


def made_with(experiment: Experiment) -> dict[int, tuple[str, str | None]]:
    records = read_records(experiment.folder).values()
    return {record.seed: (record.code_version, record.trained_with) for record in records}


def test_records_of_other_code_stay_until_somebody_says(
    change_code: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    swept()
    now = code_version()
    change_code("changed")
    with pytest.raises(InputError, match=r"2 trials on record \(.* the code\. --anew .*--keep"):
        swept()
    command = ["--executor", "inline"]
    for line in (["sweep", "--resume", "c"], ["extend", "c", "seeds=[3]"]):
        assert main([*line, *command]) == 2
        told = capsys.readouterr().err
        assert "--anew" in told
        assert "--keep-records" in told
    assert made_with(floor_alone()) == {1: (now, None), 2: (now, None)}


def test_kept_records_go_on_and_later_ones_say_what_trained_them(
    change_code: Callable[[str], None],
) -> None:
    swept()
    now = code_version()
    change_code("changed")
    assert any("are kept" in note for note in swept(on_change="keep").notes)
    swept("replicate.seeds=[1,2,3]", extends=True)  # it is not asked again
    expected = {1: (now, None), 2: (now, None), 3: (now, "changed")}
    assert made_with(floor_alone()) == expected
    assert len(swept("replicate.seeds=[1,2,3]").rows[0].seeds) == 3
    change_code("changed once more")
    with pytest.raises(InputError, match="3 trials on record"):
        swept("replicate.seeds=[1,2,3]")


def test_anew_sets_aside_and_trains_again(change_code: Callable[[str], None]) -> None:
    swept()
    change_code("changed")
    assert any("set_aside/001" in note for note in swept(on_change="anew").notes)
    assert made_with(floor_alone()) == {1: ("changed", None), 2: ("changed", None)}
    aside = floor_alone().folder.set_aside / "001"
    assert len(list((aside / "records").glob("*.json"))) == 2
    assert (aside / "best").is_dir()


def test_anew_ends_what_was_kept(change_code: Callable[[str], None]) -> None:
    experiment = floor_alone()
    begin(experiment)
    for version, on_change in (("a", None), ("b", "keep"), ("c", "anew")):
        change_code(version)
        if on_change:
            settle(change_of(experiment), on_change)
        write_record(experiment.folder, record_of("lexical", f"of-{version}"))
    change_code("b")
    assert CodeVersions.of(experiment.folder).of_family("lexical") == "b"
    change = change_of(experiment)
    assert change is not None
    assert [record.trial_key for record in change.records] == ["of-c"]


def test_anew_trains_again_what_was_kept_before(change_code: Callable[[str], None]) -> None:
    swept()
    change_code("b")
    swept(on_change="keep")
    swept("replicate.seeds=[1,2,3]", extends=True)
    assert main(["sweep", "--resume", "c", "--executor", "inline", "--anew"]) == 0
    assert made_with(floor_alone()) == dict.fromkeys((1, 2, 3), ("b", None))


def test_records_of_other_data_are_never_kept(change_code: Callable[[str], None]) -> None:
    experiment = floor_alone()
    begin(experiment)
    write_record(experiment.folder, record_of("lexical", "a", data="other"))
    change = change_of(experiment)
    assert change is not None
    with pytest.raises(InputError, match="With other data their numbers are not to be compared"):
        settle(change, "keep")
    assert "--keep-records" not in change.ways_on
    assert not experiment.folder.kept_versions.exists()


def record_of(
    model: str,
    key: str,
    *,
    family: str | None = None,
    data: str = "data",
    branches: dict[str, str] | None = None,
) -> RunRecord:
    return RunRecord(
        trial_key=key,
        stage="search",
        configuration=Configuration(model=model, family=family or model, values={}),
        config_hash="c",
        seed=42,
        status="completed",
        objective="val_roc_auc",
        metrics={},
        best_epoch=None,
        epochs=0,
        history=[],
        branches=branches or {},
        data_fingerprint=data,
        code_version=family_code_version(family or model),
        started_at_ms=0,
        finished_at_ms=1,
        train_time_s=3600.0,
        environment={},
    )


def test_a_change_of_ones_own_file_concerns_its_own_records(folder: Path) -> None:
    (folder / "own.py").write_text(OWN)
    path = folder / "c.yaml"
    path.write_text(WITH_OWN)
    experiment = load_experiment(path)
    begin(experiment)
    there = experiment.folder
    write_record(there, record_of("gnn", "g"))
    write_record(there, record_of("own", "o"))
    write_record(there, record_of("fusion", "f", branches={"own": "o"}))
    for model in ("gnn", "own"):
        for place in (there.search(model), there.range_test(model), there.best / model / "x"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    assert change_of(experiment) is None
    (folder / "own.py").write_text(f"# explained\n{OWN}")
    assert change_of(load_experiment(path)) is None, "a comment decides nothing"

    (folder / "own.py").write_text(OWN.replace("= 8", "= 9"))
    change = change_of(load_experiment(path))
    assert change is not None
    assert change.told.startswith("2 trials on record (2:00:00 of training)")
    assert {record.model for record in change.records} == {"own", "fusion"}
    settle(change, "anew")
    assert list(read_records(there)) == ["g"]
    assert [p.name for p in there.search_journals] == ["gnn.journal"]
    assert [p.name for p in there.best.iterdir()] == ["gnn"]
    aside = there.set_aside / "001"
    assert {p.stem for p in (aside / "records").iterdir()} == {"o", "f"}
    assert (aside / "best" / "own" / "x").exists()


@pytest.mark.parametrize(
    ("answer", "outcome"), [("keep", "keep"), (" Anew ", "anew"), ("", "stop"), ("x", "stop")]
)
def test_a_terminal_is_asked(
    folder: Path,
    answer: str,
    outcome: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = record_of("gnn", "g")
    change = Change(floor_alone().folder, {"another version of the code": [record]}, [record])
    arguments = argparse.Namespace(on_change=None)
    assert decision(arguments)(change) == "stop", "nobody is there to answer"
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    assert decision(arguments)(change) == outcome
    assert "1 trials on record (1:00:00 of training)" in capsys.readouterr().out


def test_the_dry_run_and_preflight_tell_what_a_start_would_ask(
    change_code: Callable[[str], None], capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    swept()
    change_code("changed")
    assert main(["sweep", "--resume", "c", "--dry-run"]) == 0
    assert "another version of the code. --anew moves them" in capsys.readouterr().out
    from sg_ray.preflight.plan import check_records

    assert check_records(Context(floor_alone(), folder)).status == "warn"


def test_what_was_kept_is_read_back(folder: Path) -> None:
    experiment = floor_alone()
    experiment.folder.path.mkdir(parents=True)
    CodeVersions().keeping({"gnn": "before"}).write(experiment.folder)
    read = CodeVersions.of(experiment.folder)
    assert read.of_family("gnn") == "before"
    assert read.of_family("transformer") == code_version()
    experiment.folder.kept_versions.write_text("{")
    with pytest.raises(InputError, match=r"kept_versions\.json"):
        CodeVersions.of(experiment.folder)


def test_what_builds_on_a_model_is_told_by_the_trials_it_built_on() -> None:
    """A branch is asked for by its family, and may have another name."""
    experiment = floor_alone()
    begin(experiment)
    there = experiment.folder
    write_record(there, record_of("big", "b", family="gnn", data="other"))
    write_record(there, record_of("gnn", "g"))
    write_record(there, record_of("on_big", "ob", family="fusion", branches={"gnn": "b"}))
    write_record(there, record_of("on_gnn", "og", family="fusion", branches={"gnn": "g"}))
    change = change_of(experiment)
    assert change is not None
    assert {record.trial_key for record in change.records} == {"b", "ob"}


def test_a_kill_while_records_are_set_aside_leaves_none_without_its_branch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What builds on a branch is foreign by it alone: on record without it, it would count."""
    experiment = floor_alone()
    begin(experiment)
    there = experiment.folder
    write_record(there, record_of("transformer", "other"))
    write_record(there, record_of("gnn", "branch", data="other"))
    write_record(there, record_of("fusion", "later", branches={"gnn": "branch"}))
    change = change_of(experiment)
    assert change is not None
    rename = Path.rename

    def killed_after_one(path: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", lambda *_: sys.exit("killed"))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", killed_after_one)
    with pytest.raises(SystemExit):
        settle(change, "anew")
    assert set(read_records(there)) == {"branch", "other"}


def test_a_range_test_by_other_code_is_another(tmp_path: Path) -> None:
    """Where records are kept, what the code of now finds is not filed as that of before."""
    settings = LrRangeSettings(cache_dir=tmp_path / "tests")
    configuration = Configuration(model="gnn", family="gnn", values={})
    spec = TrialSpec(
        configuration=configuration, seed=1, objective="val_f1", data_fingerprint="d",
        code_version="c",
    )  # fmt: skip
    lr_cache.write(settings, spec, {"suggestion": 0.1, "reason": None, "curves": []})
    assert lr_cache.read(settings, spec) is not None
    other = spec.model_copy(update={"trained_with": "another"})
    assert other.trial_key == spec.trial_key
    assert lr_cache.read(settings, other) is None
