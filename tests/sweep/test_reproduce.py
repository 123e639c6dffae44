"""``sg-ray reproduce`` on the records of a real sweep and of real trainings."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_sweep import read_json_records, tiny_experiment, write_experiment

from sg_ray.cli import main
from sg_ray.sweep.execute.inline_executor import InlineExecutor
from sg_ray.sweep.run import run_sweep

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished sweep with one trial of each family."""
    experiment = tiny_experiment(
        tmp_path_factory.mktemp("reproduced"),
        families=["transformer", "gnn", "fusion"],
        search={"num_trials": 1},
        replicate={"top_k": 1, "seeds": [42]},
    )
    assert run_sweep(experiment, executor=InlineExecutor()).problems == []
    return experiment.folder.path


def record_of(sweep_dir: Path, family: str) -> dict[str, Any]:
    (record,) = [r for r in read_json_records(sweep_dir) if r["configuration"]["model"] == family]
    return record


@pytest.fixture
def edited(swept: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return the path of a record in a copy of the sweep, after an edit by hand."""

    def edit(family: str, change: Callable[[dict[str, Any]], None]) -> Path:
        copy = shutil.copytree(swept, tmp_path / "copy")
        record = record_of(copy, family)
        change(record)
        path = copy / "records" / f"{record['trial_key']}.json"
        path.write_text(json.dumps(record))
        return path

    return edit


@pytest.mark.parametrize("family", ["lexical", "transformer", "gnn", "fusion"])
def test_every_family_gives_the_same_bits_again(swept: Path, capsys: Capture, family: str) -> None:
    record = record_of(swept, family)
    assert main(["reproduce", f"{swept}:{record['trial_key'][:8]}"]) == 0
    printed = capsys.readouterr().out
    timed = {"epoch", "epoch_time_s", "samples_per_s"}
    num_metrics = len(record["history"][0].keys() - timed)
    epochs = f"{record['epochs']} epoch{'' if record['epochs'] == 1 else 's'}"
    assert printed.endswith(f"bit-identical: {num_metrics} metrics x {epochs}\n")
    assert printed.count("epoch ") >= record["epochs"]
    assert printed.isascii()
    assert "warning" not in printed


def test_a_metric_that_differs_is_named_with_its_epoch(
    edited: Callable[..., Path], capsys: Capture
) -> None:
    def change(record: dict[str, Any]) -> None:
        record["history"][1]["val_f1"] += 0.25

    assert main(["reproduce", str(edited("gnn", change))]) == 1
    printed = capsys.readouterr().out
    assert "differs: 1 of 13 metrics, most val_f1 by 0.25 in epoch 2\n" in printed
    assert "code, versions and hardware are those of the record" in printed


def test_the_metrics_that_are_ranked_by_are_compared_too(
    edited: Callable[..., Path], capsys: Capture
) -> None:
    def change(record: dict[str, Any]) -> None:
        best = record["history"][record["best_epoch"] - 1]
        best["val_roc_auc"] = record["metrics"]["val_roc_auc"] = 0.99

    assert main(["reproduce", str(edited("gnn", change))]) == 1
    assert "most val_roc_auc by" in capsys.readouterr().out


def test_other_code_and_versions_are_told(edited: Callable[..., Path], capsys: Capture) -> None:
    def change(record: dict[str, Any]) -> None:
        record["code_version"] = "000000000000"
        record["environment"]["torch"] = "1.0"
        record["history"][0]["train_loss"] = 9.0

    assert main(["reproduce", str(edited("gnn", change))]) == 1
    printed = capsys.readouterr().out
    assert "warning: the code that decides the numbers is" in printed
    assert "code_version: 000000000000 then, " in printed
    assert "torch: 1.0 then, 2." in printed
    assert "python: " not in printed


def test_a_pruned_trial_stops_where_it_was_given_up(
    edited: Callable[..., Path], tmp_path: Path, capsys: Capture
) -> None:
    def prune(record: dict[str, Any]) -> None:
        record.update(status="pruned", epochs=1, history=record["history"][:1])
        best = {k: v for k, v in record["history"][0].items() if k != "epoch"}
        record.update(best_epoch=1, metrics=best)

    path = str(edited("gnn", prune))
    assert main(["reproduce", path, "--output-dir", str(tmp_path / "again")]) == 0
    assert capsys.readouterr().out.endswith("bit-identical: 13 metrics x 1 epoch\n")
    assert len((tmp_path / "again" / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(("kind", "code"), [("InputError", 0), ("TrainingError", 1)])
def test_a_failure_is_reproduced_if_it_is_of_the_same_kind(
    edited: Callable[..., Path], capsys: Capture, kind: str, code: int
) -> None:
    def fail(record: dict[str, Any]) -> None:
        record["configuration"]["values"]["precision"] = "fp16"
        failure = {"kind": kind, "message": "as it was", "traceback": "somewhere"}
        record.update(status="failed", failure=failure, epochs=0, history=[], environment={})
        record.update(metrics={}, best_epoch=None)

    assert main(["reproduce", str(edited("gnn", fail))]) == code
    printed = capsys.readouterr().out
    assert f"failed then with {kind}: as it was" in printed
    assert "failed now with InputError: " in printed
    assert ("differs: " in printed) == bool(code)


def test_a_recorded_success_that_fails_now_is_a_difference(
    edited: Callable[..., Path], capsys: Capture
) -> None:
    def diverge(record: dict[str, Any]) -> None:
        record["configuration"]["values"].update(
            learning_rate=10.0, gradient_clip_norm=1e30, weight_decay=1e3
        )

    assert main(["reproduce", str(edited("gnn", diverge))]) == 1
    captured = capsys.readouterr()
    assert "completed then, failed with Diverged now" in captured.out
    assert "Traceback" in captured.err


def test_what_a_recorded_success_lacks_now_is_bad_input(
    edited: Callable[..., Path], capsys: Capture
) -> None:
    def change(record: dict[str, Any]) -> None:
        record["configuration"]["values"]["precision"] = "fp16"

    assert main(["reproduce", str(edited("gnn", change))]) == 2
    assert "error: " in capsys.readouterr().err


def test_other_data_are_refused_with_both_fingerprints(
    swept: Path, tmp_path: Path, capsys: Capture
) -> None:
    record = record_of(swept, "gnn")
    path = f"{swept}/records/{record['trial_key']}.json"
    again = tmp_path / "again"
    assert main(["reproduce", path, "data.num_samples=260", "--output-dir", str(again)]) == 2
    assert not again.exists()
    message = capsys.readouterr().err
    assert f"was trained on {record['data_fingerprint']}, " in message
    assert "data.path=DIR" in message


BAD = {
    "nothing there": (["nowhere.json"], "nowhere.json: no such record"),
    "several": (["{sweep}"], "holds 4 such records"),
    "no such key": (["{sweep}:zzz"], "holds no record of a trial zzz"),
    "no records": (["{sweep}/trials"], "holds no records"),
    "broken": (["{tmp}/records/broken.json"], "not a valid run record"),
    "not a record": (["{tmp}/records/list.json"], "not a valid run record"),
    "no experiment": (["{tmp}/records/{key}.json"], "holds neither sweep.yaml nor experiment"),
    "not ours to set": (["{sweep}:{key}", "objective=val_f1"], "the record decides the rest"),
    "config": (["{sweep}:{key}", "models.gnn.config.epochs=9"], "models.MODEL.resources"),
    "no key=value": (["{sweep}:{key}", "quick.yaml"], "quick.yaml: is no part of"),
    "occupied": (["{sweep}:{key}", "--output-dir", "{sweep}"], "is not an empty folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_reproduced_is_named(
    swept: Path, tmp_path: Path, capsys: Capture, case: str
) -> None:
    key = record_of(swept, "gnn")["trial_key"]
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "broken.json").write_text('{"trial_key": ')
    (tmp_path / "records" / "list.json").write_text("[1]")
    shutil.copy(swept / "records" / f"{key}.json", tmp_path / "records")
    arguments, message = BAD[case]
    filled = [text.format(sweep=swept, tmp=tmp_path, key=key) for text in arguments]
    assert main(["reproduce", *filled]) == 2
    assert message in capsys.readouterr().err


def test_a_branch_that_has_moved_is_found_where_it_is_named(
    swept: Path, tmp_path: Path, capsys: Capture
) -> None:
    record = record_of(swept, "fusion")
    for name in ("sweep.yaml", "format.json", f"records/{record['trial_key']}.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(swept / name, tmp_path / name)
    arguments = ["reproduce", str(tmp_path)]
    assert main(arguments) == 2
    assert "builds on " in capsys.readouterr().err
    assert main([*arguments, f"branches_from={swept.parent}"]) == 0


def test_lost_weights_of_a_branch_are_named(edited: Callable[..., Path], capsys: Capture) -> None:
    path = edited("fusion", lambda record: None)
    key = record_of(path.parents[1], "gnn")["trial_key"]
    (path.parents[1] / "trials" / key / "best_model.pt").unlink()
    assert main(["reproduce", str(path)]) == 2
    assert "the weights of the gnn branch" in capsys.readouterr().err


def test_trainings_without_a_sweep_are_reproduced(tmp_path: Path, capsys: Capture) -> None:
    experiment, trained = str(write_experiment(tmp_path)), tmp_path / "trained"
    for family in ("transformer", "gnn", "fusion"):
        given = [f"branches_from={trained}"] if family == "fusion" else []
        folder = ["--output-dir", str(trained / family)]
        assert main(["train", family, experiment, *given, *folder]) == 0
    before = sorted(tmp_path.rglob("*"))
    assert main(["reproduce", str(trained / "fusion")]) == 0
    assert "bit-identical: 13 metrics x 2 epochs" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_trial_of_two_workers_is_reproduced_on_two_workers(
    ray_session: None, tmp_path: Path, capsys: Capture
) -> None:
    experiment = write_experiment(tmp_path, resources={"num_workers": 2})
    folder = str(tmp_path / "trained")
    assert main(["train", "gnn", str(experiment), "--output-dir", folder]) == 0
    assert main(["reproduce", folder]) == 0
    assert main(["reproduce", folder, "resources.cpus=4096"]) == 0, "the record says how many"
    assert "bit-identical" in capsys.readouterr().out
