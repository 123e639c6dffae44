"""What a sweep would stumble over is said before it begins, by the dry run and preflight alike."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sg_ray.cli import main
from sg_ray.code_version import code_version
from sg_ray.config import load_experiment
from sg_ray.configuration import Configuration
from sg_ray.preflight.context import Context
from sg_ray.preflight.inputs import check_branches, check_data, check_pretrained
from sg_ray.preflight.plan import check_records, check_seeds, check_sweep_folder
from sg_ray.records.begin import begin
from sg_ray.records.record import RunRecord, write_record

SETTINGS = """
name: v
data: {path: d}
families: [transformer, gnn]
lr_range: {enabled: false}
search: {num_trials: 2}
replicate: {top_k: 1, seeds: [42, 7]}
tracking: {enabled: false}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with an experiment and its data."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.yaml").write_text(SETTINGS)
    write_data({"train": [0, 1] * 30, "valid": [0, 1] * 10})
    return tmp_path


def write_data(labels: dict[str, list[int]]) -> None:
    Path("d").mkdir(exist_ok=True)
    for split, of_split in labels.items():
        rows = [
            {"func": f"int {split}{i ^ (i // 2 % 2)}(int a) {{ return a; }}", "target": label}
            for i, label in enumerate(of_split)
        ]
        Path(f"d/{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def one_class_in_valid() -> None:
    write_data({"valid": [0] * 20})


def one_class_in_train() -> None:
    write_data({"train": [1] * 60})


def no_data() -> None:
    shutil.rmtree("d")


def a_split_is_missing() -> None:
    Path("d/valid.jsonl").unlink()


def a_row_is_cut() -> None:
    Path("d/train.jsonl").write_text('{"func": "int f')


def begun_with_other_settings() -> None:
    begin(load_experiment(Path("e.yaml"), ["search.num_trials=9"]))


def an_empty_encoder_folder() -> None:
    Path("encoder").mkdir()


def a_damaged_record() -> None:
    begin(load_experiment(Path("e.yaml")))
    Path("outputs/v/records").mkdir()
    Path("outputs/v/records/a.json").write_text("{}")


def a_file_where_the_folder_would_be() -> None:
    Path("outputs").mkdir()
    Path("outputs/v").touch()


def a_link_that_leads_nowhere() -> None:
    Path("outputs").mkdir()
    Path("outputs/v").symlink_to("nowhere")


def nothing() -> None:
    """The command line alone is wrong."""


REFUSED: list[tuple[Callable[[], None], list[str], str]] = [
    (one_class_in_valid, [], "objective: val_roc_auc has no value"),
    (one_class_in_valid, [], "Use val_loss"),
    (one_class_in_train, [], "every target in train is 1"),
    (no_data, [], "data.path: d does not exist"),
    (a_split_is_missing, [], "d has no valid split"),
    (a_row_is_cut, [], "train.jsonl, line 1: not JSON"),
    (begun_with_other_settings, [], "search.num_trials: 9 before, 2 now"),
    (
        an_empty_encoder_folder,
        ["models.transformer.config.pretrained=./encoder"],
        "./encoder lacks",
    ),
    (nothing, ["models.transformer.config.pretrained=./nowhere"], "./nowhere does not exist"),
    (nothing, ["models.gnn.space=nowhere.yaml"], "nowhere.yaml does not exist"),
    (nothing, ["families=[fusion]"], "fusion builds on transformer and gnn"),
    (nothing, ["families=[fusion]", "branches_from=d"], "holds no trained transformer"),
    (nothing, ["name=a/b"], "name: "),
    (nothing, ["output_dir=e.yaml"], "cannot be written"),
    (a_file_where_the_folder_would_be, [], "outputs/v cannot be written (Not a directory)"),
    (a_link_that_leads_nowhere, [], "outputs/v cannot be written (No such file or directory)"),
    (nothing, ["lr_range={cache_dir: e.yaml}"], "lr_range.cache_dir: "),
    (a_damaged_record, [], "a.json: not a valid run record"),
]


@pytest.mark.parametrize(
    ("spoil", "settings", "message"),
    REFUSED,
    ids=[f"{spoil.__name__}-{message}" for spoil, _, message in REFUSED],
)
def test_case_32_sweep_and_dry_run_refuse_alike_and_begin_nothing(
    folder: Path,
    spoil: Callable[[], None],
    settings: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start_ray(*_: object, **__: object) -> None:
        pytest.fail("Ray was started")

    monkeypatch.setattr("ray.init", start_ray)
    spoil()
    before = sorted(folder.rglob("*"))
    for dry in ([], ["--dry-run"]):
        assert main(["sweep", "e.yaml", *settings, *dry]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert message in said
        assert sorted(folder.rglob("*")) == before


def test_case_32_with_another_objective_the_data_are_accepted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one_class_in_valid()
    assert main(["sweep", "e.yaml", "objective=val_loss", "--dry-run"]) == 0
    assert "in all" in capsys.readouterr().out


def test_preflight_asks_the_same(folder: Path) -> None:
    one_class_in_valid()
    context = Context(load_experiment(Path("e.yaml")), folder)
    with pytest.raises(Exception, match="Use val_loss"):
        check_data(context)
    a_damaged_record()
    with pytest.raises(Exception, match="not a valid run record"):
        check_sweep_folder(context)
    nowhere = ["models.transformer.config.pretrained=./nowhere"]
    with pytest.raises(Exception, match=r"\./nowhere does not exist"):
        check_pretrained(Context(load_experiment(Path("e.yaml"), nowhere), folder))
    fusion = ["families=[fusion]", "branches_from=d"]
    with pytest.raises(Exception, match="holds no trained transformer"):
        check_branches(Context(load_experiment(Path("e.yaml"), fusion), folder))
    assert check_seeds(context).status == "warn"


def test_seeds_that_cannot_decide_are_told_by_the_dry_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["sweep", "e.yaml", "--dry-run"]) == 0
    assert "a difference at p <= 0.05 takes at least" in capsys.readouterr().out


def record_of(fingerprint: str, version: str) -> RunRecord:
    return RunRecord(
        trial_key="k",
        stage="search",
        configuration=Configuration(model="gnn", family="gnn", values={}),
        config_hash="c",
        seed=42,
        status="completed",
        objective="val_roc_auc",
        metrics={},
        best_epoch=None,
        epochs=0,
        history=[],
        branches={},
        data_fingerprint=fingerprint,
        code_version=version,
        started_at_ms=0,
        finished_at_ms=1,
        train_time_s=3600.0,
        environment={},
    )


@pytest.mark.parametrize(
    ("fingerprint", "version", "why"),
    [
        ("x", code_version(), "other data"),
        (None, "x", "another version of the code"),
        ("x", "x", "other data and another version of the code"),
        (None, code_version(), None),
    ],
)
def test_b08_what_would_be_set_aside_is_said_before(
    folder: Path,
    fingerprint: str | None,
    version: str,
    why: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    experiment = load_experiment(Path("e.yaml"))
    begin(experiment)
    own = Context(experiment, folder).data.fingerprint
    write_record(experiment.folder, record_of(fingerprint or own, version))
    for command in (["sweep", "--resume", "v"], ["extend", "v", "seeds=[3]"]):
        assert main([*command, "--dry-run"]) == 0
        said = capsys.readouterr().out
        assert ("were made with" in said) == (why is not None)
        if why is not None:
            assert f"1 trials on record (1:00:00 of training) were made with {why}. --anew" in said
    assert check_records(Context(experiment, folder)).status == ("ok" if why is None else "warn")
    assert (experiment.folder.path / "records/k.json").exists(), "nothing is moved by asking"
